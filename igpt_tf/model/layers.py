"""The transformer block of Image GPT, in `keras.ops` alone.

Shapes use one letter each: B batch, T tokens, D width, H heads, E head size, S tokens that are attended to.
"""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from igpt_tf.backend.devices import fuses_attention
from igpt_tf.config import NORM_EPSILON, QUERY_CHUNK
from igpt_tf.errors import UserError
from igpt_tf.model.initializers import InitialNormal


def quick_gelu(x):
    """Approximate GELU, x * sigmoid(1.702 x); the original's `gelu2`."""
    return x * ops.sigmoid(1.702 * x)


class RMSNorm(keras.layers.RMSNormalization):
    """Keras' layer, which stays as it is in a quantised model."""

    def quantize(self, *args, **kwargs) -> None:
        """Nothing, without Keras' warning."""


def rms_norm(name: str, dtype=None) -> RMSNorm:
    """RMS norm over the width, no mean and no bias; the original's `norm`."""
    return RMSNorm(epsilon=NORM_EPSILON, name=name, dtype=dtype)


def softmax_float32(scores):
    """Softmax over the last axis in float32 whatever the policy, cast back to the dtype of `scores`."""
    return ops.cast(ops.softmax(ops.cast(scores, "float32"), axis=-1), scores.dtype)


def attention_weights(queries, keys, bias=None):
    """How much each query takes from each key: softmax(q k / sqrt(E) + bias).

    Args:
        queries: (B, H, T, E), already scaled by 1/sqrt(E).
        keys: (B, H, S, E).
        bias: broadcastable to (B, H, T, S): 0 where a key is visible, hugely negative where not; None shows all.

    Returns:
        (B, H, T, S), whose last axis sums to 1.
    """
    scores = ops.matmul(queries, ops.swapaxes(keys, -1, -2))
    if bias is not None:
        scores = scores + ops.cast(bias, scores.dtype)
    return softmax_float32(scores)


def weighted_values(queries, keys, values, bias=None):
    """Attend: the sum of the values (B, H, S, E), weighted by `attention_weights`; (B, H, T, E)."""
    return ops.matmul(attention_weights(queries, keys, bias), values)


def hidden_bias(dtype) -> float:
    """What is added to a score to hide it, within the dtype's range."""
    return -6e4 if keras.backend.standardize_dtype(dtype) == "float16" else -1e10


def causal_attention(queries, keys, values, window: int | None = None):
    """Each position attends to itself and those before it, `window` in all; arguments and result (B, H, T, E)."""
    hides = hidden_bias(queries.dtype)
    length = queries.shape[2]

    def is_hidden(places, seen):
        later = places[:, None] < seen
        return later if window is None else later | (places[:, None] - window >= seen)

    if length is None:
        # Known only when the graph runs, as where TensorFlow traces one for all lengths.
        places = ops.arange(ops.shape(queries)[2])
        return weighted_values(queries, keys, values, ops.where(is_hidden(places, places), hides, 0.0))
    ends = [*range(QUERY_CHUNK, length, QUERY_CHUNK), length]
    # Split once and joined again, because TensorFlow is slow at the gradient of a slice.
    chunks = [ops.split(states, ends[:-1], axis=2) if len(ends) > 1 else [states] for states in (queries, keys, values)]
    outputs = []
    for i, end in enumerate(ends):
        first = end - chunks[0][i].shape[2]
        # The first chunk that is not wholly before the window.
        i_seen = 0 if window is None else max(0, first + 1 - window) // QUERY_CHUNK
        hidden = is_hidden(np.arange(first, end), np.arange(i_seen * QUERY_CHUNK, end))
        seen_keys, seen_values = (ops.concatenate(parts[i_seen : i + 1], axis=2) for parts in chunks[1:])
        outputs.append(weighted_values(chunks[0][i], seen_keys, seen_values, np.where(hidden, hides, 0.0)))
    return ops.concatenate(outputs, axis=2)


