"""Which pixels of an image are known."""

from __future__ import annotations

import warnings

import numpy as np

from igpt_tf.errors import Notice, UsageError, UserError, whole_number
from igpt_tf.pictures.crop import resize_and_crop
from igpt_tf.pictures.imaging import to_grey

# The least grey of a mask that counts as white, and the least opacity that counts as painted.
WHITE = 128
# Of the painted pixels of a mask that has only white, or only black, as many at least are so.
MOSTLY = 0.98


def known_rows(n_px: int, rows: int) -> np.ndarray:
    """The first rows of an image are known: booleans (T,).

    Args:
        n_px: side of the image in pixels.
        rows: how many rows are known.

    Raises:
        UsageError: if `rows` is no whole number from 0 to n_px.
    """
    n_px, rows = whole_number("n_px", n_px, 1), whole_number("rows", rows)
    if not 0 <= rows <= n_px:
        raise UsageError(f"expected `rows` from 0 to {n_px}, as images are {n_px} pixels high, got {rows}")
    return np.arange(n_px**2) < rows * n_px


def known_outside_box(n_px: int, x: int, y: int, width: int, height: int) -> np.ndarray:
    """All of an image but a box is known: booleans (T,).

    Args:
        n_px: side of the image in pixels.
        x: columns to the left of the box.
        y: rows above the box.
        width: width of the box in pixels.
        height: height of the box in pixels.

    Raises:
        UsageError: if the box is empty or leaves the image, or a number is not whole.
    """
    box = {"x": x, "y": y, "width": width, "height": height}
    n_px, x, y, width, height = (whole_number(name, value) for name, value in ({"n_px": n_px} | box).items())
    if min(x, y) < 0 or min(width, height) < 1 or x + width > n_px or y + height > n_px:
        raise UsageError(
            f"expected a box x,y,width,height of at least 1 x 1 pixels inside the model's {n_px} x {n_px}, "
            f"got {x},{y},{width},{height}"
        )
    known = np.ones((n_px, n_px), bool)
    known[y : y + height, x : x + width] = False
    return known.reshape(-1)


def known_by_mask(mask: np.ndarray, n_px: int) -> np.ndarray:
    """The black parts of a mask are known, after it is resized and cropped like a picture: booleans (T,).

    A `Notice` says what transparency means, and whether nothing at all is known.

    Args:
        mask: uint8 of any size, (height, width), or with 1, 3 or 4 channels: white parts (a grey of at least 128) are
            unknown. So are transparent ones, unless all that is painted is white: then they are known. Or booleans
            (height, width), True where unknown.
        n_px: side of the image in pixels.

    Raises:
        UserError: if the array is no such mask, nothing in its central square is white, or it is white around a
            transparent part.
    """
    grey = resize_and_crop(_opaque(mask), n_px)[..., 0]
    if grey.max() < WHITE:
        ones = np.max(mask) == 1 and np.asarray(mask).dtype != bool
        raise UserError(
            f"expected a mask with white, {WHITE} and more, where pixels are to be drawn, got {grey.max()} at most "
            f"in its central square at {n_px} x {n_px} pixels: "
            + ("if 1 means white, give mask.astype(bool)" if ones else "paint the part white, or a larger part")
        )
    if grey.min() >= WHITE:
        warnings.warn(Notice("the mask leaves nothing of a picture to keep: all of it is drawn"), stacklevel=2)
    return np.asarray(grey < WHITE).reshape(-1)


def is_prefix(known: np.ndarray) -> np.ndarray:
    """Whether each image's known tokens precede all unknown ones: booleans (B,) from booleans (B, T)."""
    return np.asarray((known[:, 1:] <= known[:, :-1]).all(axis=1))


def check_images(
    tokens: np.ndarray, known: np.ndarray, grid: tuple[int, int], n_vocab: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (B, T) int32, 0 where they are unknown, and booleans (B, T), from the arguments of `complete`.

    Raises:
        UserError: if they do not fit each other, the grid (height, width) or the vocabulary.
    """
    tokens, known = np.asarray(tokens), np.asarray(known)
    height, width = grid
    if tokens.ndim != 2 or tokens.shape[1] != height * width or not len(tokens):
        raise UserError(
            f"expected tokens of shape (images, {height * width}), as the model's images are {width} x {height} "
            f"pixels, got {tokens.shape}: resize the pictures to {width} x {height} first"
        )
    if not np.issubdtype(tokens.dtype, np.integer):
        raise UserError(f"expected integer tokens, got {tokens.dtype}")
    if known.dtype != bool or known.shape not in (tokens.shape, tokens.shape[1:]):
        raise UserError(
            f"expected `known` as booleans of shape {tokens.shape} or {tokens.shape[1:]}, "
            f"got {known.dtype} {known.shape}"
        )
    given = np.where(known, tokens, 0)
    wrong = given.min() if given.min() < 0 else given.max()
    if not 0 <= wrong < n_vocab:
        raise UserError(f"expected tokens from 0 to {n_vocab - 1}, got {wrong}: use the model's own palette")
    return given.astype("int32"), np.broadcast_to(known, tokens.shape)


def _opaque(mask: np.ndarray) -> np.ndarray:
    """A mask without transparency, as a grey picture (height, width, 3) uint8."""
    mask = np.asarray(mask)
    grey = np.where(mask, 255, 0).astype("uint8") if mask.dtype == bool else mask
    grey = grey[..., None] if grey.ndim == 2 else grey
    if grey.dtype != np.uint8 or grey.ndim != 3 or grey.shape[2] not in (1, 3, 4) or not grey.size:
        raise UserError(
            "expected a mask of shape (height, width), or with 1, 3 or 4 channels, uint8, or booleans, "
            f"got {mask.shape} {mask.dtype}"
        )
    if grey.shape[2] == 4:
        alpha, grey = grey[..., 3:].astype("uint16"), grey[..., :3]
        on_white = (255 - (255 - grey) * alpha // 255).astype("uint8")
        is_black = alpha.min() < WHITE and _ground_is_black(to_grey(grey[None])[0], alpha[..., 0] >= WHITE)
        grey = (grey * alpha // 255).astype("uint8") if is_black else on_white
    if grey.shape[2] == 3:
        grey = to_grey(grey[None])[0][..., None]
    return np.broadcast_to(grey, (*grey.shape[:2], 3))


def _ground_is_black(grey: np.ndarray, painted: np.ndarray) -> bool:
    """Whether transparent parts of a mask stand for black, by its grey (height, width) and by what is painted."""
    if not painted.any():
        raise UserError("expected a mask with white where pixels are to be drawn, got a transparent one: paint on it")
    white = (grey[painted] >= WHITE).mean()
    if white < MOSTLY:
        meaning = "drawn, as white ones are" if white > 1 - MOSTLY else "drawn, and its painted parts are kept"
        warnings.warn(Notice(f"transparent parts of the mask are {meaning}"), stacklevel=4)
        return False
    if all(edge.all() for edge in (painted[0], painted[-1], painted[:, 0], painted[:, -1])):
        raise UserError(
            "expected a mask of white, to be drawn, and black, to be kept, got white around a transparent part, which "
            "can mean either: paint that part black, or the other way round"
        )
    warnings.warn(Notice("the white of the mask is drawn, and its transparent parts are kept"), stacklevel=4)
    return True
