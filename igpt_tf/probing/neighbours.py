"""The images that are nearest to others in the space of a layer's features."""

from __future__ import annotations

import numpy as np


def nearest_images(features: np.ndarray, queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The images whose features point in the direction most like that of others, seen from the mean of all.

    Args:
        features: (N, D) of the images to choose from.
        queries: (Q, D) of the others, from the same layer of the same model.
        n: number of images for each of them; more than there are means all.

    Returns:
        Numbers of images (Q, n), the nearest first, and their cosine similarities, 1 for a duplicate.
    """
    mean = features.mean(axis=0)
    units = [_unit(array - mean) for array in (queries, features)]
    similarity = units[0] @ units[1].T  # (Q, D) by (D, N) to (Q, N)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :n]
    return nearest, np.take_along_axis(similarity, nearest, axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
