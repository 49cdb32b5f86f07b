"""Pictures for users of the library: files to arrays of a model's size and back, grids and GIFs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from igpt_tf.download.http import read_url
from igpt_tf.errors import UserError
from igpt_tf.pictures import writing
from igpt_tf.pictures.figures import in_rows
from igpt_tf.pictures.reading import read_pictures

PathLike = str | os.PathLike[str]


def load_images(paths: PathLike | Iterable[PathLike], n_px: int = 32) -> np.ndarray:
    """Read pictures, resized and cropped to squares: (N, n_px, n_px, 3) uint8.

    Args:
        paths: picture files, folders of them, or http(s) addresses; one or several.
        n_px: height and width, that of the model.

    Raises:
        UserError: if one is missing or no picture.
    """
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not listed:
        raise UserError("expected the path of a picture, got none", "paths")
    return read_pictures([os.fspath(path) for path in listed], n_px, read_url)[1]


def save_images(folder: PathLike, images: Sequence[np.ndarray] | np.ndarray, name: str = "image") -> list[Path]:
    """Write images to PNG files, `image_0.png` and so on; returns their paths.

    Args:
        folder: created if needed; files of these names in it are replaced.
        images: (N, height, width, 3), or grey (N, height, width, 1), uint8.
        name: what the files' names begin with.

    Raises:
        UserError: if an array is no image, or a file cannot be written.
    """
    paths = [Path(folder) / f"{name}_{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        writing.write_png(path, image)
    return paths


def grid(
    images: Sequence[np.ndarray] | np.ndarray, columns: int | None = None, *, pad: int = 2, scale: int = 1
) -> np.ndarray:
    """One picture of several, (height, width, 3) uint8.

    Args:
        images: (N, height, width, 3), or grey (N, height, width, 1), uint8.
        columns: images in each row; None: about as many as rows.
        pad: white pixels around every image.
        scale: how many times every pixel is repeated each way.

    Raises:
        UserError: if there is no image, or they differ in size.
    """
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    if columns < 1:
        raise UserError(f"expected an image and at least 1 column, got {len(images)} images and {columns} columns")
    return writing.grid(in_rows(images, columns), pad, scale)


def save_gif(
    path: PathLike, frames: Sequence[np.ndarray] | np.ndarray, *, duration_ms: int = 100, scale: int = 1
) -> None:
    """Write frames to an animated GIF that loops.

    Args:
        path: the file; an older one is replaced.
        frames: (N, height, width, 3), or grey (N, height, width, 1), uint8.
        duration_ms: how long each frame stays, in milliseconds; the last one stays 2 seconds.
        scale: how many times every pixel is repeated each way.

    Raises:
        UserError: if there is no frame, they differ in size, or the file cannot be written.
    """
    writing.write_gif(path, list(frames), duration_ms, scale=scale)
