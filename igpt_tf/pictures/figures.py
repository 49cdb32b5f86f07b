"""Figures of images while they are drawn: their given pixels, the rows of a grid, and the frames of a film."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from igpt_tf.pictures.writing import grid

# The grey of pixels that are not drawn yet.
BLANK = 220
FRAMES = 64


def seen(pictures: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pictures (N, height, width, C) with every pixel blank that is not known (T,)."""
    known = known.reshape(1, *pictures.shape[1:3], 1)  # (T,) to one channel of a picture
    return np.where(known, pictures, np.uint8(BLANK))


def film(pictures: np.ndarray, known: np.ndarray, columns: int) -> list[np.ndarray]:
    """Frames that show pictures being drawn in raster order, from what is known to all of it.

    Args:
        pictures: (N, height, width, C) uint8.
        known: (T,) booleans.
        columns: pictures in each row of a frame.
    """
    unknown = np.flatnonzero(~known)
    frames: list[np.ndarray] = []
    for count in np.unique(np.linspace(0, len(unknown), FRAMES).astype(int)):
        shown = known.copy()
        shown[unknown[:count]] = True
        frames.append(grid(in_rows(seen(pictures, shown), columns)))
    return frames


def in_rows(pictures: Sequence[np.ndarray] | np.ndarray, columns: int) -> list[list[np.ndarray]]:
    """The pictures as rows of a grid with this many columns."""
    return [list(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
