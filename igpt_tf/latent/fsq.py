"""Finite scalar quantisation: each of a few numbers is rounded to one of a few levels.

Source: Mentzer et al., "Finite scalar quantization: VQ-VAE made simple" (2023), appendix A.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from igpt_tf.errors import UserError

EPSILON = 1e-3
# How far the standard deviations of projections are stretched; the best of these is kept.
GAINS = (0.5, 0.7, 0.9, 1.1, 1.4)


@dataclasses.dataclass(frozen=True, eq=False)
class ScalarQuantizer:
    """Numbers vectors by rounding their projections.

    Attributes:
        levels: (d,) how many levels each projection has.
        mean: (D,) float32, subtracted from vectors.
        projection: (D, d) float32.
    """

    levels: tuple[int, ...]
    mean: np.ndarray
    projection: np.ndarray

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """The codes of vectors (n, D), int32 (n,)."""
        return codes_of(quantize(project(vectors, self.mean, self.projection), self.levels), self.levels)


def levels_for(n_codes: int) -> tuple[int, ...]:
    """Levels whose product is a power of two: eights, and what is left.

    Raises:
        UserError: if it is no power of two from 4 on.
    """
    bits = n_codes.bit_length() - 1
    if n_codes < 4 or n_codes != 1 << bits:
        raise UserError(
            f"expected num_embeddings of fsq as a power of two from 4 on, got {n_codes}: give `levels` for others"
        )
    # 8 8 4 4 rather than 8 8 8 2: two levels are too few for a number.
    eights = {0: bits // 3, 1: bits // 3 - 1, 2: bits // 3}[bits % 3]
    return (8,) * eights + (4,) * ((bits - 3 * eights) // 2)


def project(vectors: np.ndarray, mean: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """The numbers (n, d) that are rounded."""
    return (vectors - mean) @ projection


def bound(numbers: np.ndarray, levels: tuple[int, ...]) -> np.ndarray:
    """Numbers (n, d) within what rounds to the levels."""
    n_levels = np.array(levels)
    half = (n_levels - 1) * (1 - EPSILON) / 2
    offset = np.where(n_levels % 2 == 1, 0.0, 0.5)
    return np.tanh(numbers + np.tan(offset / half)) * half - offset


def quantize(numbers: np.ndarray, levels: tuple[int, ...]) -> np.ndarray:
    """Numbers (n, d) rounded and scaled to [-1, 1]."""
    return np.round(bound(numbers, levels)) / (np.array(levels) // 2)


def codes_of(rounded: np.ndarray, levels: tuple[int, ...]) -> np.ndarray:
    """The codes (n,) int32 of what `quantize` made (n, d); the first number counts the least."""
    half = np.array(levels) // 2
    basis = np.cumprod([1, *levels[:-1]])
    return ((rounded * half + half) @ basis).round().astype(np.int32)


def all_codes(levels: tuple[int, ...]) -> np.ndarray:
    """What `quantize` makes of each code's numbers, (K, d), in order."""
    codes = np.arange(math.prod(levels))[:, None]
    half = np.array(levels) // 2
    return (codes // np.cumprod([1, *levels[:-1]]) % np.array(levels) - half) / half


def fit_scalars(vectors: np.ndarray, levels: tuple[int, ...]) -> tuple[ScalarQuantizer, np.ndarray]:
    """A quantiser of the vectors' first principal components, and the units (K, D) float32 of its codes.

    A unit is a linear function of its code's numbers, that of the least squared error.

    Args:
        vectors: (n, D) float32.
        levels: of each component.

    Raises:
        UserError: if there are more components than numbers in a vector.
    """
    if len(levels) > vectors.shape[1]:
        raise UserError(f"expected levels for at most {vectors.shape[1]} numbers of a patch, got {len(levels)}")
    mean = vectors.mean(0)
    _, variances, axes = np.linalg.svd(np.cov(vectors - mean, rowvar=False).reshape(vectors.shape[1], -1))
    deviations = np.sqrt(np.maximum(variances[: len(levels)], 1e-12))
    best: tuple[float, ScalarQuantizer, np.ndarray] | None = None
    for gain in GAINS:
        projection = (axes[: len(levels)].T * gain / deviations).astype(np.float32)
        rounded = quantize(project(vectors, mean, projection), levels)
        design = np.c_[rounded, np.ones(len(rounded))]
        weights, *_ = np.linalg.lstsq(design, vectors.astype(np.float64), rcond=None)
        error = float(np.square(design @ weights - vectors).mean())
        if best is None or error < best[0]:
            grid = all_codes(levels)
            units = np.c_[grid, np.ones(len(grid))] @ weights
            best = error, ScalarQuantizer(levels, mean, projection), units.astype(np.float32)
    assert best is not None
    return best[1:]
