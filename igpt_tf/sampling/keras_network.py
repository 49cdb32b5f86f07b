"""Image GPT as Keras computes it, on any device, as a `Network`."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalSubscript=false, reportOptionalOperand=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from keras import ops

from igpt_tf.backend.devices import count_devices
from igpt_tf.backend.replica import Replica
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.model.layers import Block
from igpt_tf.sampling.columns import cache_of, extend, lay_out_block, normalise, step_block
from igpt_tf.sampling.network import Cache, Network, Weights, require_autoregressive
from igpt_tf.scoring.evaluation import nats_of

# A new segment of the cache is a quarter of an image, and at least this many tokens: every length is compiled once.
MIN_SEGMENT = 256


class TransformerNetwork:
    """What networks of the blocks of `model/layers.py` have in common on a device: the cache, in segments of rows.

    Args:
        model: the model.
        number: of the device, from 0.
        blocks: those that predict the tokens.
        grid: height and width of an image in tokens.

    Raises:
        UserError: if the model is split between its devices.
    """

    def __init__(self, model: Any, number: int, blocks: list[Block], grid: tuple[int, int]) -> None:
        self.model = model
        self.blocks = blocks
        self.grid = grid
        self.n_vocab: int = model.config.n_vocab
        height, width = grid
        self._n_segment = width * min(height, -(-max(MIN_SEGMENT, height * width // 4) // width))
        replica = Replica(model, number)
        self.put = replica.put
        self.compile = replica.compile
        self.lay_out = replica.compile_with_variables(self._lay_out)
        self.prefill = replica.compile_with_variables(self._prefill)
        self._extend = replica.compile(extend)
        self.version = replica.snapshot
        self.starts = model.starts

    def release(self) -> None:
        """Nothing to do: only the caller keeps what was laid out."""

    def end_row(self, rows: int, past: list[Cache], recent: list[Cache]) -> None:
        """Move a full segment from recent to past, layer by layer, so that no more than one is held twice."""
        if rows * self.grid[1] % self._n_segment == 0:
            for i in range(len(self.blocks)):
                past[i], recent[i] = self._extend(past[i], recent[i])

    def loop(self, count: int, body: Callable, state: tuple) -> tuple:
        """`keras.ops.fori_loop` from 0."""
        return cast("tuple", ops.fori_loop(0, count, body, state))

    def score(self, tokens: np.ndarray, start: np.ndarray | None, batch_size: int) -> np.ndarray:
        """Nats (B, T) of each token, computed on all devices of the model."""
        return nats_of(self.model, tokens, start=start, batch_size=batch_size)

    def _lay_out(self) -> Weights:
        raise NotImplementedError

    def _prefill(self, prefix: Any, start: Any) -> tuple[list[Cache], list[Cache]]:
        raise NotImplementedError

    def _step_blocks(
        self, weights: Weights, x: Any, position: Any, past: list[Cache], recent: list[Cache]
    ) -> tuple[Any, list[Cache]]:
        """Float32 logits (B, V) from the sum of the embeddings (B, D) of a position, and `recent` with it included."""
        x, updated, index = ops.transpose(x), list(recent), position % self._n_segment
        for i, block in enumerate(self.blocks):
            x, updated[i] = step_block(block, weights["blocks"][i], x, past[i], recent[i], index)
        logits = ops.matmul(weights["wtet"], normalise(x))
        return ops.cast(ops.transpose(logits), "float32"), updated

    def _split(self, caches: list[tuple] | None, n_images: int) -> tuple[list[Cache], list[Cache]]:
        """Keys and values (B, H, P, E) of every block's prefix: whole segments are past, the rest recent.

        None stands for those of no prefix.
        """
        if caches is None:
            nothing = ops.zeros((n_images, 1, 0, self.blocks[0].n_embd), self.model.compute_dtype)
            caches = [(nothing, nothing)] * len(self.blocks)
        n_prefix = caches[0][0].shape[2]
        n_past = n_prefix // self._n_segment * self._n_segment
        room = (0, n_past + self._n_segment - n_prefix)
        past, recent = [], []
        for keys, values in (cache_of(*cache) for cache in caches):
            past.append((keys[:, :n_past], values[:, :, :n_past]))
            recent.append(
                (
                    ops.pad(keys[:, n_past:], [(0, 0), room, (0, 0)]),
                    ops.pad(values[:, :, n_past:], [(0, 0), (0, 0), room]),
                )
            )
        return past, recent


class ImageGPTNetwork(TransformerNetwork):
    """An autoregressive `ImageGPT` on one of its devices, as a `Network`.

    Args:
        model: the model.
        number: of the device, from 0.

    Raises:
        UserError: if the model is a BERT model, or split between its devices.
    """

    def __init__(self, model: ImageGPT, number: int = 0) -> None:
        require_autoregressive(model.config)
        super().__init__(model, number, model.blocks, (model.config.n_px, model.config.n_px))

    def step(
        self, weights: Weights, previous: Any, position: Any, past: list[Cache], recent: list[Cache]
    ) -> tuple[Any, list[Cache]]:
        """The logits of a position given the token before it, or the start embedding's number."""
        # A token may be above the numbers of start embeddings: what is looked up for it is not used.
        sos = ops.take(weights["sos"], ops.minimum(previous, self.model.config.n_start - 1), axis=0)
        x = ops.where(position > 0, ops.take(weights["wte"], previous, axis=0), sos)
        x = x + ops.take(weights["wpe"], position, axis=0)
        return self._step_blocks(weights, x, position, past, recent)

    def _lay_out(self) -> Weights:
        return lay_out(self.model)

    def _prefill(self, prefix: Any, start: Any) -> tuple[list[Cache], list[Cache]]:
        """Known rows (B, P) in one pass."""
        n_images, n_prefix = prefix.shape
        inputs = prefix if self.model.config.n_start == 1 else {"tokens": prefix, "start": start}
        return self._split(self.model.prefill(inputs) if n_prefix else None, n_images)


def keras_networks(model: Any) -> list[Network]:
    """A network for each device of a model, or of the model in a classifier."""
    model = image_gpt_of(model)
    return [ImageGPTNetwork(model, number) for number in range(count_devices(model))]


def lay_out(model: ImageGPT) -> Weights:
    """The weights of a model as `step` reads them, in its compute dtype."""

    def cast(array: Any) -> Any:
        return ops.cast(array, model.compute_dtype)

    return {
        "wte": cast(model.wte),
        "wpe": cast(model.wpe),
        "sos": cast(ops.reshape(model.sos, (-1, model.config.n_embd))),
        "blocks": [lay_out_block(block, model.compute_dtype) for block in model.blocks],
        "wtet": cast(ops.convert_to_tensor(model.wtet) * model.ln_f.scale),
    }