def attention(queries, keys, values, causal: bool, window: int | None = None):
    """Attend within a sequence, to itself and before if `causal`; arguments and result (B, H, T, E)."""
    if fuses_attention(queries.dtype) and window is None:
        states = [ops.swapaxes(heads, 1, 2) for heads in (queries, keys, values)]  # to (B, T, H, E)
        return ops.swapaxes(ops.dot_product_attention(*states, scale=1.0, is_causal=causal), 1, 2)
    return causal_attention(queries, keys, values, window) if causal else weighted_values(queries, keys, values)


class Projection(keras.layers.EinsumDense):
    """Keras' layer, which refuses adapters on int8 kernels: Keras multiplies the wrong axes of ours."""

    def enable_lora(self, *args, **kwargs) -> None:
        """As in Keras."""
        if self.quantization_mode is not None:
            raise UserError("expected float weights for LoRA, got quantised ones: call enable_lora on a float model")
        super().enable_lora(*args, **kwargs)

    def quantize(self, mode=None, type_check=True, config=None) -> None:
        """As in Keras."""
        if self.lora_enabled:
            raise UserError(
                "expected weights without LoRA to quantise, got adapters: save the model as a preset, which merges "
                "them, and quantise that"
            )
        super().quantize(mode, type_check=False, config=config)


