"""The index of TensorFlow's checkpoints: where in the shards each array lies, read without TensorFlow.

The format is that of `tensorflow/core/util/tensor_bundle`: a sorted table of LevelDB's kind, whose values are messages
`BundleEntryProto`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from igpt_tf.errors import UserError
from igpt_tf.storage.digests import crc32c
from igpt_tf.weights.names import Shape

_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER_BYTES = 48
FLOAT32 = 1  # DT_FLOAT


@dataclass(frozen=True)
class Entry:
    """Where an array lies: shard, first byte, number of bytes; and what it is: type, shape, CRC-32C."""

    dtype: int
    shape: Shape
    shard: int
    offset: int
    size: int
    crc: int


def parse_index(data: bytes) -> dict[str, Entry]:
    """The arrays of a checkpoint by their full names, from the bytes of its `.index` file.

    Raises:
        UserError: if the bytes are damaged or of another kind.
    """
    try:
        if data[-8:] != _MAGIC:
            raise ValueError("no table")
        footer = data[-_FOOTER_BYTES:]
        _, place = _varint(footer, 0)
        _, place = _varint(footer, place)
        entries: dict[str, Entry] = {}
        for _, handle in _block(data, footer[place:]):
            # The entry of no name describes the whole.
            entries |= {key.decode(): _entry(value) for key, value in _block(data, handle) if key}
        return entries
    except (ValueError, IndexError) as error:
        raise UserError(f"expected the index of a checkpoint, got another or a damaged file ({error})") from error


def _block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the block at a place, which two numbers say."""
    start, place = _varint(handle, 0)
    size, _ = _varint(handle, place)
    block, tail = data[start : start + size], data[start + size : start + size + 5]
    if tail[0] or int.from_bytes(tail[1:], "little") != crc32c(block + tail[:1]):
        raise ValueError("wrong checksum or compression")
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    place, key = 0, b""
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + own]
        place += own
        yield key, block[place : place + length]
        place += length


def _entry(message: bytes) -> Entry:
    fields = dict(_fields(message))
    # A dimension is a message of its own: field 2 of the shape, with its size in field 1.
    dimensions = [dict(_fields(one)).get(1, 0) for field, one in _fields(fields.get(2, b"")) if field == 2]
    numbers = [fields.get(field, 0) for field in (3, 4, 5, 6)]
    return Entry(fields.get(1, 0), tuple(dimensions), *numbers)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer's message: varints and fixed numbers as int, all else as bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(message, place)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                if kind != 2:
                    raise ValueError(f"field of kind {kind}")
                size, place = _varint(message, place)
            value = message[place : place + size]
            place += size
            value = value if kind == 2 else int.from_bytes(value, "little")
        yield tag >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of 7 bits per byte, and the place behind it."""
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
