"""Which part of an image is given."""

from __future__ import annotations

import numpy as np

from igpt_tf.errors import UsageError


def known_rows(n_px: int, rows: int) -> np.ndarray:
    """The first `rows` rows of an image of n_px x n_px pixels: booleans (T,), True where the token is given.

    Raises:
        UsageError: if `rows` is not from 0 to n_px.
    """
    if not 0 <= rows <= n_px:
        raise UsageError(f"expected 0 to {n_px} known rows, as images are {n_px} pixels high, got {rows}")
    return np.arange(n_px**2) < rows * n_px
