"""A checksum of weights, computed where they lie, which tells whether they have changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

MULTIPLIERS = (0x9E3779B1, 0x85EBCA77)


def checksum(arrays: Sequence[Any]) -> Any:
    """Two sums for each of N arrays, (N, 2) uint32, which change when a bit of any array changes.

    Each 32-bit word is multiplied by an odd number that depends on its place, so that a single word that changes
    always changes the sums and words that change places do too. Of two arrays that differ in several words, one in
    2^64 has the same sums. TensorFlow's variables change in place and count no versions, and reading all weights once
    costs less than one pixel of a batch.
    """
    return ops.stack([ops.stack([_sum(_words(array), factor) for factor in MULTIPLIERS]) for array in arrays])


def _words(array: Any) -> Any:
    """The bits of an array as (n,) uint32, one word or less for each value."""
    flat = ops.reshape(ops.convert_to_tensor(array), (-1,))
    name = ops.dtype(flat)
    size = 2 if name == "bfloat16" else np.dtype(name).itemsize
    return ops.cast(ops.view(flat, {1: "uint8", 2: "uint16"}.get(size, "uint32")), "uint32")


def _sum(words: Any, factor: int) -> Any:
    """The words (n,) times a number for each place, summed modulo 2^32."""
    places = ops.cast(ops.arange(words.shape[0]), "uint32") * np.uint32(factor)
    places = ops.bitwise_xor(places, ops.right_shift(places, np.uint32(15))) * np.uint32(0x2C1B3C6D)
    places = ops.bitwise_xor(places, ops.right_shift(places, np.uint32(12)))
    return ops.sum(words * ops.bitwise_or(places, np.uint32(1)))
