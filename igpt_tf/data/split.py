"""Stratified splits of labelled images. Fine-tuning runs record them, so the same seed must choose the same images."""

from __future__ import annotations

import numpy as np

from igpt_tf.errors import UserError


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Rows (N,) in a random order of which every prefix has the classes in proportion.

    Args:
        labels: (N,) integers.
        seed: of the random order.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    # Position of each image within its own class, from 0 to 1.
    depth = np.empty(len(labels))
    for label in np.unique(labels):
        places = np.flatnonzero(labels[order] == label)
        depth[places] = (np.arange(len(places)) + 0.5) / len(places)
    return order[np.argsort(depth, kind="stable")]


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted rows of the images to train on, and of a share of each class to hold out.

    Args:
        labels: (N,) integers.
        share: fraction of the images to hold out.
        seed: decides which.

    Raises:
        UserError: if none would be held out, or a class would lose all its images.
    """
    n_held = round(share * len(labels))
    order = stratified_order(labels, seed)
    held, kept = np.sort(order[:n_held]), np.sort(order[n_held:])
    if not n_held or len(np.unique(labels[kept])) < len(np.unique(labels)):
        raise UserError(
            f"expected enough images to hold out {100 * share:g} % and keep some of every class, got {len(labels)}: "
            "give more images"
        )
    return kept, held
