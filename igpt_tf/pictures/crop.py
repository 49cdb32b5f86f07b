"""Squares cut out of images and resized."""

from __future__ import annotations

import numpy as np
from PIL import Image

from igpt_tf.errors import UserError

# Section 3.1 of the paper: the shorter side is resized to a length in this range, then a square of CROP_SIDE is cut.
LEAST_SIDE, GREATEST_SIDE, CROP_SIDE = 256, 384, 224


def resize_and_crop(image: np.ndarray, n_px: int) -> np.ndarray:
    """Shrink or enlarge an image until its shorter side is `n_px`, and keep the central square.

    Resampling is Pillow's antialiased bicubic filter, as usual where images are generated or scored.

    Args:
        image: (height, width, 3) uint8.
        n_px: side of the result, in pixels.

    Returns:
        (n_px, n_px, 3) uint8; an image of that size is copied bit for bit.

    Raises:
        UserError: if the image has another shape or dtype, or no pixel.

    Source: section 3.1 of the paper (shorter side, then the centre crop).
    """
    if n_px < 1:
        raise UserError(f"expected n_px of at least 1, got {n_px}")
    image = _check_image(image)
    height, width, _ = image.shape
    # The square is cut first, so that an image of 1 x 100,000 pixels does not grow in memory.
    side = min(height, width)
    # Whole pixels: half a pixel of shift would blur an image whose shorter side is n_px already.
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == n_px:
        return square.copy()
    return np.array(Image.fromarray(np.ascontiguousarray(square)).resize((n_px, n_px), Image.Resampling.BICUBIC))


def random_resized_crop(image: np.ndarray, n_px: int, generator: np.random.Generator) -> np.ndarray:
    """Cut a random square out of an image, as the paper does with ImageNet, and resize it.

    The paper resizes the shorter side to a length drawn from 256 to 384 pixels, cuts out 224 x 224 pixels at a random
    place, and downsizes those. Here the three are one step, and the image may have any size.

    Args:
        image: (height, width, 3) uint8.
        n_px: side of the result, in pixels.
        generator: draws the size and the place.

    Returns:
        (n_px, n_px, 3) uint8.

    Source: section 3.1 of the paper.
    """
    image = _check_image(image)
    height, width = (int(length) for length in image.shape[:2])
    side = int(generator.integers(LEAST_SIDE, GREATEST_SIDE + 1))
    scale = min(height, width) / side
    crop = CROP_SIDE * scale
    top, left = (
        int(generator.integers(round(length / scale) - CROP_SIDE + 1)) / max(1, round(length / scale) - CROP_SIDE)
        for length in (height, width)
    )
    top, left = top * (height - crop), left * (width - crop)
    box = (left, top, min(left + crop, width), min(top + crop, height))
    return np.array(Image.fromarray(image).resize((n_px, n_px), Image.Resampling.BICUBIC, box=box))


def _check_image(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UserError(
            f"expected an image of shape (height, width, 3) uint8, got {image.shape} {image.dtype}: "
            "use read_image, which returns such an array"
        )
    return image
