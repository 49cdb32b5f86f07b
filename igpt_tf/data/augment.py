"""Augmentation of tokens where it is exact, and of pictures where it is not.

A palette colours every pixel for itself, so moving pixels before or after is the same: flips and crops by whole pixels
are done on tokens. A crop that is resized mixes pixels, and has to happen before the palette.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from igpt_tf.errors import UsageError, UserError

NAMES = ("flip", "crop")
# Pixels that the reflection adds on each side before a crop.
PAD = 4
# Section 3.1 of the paper: the shorter side is between these, and what is cut out of it this wide.
LEAST_SIDE, GREATEST_SIDE, CROP_SIDE = 256, 384, 224


class Augmentation:
    """Exact augmentations of tokens.

    Args:
        names: some of `NAMES`: "flip" mirrors an image left to right with probability 1/2; "crop" pads it by
            reflection with 4 pixels on each side (the edge itself is not repeated) and cuts n_px x n_px out of that.
        n_px: height and width of the images.

    Raises:
        UsageError: a name that is none of them.
        UserError: images too small to be padded.

    Source: section 3.1 of the paper (what it does to CIFAR's images).
    """

    def __init__(self, names: Sequence[str], n_px: int) -> None:
        unknown = [name for name in names if name not in NAMES]
        if unknown:
            raise UsageError(f"expected augmentations among {', '.join(NAMES)}, found {unknown[0]!r}")
        if "crop" in names and n_px <= PAD:
            raise UserError(f"crops need images wider than {PAD} pixels, found n_px {n_px}; leave the crop out")
        self.names = tuple(name for name in NAMES if name in names)
        self.n_px = n_px

    def __call__(self, tokens: np.ndarray, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Tokens (n, T) augmented, each image by the numbers of its own generator alone, see `generators_of`.

        Raises:
            UserError: tokens of another shape, or not one generator an image.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self.n_px**2 or len(generators) != len(tokens):
            raise UserError(
                f"expected tokens (n, {self.n_px**2}) and n generators, "
                f"found {tokens.shape} and {len(generators)} generators"
            )
        if not self.names or not len(tokens):
            return tokens
        drawn = np.array([self._draw(generator) for generator in generators])
        rows, columns = (self._reflect(np.arange(self.n_px) + shift[:, None]) for shift in drawn[:, 1:].T)
        columns = np.where(drawn[:, :1], columns[:, ::-1], columns)
        places = rows[:, :, None] * self.n_px + columns[:, None, :]
        return np.take_along_axis(tokens, places.reshape(tokens.shape), axis=1)

    def _draw(self, generator: np.random.Generator) -> tuple[int, int, int]:
        """Whether to flip, and how far down and to the right the crop lies."""
        flip = int(generator.integers(2)) if "flip" in self.names else 0
        down, right = generator.integers(-PAD, PAD + 1, 2) if "crop" in self.names else (0, 0)
        return flip, int(down), int(right)

    def _reflect(self, places: np.ndarray) -> np.ndarray:
        """Rows or columns outside the image as those that the edge mirrors."""
        last = self.n_px - 1
        return last - np.abs(last - np.abs(places))


def generators_of(seed: int, number: int, examples: Sequence[int] | np.ndarray) -> list[np.random.Generator]:
    """One generator for each example in pass `number` over the data.

    They depend on the seed, the pass and the example alone, so neither a restart nor sharing the work over processes
    changes what is drawn.
    """
    # Counted from 1: a last 0 would be left out, and the first example share the numbers that order the pass.
    return [np.random.default_rng([seed, number, int(example) + 1]) for example in examples]


def random_resized_crop(image: np.ndarray, n_px: int, generator: np.random.Generator) -> np.ndarray:
    """A random square of a picture as the paper cuts it out of ImageNet's, downsized.

    The shorter side is resized to a length drawn from 256 to 384 pixels, 224 x 224 pixels are cut out at a random
    place, and those are downsized. The three are one step here, from the picture's own pixels, so that nothing is
    blurred on the way; pictures of any size will do.

    Args:
        image: (height, width, 3) uint8.
        n_px: height and width of the result.
        generator: decides the size and the place.

    Returns:
        (n_px, n_px, 3) uint8.

    Raises:
        UserError: the image is not of that shape and dtype, or has no pixel.

    Source: section 3.1 of the paper.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UserError(f"expected an image (height, width, 3) uint8, found {image.shape} {image.dtype}")
    height, width = image.shape[:2]
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
