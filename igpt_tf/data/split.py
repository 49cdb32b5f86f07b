"""Splitting labelled images so that every part has all classes in proportion."""

from __future__ import annotations

import numpy as np

from igpt_tf.errors import UserError


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """An order of the images (N,), random by seed, any first part of which has all classes in proportion."""
    order = np.random.default_rng(seed).permutation(len(labels))
    # How far into its own class each image comes.
    depth = np.empty(len(labels))
    for label in np.unique(labels):
        places = np.flatnonzero(labels[order] == label)
        depth[places] = (np.arange(len(places)) + 0.5) / len(places)
    return order[np.argsort(depth, kind="stable")]


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted rows of the images (N,) that are kept, and of a share of each class that is held out, random by seed.

    Raises:
        UserError: if there are too few images for that.
    """
    n_held = round(share * len(labels))
    order = stratified_order(labels, seed)
    held, kept = np.sort(order[:n_held]), np.sort(order[n_held:])
    if not n_held or len(np.unique(labels[kept])) < len(np.unique(labels)):
        raise UserError(
            f"expected images enough to hold out {100 * share:g} % and keep some of every class, found {len(labels)}: "
            "give more images"
        )
    return kept, held
