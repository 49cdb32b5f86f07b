"""uint8 arrays to PNG files, animated GIFs and grids of images."""

# imageio declares no types for its plugins' options.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import cast

import imageio.v3 as iio
import numpy as np
from PIL import Image

from igpt_tf.errors import UserError
from igpt_tf.storage.files import atomic_write


def grid(rows: Sequence[Sequence[np.ndarray | None]], pad: int = 2, scale: int = 1) -> np.ndarray:
    """Lay images of one size out in rows on white.

    Args:
        rows: lists of (height, width, 3) or grey (height, width, 1) uint8 images; None leaves a cell blank, and so
            does a row that is shorter than others at its end.
        pad: white pixels around every cell, not enlarged by `scale`.
        scale: every pixel becomes scale x scale.

    Returns:
        (rows * (scale * height + pad) + pad, columns * (scale * width + pad) + pad, 3) uint8.

    Raises:
        UserError: if there is no image, or they differ in size.
    """
    if scale < 1 or pad < 0:
        raise UserError(f"expected scale of at least 1 and pad of at least 0, got scale={scale}, pad={pad}")
    cells = {
        (i, j): _enlarge(_as_rgb(image), scale)
        for i, row in enumerate(rows)
        for j, image in enumerate(row)
        if image is not None
    }
    sizes = sorted({cell.shape[:2] for cell in cells.values()})
    if len(sizes) != 1:
        found = " and ".join(f"{height // scale} x {width // scale}" for height, width in sizes) or "no image"
        raise UserError(f"expected images of one size for a grid, got {found}: use resize_and_crop first")
    height, width = sizes[0]
    n_columns = max(len(row) for row in rows)
    canvas = np.full((len(rows) * (height + pad) + pad, n_columns * (width + pad) + pad, 3), 255, np.uint8)
    for (i, j), cell in cells.items():
        top, left = pad + i * (height + pad), pad + j * (width + pad)
        canvas[top : top + height, left : left + width] = cell
    return canvas


def write_png(path: str | os.PathLike[str], image: np.ndarray, scale: int = 1) -> None:
    """Write an image to a PNG file, whole or not at all; missing folders are created.

    Args:
        path: where to write it; an older file is replaced.
        image: (height, width, 3), or grey (height, width, 1) or (height, width), uint8.
        scale: every pixel becomes scale x scale.

    Raises:
        UserError: if the array is no such image, or the file cannot be written.
    """
    data = encode_png(image, scale)
    with atomic_write(path) as file:
        file.write(data)


def encode_png(image: np.ndarray, scale: int = 1) -> bytes:
    """The bytes of the file that `write_png` writes.

    Args:
        image: (height, width, 3), or grey (height, width, 1) or (height, width), uint8.
        scale: every pixel becomes scale x scale.

    Raises:
        UserError: if the array is no such image.
    """
    return iio.imwrite("<bytes>", _enlarge(_as_rgb(image), scale), plugin="pillow", extension=".png")


def write_gif(
    path: str | os.PathLike[str],
    frames: Sequence[np.ndarray],
    duration_ms: int = 100,
    hold_ms: int = 2000,
    scale: int = 1,
) -> None:
    """Write frames of one size to an animated GIF that loops, whole or not at all; missing folders are created.

    All frames share one palette of at most 256 colours: exact if they have no more together, else chosen by median
    cut, without dithering, which would flicker.

    Args:
        path: where to write it; an older file is replaced.
        frames: (height, width, 3) or grey (height, width, 1) uint8 images.
        duration_ms: how long each frame stays, in milliseconds; GIF counts in hundredths of a second.
        hold_ms: how long the last frame stays, in milliseconds.
        scale: every pixel becomes scale x scale.

    Raises:
        UserError: if there is no frame, they differ in size, or the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write(encode_gif(frames, duration_ms, hold_ms, scale))


def encode_gif(frames: Sequence[np.ndarray], duration_ms: int = 100, hold_ms: int = 2000, scale: int = 1) -> bytes:
    """The bytes of the file that `write_gif` writes.

    Args:
        frames: (height, width, 3) or grey (height, width, 1) uint8 images.
        duration_ms: how long each frame stays, in milliseconds.
        hold_ms: how long the last frame stays, in milliseconds.
        scale: every pixel becomes scale x scale.

    Raises:
        UserError: if there is no frame, or they differ in size.
    """
    frames = [_as_rgb(frame) for frame in frames]
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) != 1:
        found = " and ".join(f"{height} x {width}" for height, width in sizes) or "no frame"
        raise UserError(f"expected frames of one size for a GIF, got {found}")
    # One tall image of all frames, so that they share one palette.
    tall = Image.fromarray(np.concatenate(frames)).quantize(256, dither=Image.Dither.NONE)
    indices = np.asarray(tall).reshape(len(frames), *sizes[0])
    images = [Image.fromarray(_enlarge(index, scale)) for index in indices]
    # `quantize` has given it a palette.
    palette = cast("list[int]", tall.getpalette())
    for image in images:
        image.putpalette(palette)
    durations = [duration_ms] * (len(images) - 1) + [hold_ms]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=True)
    return file.getvalue()


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """A uint8 image, RGB or grey, as (height, width, 3)."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise UserError(
            f"expected an image of shape (height, width, 3) uint8, or grey with 1 channel, "
            f"got {image.shape} {image.dtype}"
        )
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Repeat every pixel of (height, width, ...) `scale` times both ways."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)
