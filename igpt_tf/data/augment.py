"""Exact augmentation of tokens: flips, and crops by whole pixels.

Crops that are resized mix pixels and must come before the palette: see `igpt_tf.pictures.crop`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from igpt_tf.errors import UsageError, UserError

NAMES = ("flip", "crop")
# Pixels that the reflection adds on each side before a crop.
PAD = 4


class Augmentation:
    """Exact augmentations of tokens, those of section 3.1 of the paper for CIFAR.

    Args:
        names: some of `NAMES`: "flip" mirrors an image left to right with probability 1/2; "crop" pads it by
            reflection with 4 pixels on each side (the edge itself is not repeated) and cuts n_px x n_px out of that.
        n_px: height and width of the images.

    Raises:
        UserError: for another name, or images too small to be padded.
    """

    def __init__(self, names: Sequence[str], n_px: int) -> None:
        unknown = [name for name in names if name not in NAMES]
        if unknown:
            raise UsageError(f"expected augmentations among {', '.join(NAMES)}, got {unknown[0]!r}")
        if "crop" in names and n_px <= PAD:
            raise UserError(f"expected images wider than {PAD} pixels for crops, got n_px {n_px}: leave the crop out")
        self.names = tuple(name for name in NAMES if name in names)
        self.n_px = n_px

    def __call__(self, tokens: np.ndarray, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Tokens (n, T) augmented, each image with its own generator, see `generators_of`."""
        if tokens.ndim != 2 or tokens.shape[1] != self.n_px**2 or len(generators) != len(tokens):
            raise UserError(
                f"expected tokens (n, {self.n_px**2}) and n generators, "
                f"got {tokens.shape} and {len(generators)} generators"
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
    """One generator for each example in pass `number` over the data, the same whatever process draws it."""
    # Counted from 1: a last 0 would be left out, and the first example share the numbers that order the pass.
    return [np.random.default_rng([seed, number, int(example) + 1]) for example in examples]
