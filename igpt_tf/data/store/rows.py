"""Rows of tokens in a file that is larger than the memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from igpt_tf.data.sources.arrays import CHECKED_ROWS, check_tokens, read_array
from igpt_tf.errors import UserError

# Rows that are looked at where another check has vouched for all.
SPOTS = 64


class FileTokens:
    """Tokens (N, T) in an .npy file, of which no more is in memory than the rows that were asked for.

    They are read, not mapped: pages of a mapping count as resident, and the kernel brings in many around each.

    Args:
        path: an .npy of integers (N, T) or (N, n_px, n_px).

    Raises:
        UserError: it is missing, damaged or of another shape.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        array = read_array(path)
        if array.ndim not in (2, 3) or array.dtype.kind not in "iu" or not array.size:
            raise UserError(f"{path}: expected tokens, integers (N, T), found {array.dtype} {array.shape}")
        if not array.flags.c_contiguous:
            raise UserError(f"{path}: expected tokens image by image, found them in Fortran's order; save a copy")
        self.shape = (len(array), array[0].size)
        self.dtype = array.dtype
        self._start = array.offset

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """The tokens of one row (T,) or of several (n, T), in memory.

        Raises:
            IndexError: there is no such row.
            UserError: the file has become shorter or cannot be read any more.
        """
        if isinstance(rows, slice):
            numbers = np.arange(*rows.indices(len(self)))
        else:
            numbers = np.asarray(rows, np.int64)
            if ((numbers < -len(self)) | (numbers >= len(self))).any():
                raise IndexError(f"expected rows from 0 to {len(self) - 1}, found {rows}")
            numbers = numbers % len(self)
        found = self._read(numbers.reshape(-1))
        return found[0] if numbers.ndim == 0 else found

    def _read(self, numbers: np.ndarray) -> np.ndarray:
        """The rows of these numbers (n,), each run of neighbours at once."""
        tokens = np.empty((len(numbers), self.shape[1]), self.dtype)
        edges = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
        width = self.shape[1] * self.dtype.itemsize
        try:
            with open(self.path, "rb", buffering=0) as file:
                for first, last in pairwise(edges):
                    if first == last:
                        continue
                    file.seek(self._start + int(numbers[first]) * width)
                    waiting = memoryview(tokens[first:last]).cast("B")
                    while waiting:
                        count = file.readinto(waiting)
                        if not count:
                            raise UserError(f"{self.path}: has become shorter; was it written anew?")
                        waiting = waiting[count:]
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        return tokens

    def check(self, n_px: int, n_vocab: int | None) -> None:
        """Raise a `UserError` where they are not of images of n_px pixels or outside the vocabulary."""
        for start in range(0, len(self), CHECKED_ROWS):
            check_tokens(str(self.path), self[start : start + CHECKED_ROWS], n_px, n_vocab)

    def spot_check(self, n_px: int, n_vocab: int | None) -> None:
        """The same for some rows, from the first to the last."""
        rows = np.unique(np.linspace(0, len(self) - 1, SPOTS).astype(int))
        check_tokens(str(self.path), self[rows], n_px, n_vocab)
