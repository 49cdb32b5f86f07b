"""Pictures in the files of a library's data set, which are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from igpt_tf.errors import UserError, naming
from igpt_tf.pictures.imaging import read_image

# Pictures whose bytes are in memory at once, in each thread that decodes.
READ_AT_ONCE = 64


@dataclass(frozen=True)
class Record:
    """One picture.

    Attributes:
        name: of the picture, for messages.
        data: the bytes of an image file, or the path of one; None: there is none.
    """

    name: str
    data: bytes | Path | None

    def read(self) -> np.ndarray:
        """The picture (height, width, 3) uint8, as `read_image` reads it; a `UserError` if it cannot be read."""
        if self.data is None:
            raise UserError(f"{self.name}: expected a picture, got none")
        with naming(self.name):
            return read_image(self.data)


@dataclass(frozen=True)
class Records:
    """Pictures of which few are in memory; several threads may iterate over parts of them.

    Attributes:
        name: of the data set, for messages.
        fetch: returns the bytes of the image files of these rows (n,), or their paths, or None for those without.
        rows: (N,) numbers of the pictures in the data set.
    """

    name: str
    fetch: Callable[[np.ndarray], list[bytes | Path | None]]
    rows: np.ndarray

    def __len__(self) -> int:
        """N."""
        return len(self.rows)

    def __getitem__(self, chosen: slice | np.ndarray) -> Records:
        """Some of the pictures, of which none is read yet."""
        return replace(self, rows=self.rows[chosen])

    def __iter__(self) -> Iterator[Record]:
        """Read the pictures' bytes, some at a time."""
        for start in range(0, len(self), READ_AT_ONCE):
            rows = self.rows[start : start + READ_AT_ONCE]
            for row, data in zip(rows.tolist(), self.fetch(rows), strict=True):
                yield Record(f"{self.name}, image {row}", data)
