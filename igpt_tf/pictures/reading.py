"""Pictures that are named: files, folders and web addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from igpt_tf.errors import SkippedWarning, UserError, listed, skipped
from igpt_tf.pictures.crop import resize_and_crop
from igpt_tf.pictures.imaging import find_images, read_with_size

# Width and height in pixels.
Size = tuple[int, int]


def read_pictures(sources: Sequence[str], n_px: int, read_url: Callable[[str], bytes]) -> tuple[list[str], np.ndarray]:
    """The path or address of each picture, and the pictures (N, n_px, n_px, 3) uint8.

    Args:
        sources: as for `each_picture`.
        n_px: side of the pictures, to which they are resized and cropped.
        read_url: returns the bytes at an address.

    Raises:
        UserError: if none can be read.
    """
    found = [(path, resize_and_crop(picture, n_px)) for path, picture, _ in each_picture(sources, read_url)]
    return [path for path, _ in found], np.stack([square for _, square in found])


def each_picture(sources: Sequence[str], read_url: Callable[[str], bytes]) -> Iterator[tuple[str, np.ndarray, Size]]:
    """Yield the path or address of each picture, the picture (height, width, 3) uint8, and its size in the file.

    Very large pictures are read at a fraction of their size.

    At the end, a warning names those that cannot be read.

    Args:
        sources: files, folders and http(s) addresses.
        read_url: returns the bytes at an address.

    Raises:
        UserError: if none can be read.
    """
    n_read = 0
    problems: list[str] = []
    for source in sources:
        try:
            paths = [source] if _is_address(source) else [str(path) for path in find_images(source)]
        except SkippedWarning:
            raise
        except UserError as error:
            problems.append(str(error))
            continue
        for path in paths:
            try:
                picture, size = read_picture(path, read_url)
            except UserError as error:
                problems.append(str(error))
            else:
                n_read += 1
                yield path, picture, size
    require_some(listed(sources, 2), n_read, problems)


def require_some(name: str, n_read: int, problems: Sequence[str]) -> None:
    """Warn of pictures that cannot be read.

    Args:
        name: what they belong to.
        n_read: how many others were read.
        problems: a line for each that was not.

    Raises:
        UserError: if none was read.
    """
    if not n_read and len(problems) == 1:
        raise UserError(problems[0])
    if not n_read:
        raise UserError(f"{name}: expected images, got {len(problems)} that cannot be read, the first: {problems[0]}")
    skipped(name, n_read + len(problems), "pictures, which cannot be read", problems)


def read_picture(path: str, read_url: Callable[[str], bytes]) -> tuple[np.ndarray, Size]:
    """The picture (height, width, 3) uint8 at a path or address, and its width and height in the file."""
    if not _is_address(path):
        return read_with_size(path)
    try:
        return read_with_size(read_url(path))
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
