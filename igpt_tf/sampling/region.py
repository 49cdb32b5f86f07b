"""Which part of an image is given."""

from __future__ import annotations

import numpy as np

from igpt_tf.errors import UsageError, UserError, whole_number
from igpt_tf.pictures.imaging import resize_and_crop, to_grey

# Of a mask, the least that counts as white.
WHITE = 128


def known_rows(n_px: int, rows: int) -> np.ndarray:
    """The first `rows` rows of an image of n_px x n_px pixels: booleans (T,), True where the token is given.

    Raises:
        UsageError: if `rows` is no whole number from 0 to n_px.
    """
    n_px, rows = whole_number("n_px", n_px, 1), whole_number("rows", rows)
    if not 0 <= rows <= n_px:
        raise UsageError(f"expected 0 to {n_px} known rows, as images are {n_px} pixels high, got {rows}")
    return np.arange(n_px**2) < rows * n_px


def known_outside_box(n_px: int, x: int, y: int, width: int, height: int) -> np.ndarray:
    """All of an image of n_px x n_px pixels but a box, which is to be filled: booleans (T,), True where given.

    Args:
        n_px: side of the image.
        x: columns to the left of the box.
        y: rows above it.
        width: of the box, in the model's pixels.
        height: likewise.

    Raises:
        UsageError: if the box is empty or leaves the image, or a number is not whole.
    """
    n_px, x, y, width, height = (
        whole_number(name, value)
        for name, value in (("n_px", n_px), ("x", x), ("y", y), ("width", width), ("height", height))
    )
    if min(x, y) < 0 or min(width, height) < 1 or x + width > n_px or y + height > n_px:
        raise UsageError(
            f"expected a box x,y,width,height of at least 1 x 1 pixels inside the model's {n_px} x {n_px}, "
            f"got {x},{y},{width},{height}"
        )
    known = np.ones((n_px, n_px), bool)
    known[y : y + height, x : x + width] = False
    return known.reshape(-1)


def known_by_mask(mask: np.ndarray, n_px: int) -> np.ndarray:
    """What a mask leaves as it is, brought to the model's size as a picture is: booleans (T,), True where given.

    Args:
        mask: (height, width), or with 1, 3 or 4 channels, uint8: white (a grey of at least 128) and transparent
            parts are to be filled, black ones are given. Or booleans (height, width), True to be filled. All white
            is a whole image to draw.
        n_px: side of the image; the mask may have any size.

    Raises:
        UserError: if the array is no such mask, or nothing in its central square is white.
    """
    grey = resize_and_crop(_on_white(mask), n_px)[..., 0]
    if grey.max() < WHITE:
        ones = np.max(mask) == 1 and np.asarray(mask).dtype != bool
        raise UserError(
            f"expected a mask with white, {WHITE} and more, where pixels are to be drawn, found {grey.max()} at most "
            f"in its central square at {n_px} x {n_px} pixels: "
            + ("if 1 means white, give mask.astype(bool)" if ones else "paint the part white, or a larger part")
        )
    return (grey < WHITE).reshape(-1)


def is_prefix(known: np.ndarray) -> np.ndarray:
    """Whether each image's known tokens come before all others: booleans (B,) from booleans (B, T)."""
    return (known[:, 1:] <= known[:, :-1]).all(axis=1)


def _on_white(mask: np.ndarray) -> np.ndarray:
    """A mask as a grey picture (height, width, 3) uint8, as the eye would see it on white paper."""
    mask = np.asarray(mask)
    grey = np.where(mask, 255, 0).astype("uint8") if mask.dtype == bool else mask
    grey = grey[..., None] if grey.ndim == 2 else grey
    if grey.dtype != np.uint8 or grey.ndim != 3 or grey.shape[2] not in (1, 3, 4) or not grey.size:
        raise UserError(
            "expected a mask of shape (height, width), or with 1, 3 or 4 channels, uint8, or booleans, "
            f"found {mask.shape} {mask.dtype}"
        )
    if grey.shape[2] == 4:
        alpha = grey[..., 3:].astype("uint16")
        grey = (255 - (255 - grey[..., :3]) * alpha // 255).astype("uint8")
    if grey.shape[2] == 3:
        grey = to_grey(grey[None])[0][..., None]
    return np.broadcast_to(grey, (*grey.shape[:2], 3))
