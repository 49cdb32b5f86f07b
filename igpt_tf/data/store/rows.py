"""Tokens in an .npy file that may be larger than the memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from igpt_tf.data.sources.arrays import read_array
from igpt_tf.errors import UserError


class FileTokens:
    """Tokens (N, T) in an .npy file, of which only the rows asked for are in memory.

    Args:
        path: an .npy of integers (N, T) or (N, n_px, n_px).

    Raises:
        UserError: if it is missing, damaged or of another shape.
    """

    # Rows are read, not mapped: pages of a mapping count as resident, and the kernel reads many around each.
    def __init__(self, path: Path) -> None:
        self.path = path
        array = read_array(path)
        if array.ndim not in (2, 3) or array.dtype.kind not in "iu" or not array.size:
            raise UserError(f"{path}: expected tokens, integers (N, T), got {array.dtype} {array.shape}")
        if not array.flags.c_contiguous:
            raise UserError(f"{path}: expected tokens image by image, got them in Fortran's order: save a copy")
        self.shape = (len(array), array[0].size)
        self.dtype = array.dtype
        self._start = array.offset

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """The tokens of one row (T,) or of several (n, T), in memory; an `IndexError` if there is no such row."""
        if isinstance(rows, slice):
            numbers = np.arange(*rows.indices(len(self)))
        else:
            numbers = np.asarray(rows, np.int64)
            if ((numbers < -len(self)) | (numbers >= len(self))).any():
                raise IndexError(f"expected rows from 0 to {len(self) - 1}, got {rows}")
            numbers = numbers % len(self)
        found = self._read(numbers.reshape(-1))
        return found[0] if numbers.ndim == 0 else found

    def _read(self, numbers: np.ndarray) -> np.ndarray:
        """The rows of these numbers (n,); neighbours are read together."""
        tokens = np.empty((len(numbers), self.shape[1]), self.dtype)
        edges = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
        width = self.shape[1] * self.dtype.itemsize
        try:
            with open(self.path, "rb", buffering=0) as file:
                for first, last in pairwise(edges):
                    if first == last:
                        continue
                    file.seek(self._start + int(numbers[first]) * width)
                    waiting = tokens[first:last].data.cast("B")
                    while waiting:
                        count = file.readinto(waiting)
                        if not count:
                            raise UserError(f"{self.path}: expected {len(self)} rows as when it was opened, got fewer")
                        waiting = waiting[count:]
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        return tokens
