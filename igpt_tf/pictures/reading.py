"""Pictures that are named: files, folders and web addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.pictures.crop import resize_and_crop
from igpt_tf.pictures.imaging import find_images, read_image


def read_pictures(sources: Iterable[str], n_px: int, read_url: Callable[[str], bytes]) -> tuple[list[str], np.ndarray]:
    """The path or address of each picture, and the pictures (N, n_px, n_px, 3) uint8.

    Args:
        sources: files, folders and http(s) addresses.
        n_px: side of the pictures, to which they are resized and cropped.
        read_url: returns the bytes at an address.

    Raises:
        UserError: if a source is missing or no picture.
    """
    paths = find_pictures(sources)
    return paths, np.stack([resize_and_crop(read_picture(path, read_url), n_px) for path in paths])


def find_pictures(sources: Iterable[str]) -> list[str]:
    """The path or address of each picture of files, folders and http(s) addresses."""
    paths: list[str] = []
    for source in sources:
        paths += [source] if _is_address(source) else map(str, find_images(source))
    return paths


def read_picture(path: str, read_url: Callable[[str], bytes]) -> np.ndarray:
    """The whole picture (height, width, 3) uint8 at a path or address."""
    if not _is_address(path):
        return read_image(path)
    try:
        return read_image(read_url(path))
    except UserError as error:
        raise error if path in str(error) else UserError(f"{path}: {error}") from error


def names_of(paths: Iterable[str]) -> list[str]:
    """A name for each of `read_pictures`' paths, without its extension; a number makes it unlike those before."""
    taken: dict[str, None] = {}
    for path in paths:
        name = Path(unquote(urlsplit(path).path) if _is_address(path) else path).stem or "picture"
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        taken[free] = None
    return list(taken)


def _is_address(path: str) -> bool:
    return path.lower().startswith(("http://", "https://"))
