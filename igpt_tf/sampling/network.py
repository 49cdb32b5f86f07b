"""What drawing knows of a network, and Image GPT as such a network: one position at a time, with a cache.

Activations are columns, (D, B), and every weight is a matrix (out, in): XLA reads it from memory on all cores in the
order in which it lies, where a few rows times (in, out) would take twice as long. The attention of all heads of an
image is one product as well: each head's query stands in a column of its own, zero outside the head's rows. That
multiplies with many zeros, but products batched over the heads would keep to one core.
"""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import keras
import numpy as np
from keras import ops

from igpt_tf.backend.devices import count_devices
from igpt_tf.backend.replica import Replica
from igpt_tf.errors import UserError
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.model.layers import NORM_EPSILON, hidden_bias, quick_gelu
from igpt_tf.scoring.evaluation import nats_of

# Nested lists, tuples and dictionaries of arrays, as both backends take them for an argument.
Weights = Any
# Arrays of one layer, the batch in front: here keys (B, S, D) and values (B, D, S) of S positions.
Cache = tuple[Any, ...]

# A new segment of the cache is a quarter of an image, and at least this many tokens: every length is compiled once.
MIN_SEGMENT = 256


class Network(Protocol):
    """One device's copy of a network that predicts the tokens of a grid one by one, in raster order.

    Drawing knows nothing else of a model. The cache has two parts so that a loop over the pixels of a row carries and
    updates only `recent`: XLA would copy `past` at every pixel.

    Attributes:
        grid: height and width of an image in tokens.
        n_vocab: tokens the network knows, V.
    """

    grid: tuple[int, int]
    n_vocab: int

    def version(self) -> Any:
        """A value that is equal to an earlier one only if the weights have not changed since."""
        ...

    def lay_out(self) -> Weights:
        """The weights as `step` reads them."""
        ...

    def starts(self, classes: Any, n_images: int) -> np.ndarray:
        """What each image begins with, int32 (n_images,), given what the user calls its class, or None; 0 for none.

        Raises:
            UserError: if there is no such class.
        """
        ...

    def prefill(self, prefix: Any, start: Any) -> tuple[list[Cache], list[Cache]]:
        """The cache, past and recent, of images that begin with `start` (B,) and known rows of tokens (B, P).

        P may be 0.
        """
        ...

    def step(
        self, weights: Weights, previous: Any, position: Any, past: list[Cache], recent: list[Cache]
    ) -> tuple[Any, list[Cache]]:
        """The float32 logits (B, V) of a position, and `recent` with it included.

        `previous` is the token (B,) before the position; at position 0, the image's start.
        """
        ...

    def end_row(self, rows: int, past: list[Cache], recent: list[Cache]) -> None:
        """Called when `rows` rows are drawn and another follows: may move what is recent to past, in place."""
        ...

    def put(self, array: Any) -> Any:
        """The array on the network's device."""
        ...

    def compile(self, function: Callable) -> Callable:
        """A function of arrays, which may call `step` and `loop`, made to run on the device."""
        ...

    def loop(self, count: int, body: Callable, state: tuple) -> tuple:
        """`state` after `state = body(i, state)` for each i below `count`."""
        ...

    def score(self, tokens: np.ndarray, start: np.ndarray, batch_size: int) -> np.ndarray:
        """The negative log-likelihood in nats (B, T) of each token of whole images (B, T); for `best_of` alone."""
        ...


