"""Transformer blocks, one position at a time, with a cache of the keys and values of those before.

Activations are columns, (D, B), and every weight is a matrix (out, in): XLA reads it from memory on all cores in the
order in which it lies, where a few rows times (in, out) would take twice as long. The attention of all heads of an
image is one product as well: each head's query stands in a column of its own, zero outside the head's rows. That
multiplies with many zeros, but products batched over the heads would keep to one core.

The cache of a block is keys (B, S, D) and values (B, D, S), in a past part and a recent one; behind the past ones are
those of a context, where the block attends to one.
"""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from igpt_tf.model.layers import NORM_EPSILON, Attention, Block, hidden_bias


def lay_out_block(block: Block, dtype: str) -> dict[str, Any]:
    """The weights of a block as matrices (out, in) of a dtype, each norm's scale in the product after it."""
    attn, mlp = block.attn, block.mlp
    qkv = ops.concatenate([_queries(attn), _heads(attn.k_proj, attn), _heads(attn.v_proj, attn)], axis=0)
    matrices = {
        "qkv": qkv * block.ln_1.scale,
        "merge": _merge(attn),
        "widen": _matrix(mlp.c_fc, (block.n_embd,)) * block.ln_2.scale,
        "narrow": _matrix(mlp.c_proj, (4 * block.n_embd,)),
    }
    if block.cross_attn is not None:
        matrices["cross_queries"] = _queries(block.cross_attn) * block.ln_x.scale
        matrices["cross_merge"] = _merge(block.cross_attn)
    return {name: ops.cast(matrix, dtype) for name, matrix in matrices.items()}


def step_block(block: Block, weights: dict[str, Any], x, past: tuple, recent: tuple, index) -> tuple[Any, tuple]:
    """x (D, B) after a block, and `recent` with the position, whose place in it is `index`, included."""
    qkv: Any = ops.split(ops.matmul(weights["qkv"], normalise(x)), 3, axis=0)
    queries, keys, values = map(ops.transpose, qkv)
    recent = (
        ops.slice_update(recent[0], (0, index, 0), keys[:, None, :]),
        ops.slice_update(recent[1], (0, 0, index), values[:, :, None]),
    )
    # What is in `recent` beyond the position is not visible.
    places = ops.arange(recent[0].shape[1])
    visible, past_visible = places <= index, None
    if block.attn.window is not None:
        n_past = past[0].shape[1]
        visible = ops.logical_and(visible, places > index - block.attn.window)
        past_visible = ops.arange(n_past) > n_past + index - block.attn.window
    heads = _attend(queries, block.attn.n_head, [(*recent, visible), (*past[:2], past_visible)])
    x = x + ops.matmul(weights["merge"], ops.transpose(heads))
    if block.cross_attn is not None:
        queries = ops.transpose(ops.matmul(weights["cross_queries"], normalise(x)))
        heads = _attend(queries, block.cross_attn.n_head, [(*past[2:], None)])
        x = x + ops.matmul(weights["cross_merge"], ops.transpose(heads))
    x = x + ops.matmul(weights["narrow"], block.mlp.activation(ops.matmul(weights["widen"], normalise(x))))
    return x, recent


def cache_of(keys: Any, values: Any) -> tuple[Any, Any]:
    """Keys (B, S, D) and values (B, D, S) as `step_block` reads them, from (B, H, S, E) both."""
    n_images, n_head, length, head_size = keys.shape
    keys = ops.reshape(ops.transpose(keys, (0, 2, 1, 3)), (n_images, length, n_head * head_size))  # from (B, S, H, E)
    values = ops.reshape(ops.transpose(values, (0, 1, 3, 2)), (n_images, n_head * head_size, length))
    return keys, values


def extend(past: tuple, recent: tuple) -> tuple[tuple, tuple]:
    """Past with a full recent part behind it, and an empty recent one."""
    joined = (ops.concatenate([past[0], recent[0]], axis=1), ops.concatenate([past[1], recent[1]], axis=2))
    return (*joined, *past[2:]), tuple(ops.zeros_like(part) for part in recent)


def normalise(x):
    """RMS norm of columns (D, B) without its scale, in float32 whatever the policy."""
    wide = ops.cast(x, "float32")
    return ops.cast(wide * ops.rsqrt(ops.mean(ops.square(wide), axis=0, keepdims=True) + NORM_EPSILON), x.dtype)


def _attend(queries, n_head: int, parts: list[tuple]) -> Any:
    """Attend from one position to keys, values and which of them are visible (S,), or None, in parts; (B, D) each."""
    width = queries.shape[1]
    own_rows = np.kron(np.eye(n_head), np.ones((width // n_head, 1)))
    own_rows = ops.cast(own_rows, queries.dtype)
    columns = queries[:, :, None] * own_rows  # (B, D, H)
    scores = []
    for keys, _, visible in parts:
        found = ops.matmul(keys, columns)  # (B, S, H)
        if visible is not None:
            found = ops.where(visible[:, None], found, ops.cast(hidden_bias(found.dtype), found.dtype))
        scores.append(found)
    lengths = [keys.shape[1] for keys, _, _ in parts]
    joined = ops.concatenate(scores, axis=1)
    shares = ops.cast(ops.softmax(ops.cast(joined, "float32"), axis=1), joined.dtype)
    first, heads = 0, []
    for (_, values, _), length in zip(parts, lengths, strict=True):
        heads.append(ops.matmul(values, shares[:, first : first + length]))  # (B, D, H)
        first += length
    return ops.sum(sum(heads[1:], heads[0]) * own_rows, axis=2)


def _queries(attn: Attention) -> Any:
    """(out, in) of the scaled queries."""
    return _heads(attn.q_proj, attn) * attn.head_size**-0.5


def _heads(layer: keras.layers.Layer, attn: Attention) -> Any:
    """(out, in) of a projection with a kernel (H, E, D), which needs no transposition."""
    width = attn.n_embd
    if layer.quantization_mode is not None:
        return _matrix(layer, (width,))
    return ops.reshape(ops.cast(layer.kernel, "float32"), (width, width))


def _merge(attn: Attention) -> Any:
    """(out, in) of the projection of all heads together."""
    return _matrix(attn.c_proj, (attn.n_head, attn.head_size))


def _matrix(layer: keras.layers.Layer, shape: tuple[int, ...]) -> Any:
    """(out, in) of a layer that reads arrays of this shape."""
    n_in = int(np.prod(shape))
    if layer.quantization_mode is None:
        kernel = layer.kernel
    else:
        kernel = layer(ops.reshape(ops.eye(n_in, dtype=layer.compute_dtype), (1, n_in, *shape)))
    return ops.transpose(ops.reshape(ops.cast(kernel, "float32"), (n_in, -1)))
