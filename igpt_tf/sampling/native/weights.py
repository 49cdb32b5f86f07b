"""The weights of a model in the order in which a step reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from igpt_tf.config import ImageGPTConfig
from igpt_tf.sampling.native.elementwise import whole
from igpt_tf.sampling.native.vectors import BLOCK, LANES, TILE

# What weights and caches are stored in; bfloat16 is the upper half of float32.
STORAGES = {"float32": np.float32, "bfloat16": np.uint16, "int8": np.int8}
NO_SCALES = np.zeros(0, "float32")


class Matrices(NamedTuple):
    """The weights of a model, laid out.

    Attributes:
        stored: all matrices one after another, each as tiles (tiles, inputs, TILE).
        scales: of int8, one for each output of each matrix; else none.
        wte: (V, D) float32.
        wpe: (T, D) float32.
        sos: (S, D) float32.
    """

    stored: np.ndarray
    scales: np.ndarray
    wte: np.ndarray
    wpe: np.ndarray
    sos: np.ndarray


def lay_out(config: ImageGPTConfig, read: Callable[[str], np.ndarray], storage: str) -> Matrices:
    """Lay out the weights; no more than the arrays of one block are held beside them.

    Args:
        config: the model's shape.
        read: returns the array of one of OpenAI's names without `model/`.
        storage: one of `STORAGES`.
    """
    places = _places(config)
    stored = np.empty(sum(n_in * n_out for n_in, n_out in places), STORAGES[storage])
    scales = np.empty(sum(n_out for _, n_out in places), "float32") if storage == "int8" else NO_SCALES
    at = scale_at = 0
    for matrix, (n_in, n_out) in zip(_matrices(config, read), places, strict=True):
        tiles = stored[at : at + n_in * n_out].reshape(-1, n_in, TILE)
        _tile(matrix, tiles, scales[scale_at : scale_at + n_out])
        at, scale_at = at + n_in * n_out, scale_at + n_out
    wte, wpe, sos = (np.array(read(name), "float32") for name in ("wte", "wpe", "sos"))
    return Matrices(stored, scales, wte, wpe, sos.reshape(-1, config.n_embd))


def unpack(config: ImageGPTConfig, weights: Matrices) -> Iterator[np.ndarray]:
    """All matrices (in, out) in float32 again, as they are stored; outputs are filled up to whole tiles."""
    at = scale_at = 0
    for n_in, n_out in _places(config):
        tiles = weights.stored[at : at + n_in * n_out].reshape(-1, n_in, TILE)
        matrix = _as_float32(tiles).transpose(1, 0, 2).reshape(n_in, n_out)
        if len(weights.scales):
            matrix = matrix * weights.scales[scale_at : scale_at + n_out]
        yield matrix
        at, scale_at = at + n_in * n_out, scale_at + n_out


def room(config: ImageGPTConfig) -> int:
    """Positions that a cache has room for: whole blocks."""
    return -(-config.n_tokens // BLOCK) * BLOCK


def padded(config: ImageGPTConfig) -> int:
    """The size of a head, rounded up to whole vectors."""
    return -(-config.head_size // LANES) * LANES


def _places(config: ImageGPTConfig) -> list[tuple[int, int]]:
    """Inputs and outputs, in whole tiles, of all matrices.

    Those of a block make queries, keys and values, merge the heads, widen and narrow; the last one makes the logits.
    """
    width, merged = config.n_embd, config.n_head * padded(config)
    block = [(width, 3 * width), (merged, width), (width, 4 * width), (4 * width, width)]
    return [(n_in, whole(n_out)) for n_in, n_out in [*block * config.n_layer, (width, config.n_vocab)]]


def _matrices(config: ImageGPTConfig, read_any: Callable[[str], np.ndarray]) -> Iterator[np.ndarray]:
    """All matrices (in, out) in float32, with each norm's scale, and that of attention, in the product after it."""
    width = config.n_embd
    padding = ((0, 0), (0, padded(config) - config.head_size), (0, 0))

    def read(name: str) -> np.ndarray:
        return np.asarray(read_any(name), "float32")

    for i in range(config.n_layer):
        # (D, H E) of (H, E, D)
        q, k, v = (read(f"h{i}/attn/{letter}_proj").reshape(width, width).T for letter in "qkv")
        scaled = q * np.float32(config.head_size**-0.5)
        yield np.concatenate([scaled, k, v], axis=1) * read(f"h{i}/ln_1/g")[:, None]
        # (H E, D) of (H, E, D), with rows of zeros where heads are padded
        yield np.pad(read(f"h{i}/attn/c_proj"), padding).reshape(-1, width)
        yield read(f"h{i}/mlp/c_fc/w") * read(f"h{i}/ln_2/g")[:, None]
        yield read(f"h{i}/mlp/c_proj/w")
    yield read("wtet").T * read("ln_f/g")[:, None]


def _tile(matrix: np.ndarray, tiles: np.ndarray, scales: np.ndarray) -> None:
    """Write a matrix (in, out) as tiles (tiles, in, TILE), rounded to their type."""
    n_in, n_out = matrix.shape
    filled = np.zeros((n_in, len(tiles) * TILE), "float32")
    filled[:, :n_out] = matrix
    if tiles.dtype == np.int8:
        scales[:] = np.maximum(np.abs(filled).max(axis=0), 1e-30) / 127
        filled = np.rint(filled / scales)
    elif tiles.dtype == np.uint16:
        # To the nearest, and of two to the even one.
        bits = filled.view(np.uint32)
        filled = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    tiles[:] = filled.reshape(n_in, -1, TILE).transpose(1, 0, 2)


def _as_float32(stored: np.ndarray) -> np.ndarray:
    """Stored numbers as float32, of int8 without their scales."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype("float32")
