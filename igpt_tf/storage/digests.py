"""A short digest that tells weights, tokens, labels and palettes apart, and the checksum of TensorFlow's files."""

from __future__ import annotations

import hashlib
from typing import cast

import numpy as np


class Digest:
    """A digest that takes its parts one after the other, so that only one of them need be in memory."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)

    def add(self, part: str | bytes | np.ndarray) -> None:
        """Take in text, bytes, or the bytes of an array, row by row."""
        if isinstance(part, np.ndarray):
            self._hash.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            self._hash.update(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)

    def copy(self) -> Digest:
        """A digest of the same parts, to which others can be added."""
        other = Digest()
        other._hash = self._hash.copy()
        return other

    def __str__(self) -> str:
        """16 hexadecimal digits."""
        return self._hash.hexdigest()


def digest(*parts: str | bytes | np.ndarray) -> str:
    """The digest of all parts, one after the other: 16 hexadecimal digits."""
    whole = Digest()
    for part in parts:
        whole.add(part)
    return str(whole)


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of bytes, masked as TensorFlow stores it."""
    import google_crc32c

    crc = cast("int", google_crc32c.value(bytes(data)))  # pyright: ignore[reportUnknownMemberType]
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