class ImageGPTNetwork:
    """An autoregressive `ImageGPT` on one of its devices, as a `Network`.

    Args:
        model: the model.
        number: of the device, from 0.

    Raises:
        UserError: if the model is a BERT model, or split between its devices.
    """

    def __init__(self, model: ImageGPT, number: int = 0) -> None:
        config = model.config
        if config.bert:
            raise UserError(
                "expected an autoregressive model, got a BERT model, which cannot draw pixels one after another"
            )
        self.model = model
        self.grid = (config.n_px, config.n_px)
        self.n_vocab = config.n_vocab
        self._n_segment = config.n_px * min(config.n_px, -(-max(MIN_SEGMENT, config.n_tokens // 4) // config.n_px))
        replica = Replica(model, number)
        self.put = replica.put
        self.compile = replica.compile
        self.lay_out = replica.compile_with_variables(lambda: lay_out(model))
        self.prefill = replica.compile_with_variables(self._prefill)
        self._extend = replica.compile(_extend)
        self.version = replica.snapshot
        self.starts = model.starts

    def step(
        self, weights: Weights, previous: Any, position: Any, past: list[Cache], recent: list[Cache]
    ) -> tuple[Any, list[Cache]]:
        """The logits of a position given the token before it, or the start embedding's number."""
        index = position % self._n_segment  # where in `recent` the position goes: what is beyond it is not visible
        # A token may be above the numbers of start embeddings: what is looked up for it is not used.
        sos = ops.take(weights["sos"], ops.minimum(previous, self.model.config.n_start - 1), axis=0)
        x = ops.where(position > 0, ops.take(weights["wte"], previous, axis=0), sos)
        x = ops.transpose(x + ops.take(weights["wpe"], position, axis=0))
        updated = []
        for block, layer_past, layer_recent in zip(weights["blocks"], past, recent, strict=True):
            qkv = ops.split(ops.matmul(block["qkv"], _normalise(x)), 3, axis=0)
            n_head = self.model.config.n_head
            heads, layer_recent = _attend(*map(ops.transpose, qkv), n_head, layer_past, layer_recent, index)
            x = x + ops.matmul(block["merge"], ops.transpose(heads))
            x = x + ops.matmul(block["narrow"], quick_gelu(ops.matmul(block["widen"], _normalise(x))))
            updated.append(layer_recent)
        logits = ops.matmul(weights["wtet"], _normalise(x))
        return ops.cast(ops.transpose(logits), "float32"), updated

    def end_row(self, rows: int, past: list[Cache], recent: list[Cache]) -> None:
        """Move a full segment from recent to past, layer by layer, so that no more than one is held twice."""
        if rows * self.grid[1] % self._n_segment == 0:
            for i, cache in enumerate(zip(past, recent, strict=True)):
                past[i], recent[i] = self._extend(*cache)

    def loop(self, count: int, body: Callable, state: tuple) -> tuple:
        """`keras.ops.fori_loop` from 0."""
        return cast("tuple", ops.fori_loop(0, count, body, state))

    def score(self, tokens: np.ndarray, start: np.ndarray, batch_size: int) -> np.ndarray:
        """Nats (B, T) of each token, computed on all devices of the model."""
        return nats_of(self.model, tokens, start=start, batch_size=batch_size)

    def _prefill(self, prefix: Any, start: Any) -> tuple[list[Cache], list[Cache]]:
        """Known rows (B, P) in one pass: whole segments of their keys and values are past, the rest recent."""
        n_images, n_prefix = prefix.shape
        width = self.model.config.n_embd
        n_past = n_prefix // self._n_segment * self._n_segment
        room = (0, n_past + self._n_segment - n_prefix)
        if n_prefix:
            cache = self.model.prefill(prefix if self.model.config.n_start == 1 else {"tokens": prefix, "start": start})
        else:
            nothing = ops.zeros((n_images, 1, 0, width), self.model.compute_dtype)
            cache = [(nothing, nothing)] * self.model.config.n_layer
        past, recent = [], []
        for keys, values in cache:
            keys = ops.reshape(ops.transpose(keys, (0, 2, 1, 3)), (n_images, n_prefix, width))  # from (B, H, P, E)
            values = ops.reshape(ops.transpose(values, (0, 1, 3, 2)), (n_images, width, n_prefix))
            past.append((keys[:, :n_past], values[:, :, :n_past]))
            recent.append(
                (
                    ops.pad(keys[:, n_past:], [(0, 0), room, (0, 0)]),
                    ops.pad(values[:, :, n_past:], [(0, 0), (0, 0), room]),
                )
            )
        return past, recent


def networks_of(model: keras.Model) -> list[ImageGPTNetwork]:
    """A network for each device of a model, or of the model in a classifier."""
    model = image_gpt_of(model)
    return [ImageGPTNetwork(model, number) for number in range(count_devices(model))]


def lay_out(model: ImageGPT) -> Weights:
    """The weights of a model as matrices (out, in) of its compute dtype, each norm's scale in the product after it."""
    width = model.config.n_embd
    dtype = model.compute_dtype

    def matrix(layer: keras.layers.Layer, shape: tuple[int, ...]) -> Any:
        """(out, in) of a layer that reads arrays of this shape."""
        n_in = int(np.prod(shape))
        if layer.quantization_mode is None:
            kernel = layer.kernel
        else:
            kernel = layer(ops.reshape(ops.eye(n_in, dtype=dtype), (1, n_in, *shape)))
        return ops.transpose(ops.reshape(ops.cast(kernel, "float32"), (n_in, -1)))

    def heads(layer: keras.layers.Layer) -> Any:
        """(out, in) of a projection with a kernel (H, E, D), which needs no transposition."""
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
        "sos": cast(ops.reshape(model.sos, (-1, width))),
        "blocks": blocks,
        "wtet": cast(ops.convert_to_tensor(model.wtet) * model.ln_f.scale),
    }


def _extend(past: Cache, recent: Cache) -> tuple[Cache, Cache]:
    """Past with a full segment of a layer's recent cache behind it, and an empty recent one."""
    joined = (ops.concatenate([past[0], recent[0]], axis=1), ops.concatenate([past[1], recent[1]], axis=2))
    return joined, tuple(ops.zeros_like(part) for part in recent)


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
    scores = ops.where(visible, scores, ops.cast(hidden_bias(scores.dtype), scores.dtype))
    scores = ops.concatenate([scores, ops.matmul(past[0], columns)], axis=1)
    shares = ops.cast(ops.softmax(ops.cast(scores, "float32"), axis=1), scores.dtype)
    heads = ops.matmul(recent[1], shares[:, :n_recent]) + ops.matmul(past[1], shares[:, n_recent:])  # (B, D, H)
    return ops.sum(heads * own_rows, axis=2), recent
