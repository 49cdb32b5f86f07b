"""A photograph and its central square, which a model sees: from places in one to places in the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

# Left, top, width and height in pixels.
Box = tuple[float, float, float, float]
# Keeps what lies on a border from being rounded across it.
TINY = 1e-9


@dataclass(frozen=True)
class Photograph:
    """The size of a photograph, and its central square.

    Args:
        name: of its file, for messages.
        width: in pixels.
        height: in pixels.
    """

    name: str
    width: int
    height: int

    @property
    def side(self) -> int:
        """Side of the central square."""
        return min(self.width, self.height)

    @property
    def left(self) -> int:
        """Columns to the left of the square."""
        return (self.width - self.side) // 2

    @property
    def top(self) -> int:
        """Rows above the square."""
        return (self.height - self.side) // 2

    @property
    def cropped(self) -> str:
        """What the square leaves out, empty if nothing."""
        columns, rows = self.width - self.side, self.height - self.side
        if not columns + rows:
            return ""
        first, last, kind, before = (
            ("left", "right", "columns", self.left) if columns else ("top", "bottom", "rows", self.top)
        )
        lost = f"{before} {kind} on the {first} and {columns + rows - before} on the {last}"
        return f"{self.name} ({self.width} x {self.height}) by {lost}"

    def rows_within(self, y: float, n_px: int) -> int:
        """How many whole rows of the square, shrunk to `n_px` pixels, lie above the photograph's row y."""
        return min(max(math.floor((y - self.top) * n_px / self.side + TINY), 0), n_px)

    def within(self, box: Box, n_px: int) -> tuple[int, int, int, int] | None:
        """Pixels of the square, shrunk to `n_px`, that a box of the photograph touches; None where there are none."""
        x, y, width, height = box
        scale = n_px / self.side
        left, top = (max(math.floor(at * scale + TINY), 0) for at in (x - self.left, y - self.top))
        right, bottom = (
            min(math.ceil(at * scale - TINY), n_px) for at in (x + width - self.left, y + height - self.top)
        )
        return (left, top, right - left, bottom - top) if right > left and bottom > top else None

    def paste(self, photo: np.ndarray, drawn: np.ndarray, known: np.ndarray, box: Box | None = None) -> np.ndarray:
        """The photograph with what was drawn in its place, and every other pixel as it was.

        Args:
            photo: (height, width, 3) uint8; a very large photograph at the fraction of its size at which it was read.
            drawn: (n_px, n_px, 3) uint8, the completed square.
            known: (T,) booleans.
            box: part of the photograph that may change; None: all that is not known.
        """
        if photo.shape[1] != self.width:
            scale = photo.shape[1] / self.width
            smaller = Photograph(self.name, photo.shape[1], photo.shape[0])
            x, y, width, height = box or (0, 0, self.width, self.height)
            return smaller.paste(photo, drawn, known, (x * scale, y * scale, width * scale, height * scale))
        n_px = len(drawn)
        rows = slice(self.top, self.top + self.side)
        columns = slice(self.left, self.left + self.side)
        cells = np.arange(self.side) * n_px // self.side
        changes = ~known.reshape(n_px, n_px)[cells][:, cells]
        if box is not None:
            x, y, width, height = box
            down, across = np.arange(self.height)[rows, None], np.arange(self.width)[None, columns]
            changes &= (down >= math.floor(y)) & (down < math.ceil(y + height))
            changes &= (across >= math.floor(x)) & (across < math.ceil(x + width))
        square = Image.fromarray(drawn).resize((self.side, self.side), Image.Resampling.BICUBIC)
        pasted = photo.copy()
        pasted[rows, columns][changes] = np.asarray(square)[changes]
        return pasted
