"""Files that the user drops on the page to tokens, and tokens to files that the user keeps."""

from __future__ import annotations

import base64
import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from igpt_tf.errors import Notice, UserError
from igpt_tf.pictures.crop import resize_and_crop
from igpt_tf.pictures.figures import film, in_rows
from igpt_tf.pictures.imaging import read_with_alpha, read_with_size
from igpt_tf.pictures.photograph import Photograph
from igpt_tf.pictures.writing import encode_gif, encode_png, grid
from igpt_tf.sampling.region import known_by_mask
from igpt_tf.studio.drawer import Drawer

# Pixels of a picture: a file of a few kilobytes may claim to have more than fit into memory.
MOST_PIXELS = 100_000_000
# Longer side of the picture that the page shows beside the model's.
PREVIEW = 640
# Pictures take much memory while they are decoded: one at a time.
_decoding = threading.Lock()

Crop = tuple[int, int, int]


def open_picture(data: bytes, model: Drawer, crop: Crop | None) -> dict[str, Any]:
    """What the model sees of a picture's file.

    Args:
        data: the file.
        model: of whose size and colours it becomes.
        crop: left, top and side of a square in the picture's pixels; None: the central square.

    Returns:
        "tokens" (T,), "width" and "height" of the picture, the "crop", and a "preview" as a data address.

    Raises:
        UserError: if it cannot be read, or the square is not inside the picture.
    """
    with _decoding, _of_a_file():
        picture, (width, height) = read_with_size(data, MOST_PIXELS)
    central = Photograph("", width, height)
    left, top, side = crop or (central.left, central.top, central.side)
    if side < 1 or min(left, top) < 0 or left + side > width or top + side > height:
        raise UserError(f"expected a crop inside {width} x {height} pixels, got {side} x {side} at {left}, {top}")
    square = picture
    if (left, top, side) != (central.left, central.top, central.side):
        # A very large picture is read at a fraction of its size.
        scale = picture.shape[1] / width
        first, start, length = (round(scale * number) for number in (top, left, side))
        square = picture[first : first + max(1, length), start : start + max(1, length)]
    return {
        "tokens": model.quantize(resize_and_crop(square, model.n_px)).tolist(),
        "width": width,
        "height": height,
        "crop": [left, top, side],
        "preview": _preview(picture),
    }


def open_mask(data: bytes, n_px: int) -> dict[str, Any]:
    """The tokens that a mask's file leaves as they are, "known" (T,) of 0 and 1, and a "notice" of how it was read.

    Args:
        data: the file.
        n_px: side of the model's images.

    Raises:
        UserError: if it is no mask.
    """
    with _decoding, _of_a_file(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        known = known_by_mask(read_with_alpha(data, MOST_PIXELS), n_px)
    return {"known": known.astype(int).tolist(), "notice": "; ".join(str(one.message) for one in caught)}


def png_of(model: Drawer, images: np.ndarray, scale: int) -> bytes:
    """A PNG file of an image, or of the grid of several.

    Args:
        model: whose colours they have.
        images: (N, T) tokens.
        scale: every pixel becomes scale x scale.
    """
    pictures = model.pictures(images)
    if len(pictures) == 1:
        return encode_png(pictures[0], scale)
    return encode_png(grid(in_rows(pictures, _columns(len(pictures))), scale=scale))


def gif_of(model: Drawer, images: np.ndarray, known: np.ndarray, scale: int) -> bytes:
    """A GIF file that shows images being drawn, pixel by pixel.

    Args:
        model: whose colours they have.
        images: (N, T) tokens.
        known: (T,) booleans of the tokens that were given.
        scale: every pixel becomes scale x scale.
    """
    layout = in_rows(range(len(images)), _columns(len(images)))
    return encode_gif(film(model.pictures(images), known, layout), scale=scale)


def mask_png(known: np.ndarray) -> bytes:
    """A PNG file of a mask, white where pixels are drawn.

    Args:
        known: (T,) booleans.
    """
    side = round(len(known) ** 0.5)
    return encode_png(np.where(known, np.uint8(0), np.uint8(255)).reshape(side, side))


@contextlib.contextmanager
def _of_a_file() -> Iterator[None]:
    """Messages of errors without the name that bytes have there."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).removeprefix("the bytes given as an image: ")) from error


def _columns(n: int) -> int:
    return n if n < 4 else -(-n // 2) if n < 9 else 4


def _preview(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((PREVIEW, PREVIEW))
    file = io.BytesIO()
    kind = "PNG" if max(image.size) < PREVIEW else "JPEG"
    image.save(file, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
