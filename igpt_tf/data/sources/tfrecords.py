"""Records of TFRecord files in any order, without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.storage.digests import crc32c

# A record is the length of its data, the checksum of that, the data, and their checksum: 8 + 4 + length + 4 bytes.
HEAD, TAIL = 12, 4


class RecordFiles:
    """The records of several files, which are read when they are asked for; several threads may read.

    Args:
        paths: the files in their order.

    Raises:
        UserError: if a file is missing or damaged.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        places = [_places(path) for path in self._paths]
        self._starts = np.concatenate([np.empty(0, np.int64), *places])
        # How many records lie in a file and those before it.
        self._ends = np.cumsum([len(one) for one in places])

    def __len__(self) -> int:
        """The number of records N."""
        return len(self._starts)

    def read(self, rows: np.ndarray) -> list[bytes]:
        """The data of the records of these numbers (n,)."""
        found: list[bytes] = [b""] * len(rows)
        files = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(files).tolist():
            path = self._paths[number]
            with open(path, "rb") as file:
                for place in np.flatnonzero(files == number).tolist():
                    file.seek(int(self._starts[rows[place]]))
                    size = _length(path, file.read(HEAD))
                    data, check = file.read(size), file.read(TAIL)
                    if len(data) != size or int.from_bytes(check, "little") != crc32c(data):
                        raise _damaged(path)
                    found[place] = data
        return found


def _places(path: Path) -> np.ndarray:
    """The first byte of each record of a file."""
    starts: list[int] = []
    try:
        with open(path, "rb", buffering=0) as file:
            place, end = 0, os.fstat(file.fileno()).st_size
            while place < end:
                file.seek(place)
                starts.append(place)
                place += HEAD + _length(path, file.read(HEAD)) + TAIL
    except OSError as error:
        raise UserError(f"{path}: expected a TFRecord file, got none that can be read ({error.strerror})") from error
    if place != end:
        raise _damaged(path)
    return np.array(starts, np.int64)


def _length(path: Path, head: bytes) -> int:
    if len(head) != HEAD or int.from_bytes(head[8:], "little") != crc32c(head[:8]):
        raise _damaged(path)
    return int.from_bytes(head[:8], "little")


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: expected a TFRecord file, got a damaged one: get it again")
