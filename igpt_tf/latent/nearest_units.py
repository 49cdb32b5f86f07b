"""The nearest units of many vectors, by one matrix product for each part of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Distances that are in memory at once.
MOST_DISTANCES = 1 << 23


def nearest_units(vectors: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The unit at the least Euclidean distance from each vector; of equal ones the first.

    Args:
        vectors: (n, D) float32.
        units: (K, D) float32.

    Returns:
        (n,) int32.
    """
    parts = [scores.argmax(1) for scores in _scores(vectors, units)]
    return np.concatenate(parts).astype(np.int32) if parts else np.empty(0, np.int32)


def two_nearest_units(vectors: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The nearest unit and the next one, (n, 2) int32; vectors and units as in `nearest_units`."""
    found = []
    for scores in _scores(vectors, units):
        first = scores.argmax(1)
        scores[np.arange(len(scores)), first] = -np.inf
        found.append(np.stack([first, scores.argmax(1)], axis=1))
    return np.concatenate(found).astype(np.int32)


def _scores(vectors: np.ndarray, units: np.ndarray) -> Iterator[np.ndarray]:
    """For each part (m, D) of the vectors, numbers (m, K) that are the greater, the nearer a unit is."""
    # |v - u|^2 = |v|^2 - 2 (v u - |u|^2 / 2), of which |v|^2 is the same for all units.
    offsets = np.square(units).sum(1) / 2
    size = max(1, MOST_DISTANCES // len(units))
    for start in range(0, len(vectors), size):
        scores = vectors[start : start + size] @ units.T
        scores -= offsets
        yield scores
