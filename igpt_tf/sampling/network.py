"""The network one position at a time, its weights laid out as decoding streams them.

Activations are columns, (D, B), and every weight is a matrix (out, in): XLA reads it from memory on all cores in the
order in which it lies, where a few rows times (in, out) would take twice as long. The attention of all heads of an
image is one product as well: each head's query stands in a column of its own, zero outside the head's rows. That
multiplies with many zeros, but products batched over the heads would keep to one core.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.model.layers import NORM_EPSILON, quick_gelu

# Nested lists, tuples and dictionaries of arrays, as both backends take them for an argument.
Weights = dict[str, Any]
# Keys (B, S, D) and values (B, D, S) of one layer and S positions.
Cache = tuple[Any, Any]


def lay_out(model: ImageGPT) -> Weights:
    """The weights of a model as matrices (out, in) of its compute dtype, each norm's scale in the product after it."""
    width = model.config.n_embd
    dtype = model.compute_dtype

    def matrix(layer: keras.layers.Layer, shape: tuple[int, ...]) -> Any:
        """(out, in) of a layer that reads arrays of this shape."""
        n_in = int(np.prod(shape))
        if layer.quantization_mode is not None:
            unit = ops.reshape(ops.eye(n_in, dtype=dtype), (1, n_in, *shape))
            return ops.transpose(ops.reshape(ops.cast(layer(unit), "float32"), (n_in, -1)))
        return ops.transpose(ops.reshape(ops.cast(layer.kernel, "float32"), (n_in, -1)))

    def heads(layer: keras.layers.Layer) -> Any:
        """As `matrix`, for kernels (H, E, D) that already are (out, in)."""
        if layer.quantization_mode is not None:
            return matrix(layer, (width,))
        return ops.reshape(ops.cast(layer.kernel, "float32"), (width, width))

    def cast(array: Any) -> Any:
        return ops.cast(array, dtype)

    blocks = []
    for block in model.blocks:
        attn, mlp = block.attn, block.mlp
        queries = heads(attn.q_proj) * attn.head_size**-0.5
        qkv = ops.concatenate([queries, heads(attn.k_proj), heads(attn.v_proj)], axis=0)
        blocks.append(
            {
                "qkv": cast(qkv * block.ln_1.scale),
                "merge": cast(matrix(attn.c_proj, (width // attn.head_size, attn.head_size))),
                "widen": cast(matrix(mlp.c_fc, (width,)) * block.ln_2.scale),
                "narrow": cast(matrix(mlp.c_proj, (4 * width,))),
            }
        )
    return {
        "wte": cast(model.wte),
        "wpe": cast(model.wpe),
        "sos": cast(model.sos),
        "blocks": blocks,
        "wtet": cast(ops.convert_to_tensor(model.wtet) * model.ln_f.scale),
    }


def new_cache(model: ImageGPT, prefix: Any) -> list[Cache]:
    """Every layer's keys and values of known tokens (B, P) in one pass; P may be 0."""
    config = model.config
    shape = (prefix.shape[0], prefix.shape[1], config.n_embd)
    if not prefix.shape[1]:
        nothing = ops.zeros(shape, model.compute_dtype)
        return [(nothing, ops.swapaxes(nothing, 1, 2))] * config.n_layer
    # From (B, H, P, E) each.
    return [
        (
            ops.reshape(ops.transpose(keys, (0, 2, 1, 3)), shape),
            ops.reshape(ops.transpose(values, (0, 1, 3, 2)), (shape[0], shape[2], shape[1])),
        )
        for keys, values in model.prefill(prefix)
    ]


def step(
    weights: Weights, n_head: int, previous: Any, position: Any, past: list[Cache], recent: list[Cache], index: Any
) -> tuple[Any, list[Cache]]:
    """One decoding step: the logits of one position given the token before it and the cache.

    The cache is in two parts so that a decoding loop carries and updates only the small one: XLA would copy a large
    one at every slice.

    Args:
        weights: from `lay_out`.
        n_head: heads H.
        previous: (B,) the tokens at `position - 1`; ignored at position 0.
        position: scalar, the position whose logits are wanted.
        past: a layer's keys and values, all visible; S may be 0.
        recent: likewise, the first `index` positions visible.
        index: scalar, where in `recent` this position's keys and values go.

    Returns:
        float32 logits (B, V), and `recent` with this position in it.
    """
    x = ops.where(position > 0, ops.take(weights["wte"], previous, axis=0), weights["sos"])
    x = ops.transpose(x + ops.take(weights["wpe"], position, axis=0))
    updated = []
    for block, layer_past, layer_recent in zip(weights["blocks"], past, recent, strict=True):
        qkv = ops.split(ops.matmul(block["qkv"], _normalise(x)), 3, axis=0)
        heads, layer_recent = _attend(*map(ops.transpose, qkv), n_head, layer_past, layer_recent, index)
        x = x + ops.matmul(block["merge"], ops.transpose(heads))
        x = x + ops.matmul(block["narrow"], quick_gelu(ops.matmul(block["widen"], _normalise(x))))
        updated.append(layer_recent)
    logits = ops.matmul(weights["wtet"], _normalise(x))
    return ops.cast(ops.transpose(logits), "float32"), updated


def _normalise(x):
    """RMS norm of columns (D, B) without its scale, in float32 whatever the policy."""
    wide = ops.cast(x, "float32")
    return ops.cast(wide * ops.rsqrt(ops.mean(ops.square(wide), axis=0, keepdims=True) + NORM_EPSILON), x.dtype)


def _attend(queries, keys, values, n_head: int, past: Cache, recent: Cache, index) -> tuple[Any, Cache]:
    """Attend from one new position to the cached ones and itself; (B, D) each, and heads (B, D) with `recent`."""
    width = queries.shape[1]
    own_rows = np.kron(np.eye(n_head), np.ones((width // n_head, 1)))
    own_rows = ops.cast(own_rows, queries.dtype)
    recent = (
        ops.slice_update(recent[0], (0, index, 0), keys[:, None, :]),
        ops.slice_update(recent[1], (0, 0, index), values[:, :, None]),
    )
    n_recent = recent[0].shape[1]
    columns = queries[:, :, None] * own_rows  # (B, D, H)
    scores = ops.matmul(recent[0], columns)  # (B, S', H)
    visible = (ops.arange(n_recent) <= index)[:, None]
    scores = ops.where(visible, scores, ops.cast(-1e10, scores.dtype))
    scores = ops.concatenate([scores, ops.matmul(past[0], columns)], axis=1)
    shares = ops.cast(ops.softmax(ops.cast(scores, "float32"), axis=1), scores.dtype)
    heads = ops.matmul(recent[1], shares[:, :n_recent]) + ops.matmul(past[1], shares[:, n_recent:])  # (B, D, H)
    return ops.sum(heads * own_rows, axis=2), recent