class Attention(keras.layers.Layer):
    """Multi-head attention without biases, within x or to a context; the original's `attn`.

    Args:
        n_embd: width D.
        n_head: heads H.
        n_layer: blocks in the whole model; more of them make the initial output projection smaller.
        causal: whether a position attends only to itself and those before it; of no effect on a context.
        window: how many positions a causal one attends to, with itself, at most; None: all.
    """

    def __init__(
        self, n_embd: int, n_head: int, n_layer: int, causal: bool, window: int | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.n_embd = n_embd
        self.n_head = n_head
        self.head_size = n_embd // n_head
        self.causal = causal
        self.window = window
        split = {"equation": "bsf,hef->bshe", "output_shape": (None, n_head, self.head_size)}
        merge = {"equation": "bshe,hef->bsf", "output_shape": (None, n_embd)}

        def projection(name, shapes, stddev):
            # Keras' inferred type knows an initializer's name only.
            initializer = cast("Any", InitialNormal(stddev=stddev))
            return Projection(**shapes, kernel_initializer=initializer, name=name, dtype=self.dtype_policy)

        self.q_proj = projection("q_proj", split, n_embd**-0.5)
        self.k_proj = projection("k_proj", split, n_embd**-0.5)
        self.v_proj = projection("v_proj", split, n_embd**-0.5)
        self.c_proj = projection("c_proj", merge, (n_embd * n_layer) ** -0.5)

    def build(self, input_shape) -> None:
        """Create the four projections."""
        for layer in (self.q_proj, self.k_proj, self.v_proj):
            layer.build((None, None, self.n_embd))
        self.c_proj.build((None, None, self.n_embd // self.head_size, self.head_size))

    def queries(self, x):
        """(B, T, D) to queries (B, H, T, E), scaled by 1/sqrt(E)."""
        return self._heads(self.q_proj, x) * self.head_size**-0.5

    def keys_values(self, context):
        """(B, S, D) to keys and values, each (B, H, S, E)."""
        return self._heads(self.k_proj, context), self._heads(self.v_proj, context)

    def _heads(self, layer: keras.layers.EinsumDense, x):
        """(B, T, D) to (B, H, T, E)."""
        if layer.quantization_mode is not None:
            return ops.swapaxes(layer(x), 1, 2)  # (B, T, H, E) to (B, H, T, E)
        # One plain matrix product: TensorFlow computes its gradient in two thirds of the time of the einsum's.
        kernel = ops.cast(ops.reshape(layer.kernel, (-1, self.n_embd)), x.dtype)  # (H, E, D) to (H E, D)
        states = ops.matmul(ops.reshape(x, (-1, self.n_embd)), ops.transpose(kernel))  # (B T, D) to (B T, H E)
        states = ops.reshape(
            states, (-1, ops.shape(x)[1], self.n_embd // self.head_size, self.head_size)
        )  # (B, T, H, E)
        return ops.swapaxes(states, 1, 2)

    def merge(self, heads):
        """(B, H, T, E) to (B, T, D)."""
        return self.c_proj(ops.swapaxes(heads, 1, 2))  # from (B, T, H, E)

    def prefill(self, x):
        """Attend within x (B, T, D); also return its keys and values for a cache."""
        keys, values = self.keys_values(x)
        return self.merge(attention(self.queries(x), keys, values, self.causal, self.window)), (keys, values)

    def call(self, x, context=None):
        """(B, T, D) to (B, T, D): attend within x, or to all of a context (B, S, D)."""
        if context is None:
            return self.prefill(x)[0]
        return self.merge(weighted_values(self.queries(x), *self.keys_values(context)))


class MLP(keras.layers.Layer):
    """Two dense layers without biases, four times as wide in the middle; the original's `mlp`."""

    def __init__(self, n_embd: int, activation: Callable[..., Any] = quick_gelu, **kwargs) -> None:
        super().__init__(**kwargs)
        self.n_embd = n_embd
        self.activation = activation

        def dense(name, units):
            # Keras' inferred type knows an initializer's name only.
            initializer = cast("Any", InitialNormal(stddev=0.02))
            return keras.layers.Dense(
                units, use_bias=False, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
            )

        self.c_fc = dense("c_fc", 4 * n_embd)
        self.c_proj = dense("c_proj", n_embd)

    def build(self, input_shape) -> None:
        """Create the two dense layers."""
        self.c_fc.build((None, None, self.n_embd))
        self.c_proj.build((None, None, 4 * self.n_embd))

    def call(self, x):
        """(B, T, D) to (B, T, D)."""
        return self.c_proj(self.activation(self.c_fc(x)))


class Block(keras.layers.Layer):
    """x + attn(ln_1(x)), then x + mlp(ln_2(x)); the original's `block`.

    Args:
        n_embd: as in `Attention`.
        n_head: as in `Attention`.
        n_layer: as in `Attention`.
        causal: as in `Attention`.
        window: as in `Attention`.
        n_cross_head: heads that attend to a context, in x + cross_attn(ln_x(x), context) between the two; None: none.
        activation: of the MLP.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        n_layer: int,
        causal: bool,
        window: int | None = None,
        n_cross_head: int | None = None,
        activation: Callable[..., Any] = quick_gelu,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.n_embd = n_embd
        dtype = self.dtype_policy
        self.ln_1 = rms_norm("ln_1", dtype)
        self.attn = Attention(n_embd, n_head, n_layer, causal, window, name="attn", dtype=dtype)
        self.cross_attn = None
        if n_cross_head is not None:
            self.ln_x = rms_norm("ln_x", dtype)
            self.cross_attn = Attention(n_embd, n_cross_head, n_layer, causal=False, name="cross_attn", dtype=dtype)
        self.ln_2 = rms_norm("ln_2", dtype)
        self.mlp = MLP(n_embd, activation, name="mlp", dtype=dtype)

    def build(self, input_shape) -> None:
        """Create the parts."""
        crossing = [] if self.cross_attn is None else [self.ln_x, self.cross_attn]
        for layer in (self.ln_1, self.attn, *crossing, self.ln_2, self.mlp):
            layer.build((None, None, self.n_embd))

    def call(self, x, context=None):
        """(B, T, D) to (B, T, D), given the context (B, S, D) of a block that attends to one."""
        return self.prefill(x, context)[0]

    def prefill(self, x, context=None):
        """As `call`; also return the keys and values, each (B, H, T, E)."""
        attended, cache = self.attn.prefill(self.ln_1(x))
        x = x + attended
        if self.cross_attn is not None:
            x = x + self.cross_attn(self.ln_x(x), context)
        return x + self.mlp(self.ln_2(x)), cache
