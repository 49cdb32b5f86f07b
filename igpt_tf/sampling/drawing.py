"""A batch of images drawn row by row on one device, by compiled programs that serve every batch of its size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from igpt_tf.backend.devices import count_devices
from igpt_tf.backend.replica import Replica, kept_with
from igpt_tf.model.objectives import token_nats
from igpt_tf.sampling.filters import Controls, choose
from igpt_tf.sampling.network import lay_out, new_cache, step

if TYPE_CHECKING:
    from igpt_tf.model.image_gpt import ImageGPT

# The cache is in two parts: what is newer is updated at every step, and what is older only read, a segment longer
# each time. Every length is compiled once: a segment is a quarter of an image, and no less than this many tokens.
MIN_SEGMENT = 256


def decoders(model: ImageGPT) -> list[Decoder]:
    """A decoder for each of the model's devices, with the weights as they are now and all that was compiled before."""
    return kept_with(model, "_igpt_decoders", lambda: [Decoder(model, i) for i in range(count_devices(model))])


class Decoder:
    """The programs that draw images on one of a model's devices.

    Args:
        model: an autoregressive model.
        number: of the device, from 0.
    """

    def __init__(self, model: ImageGPT, number: int) -> None:
        self.model = model
        self.n_px = model.config.n_px
        self.rows_a_segment = min(self.n_px, -(-max(MIN_SEGMENT, model.config.n_tokens // 4) // self.n_px))
        replica = Replica(model, number)
        self.put = replica.put
        self.lay_out = replica.compile_with_variables(lambda: lay_out(model))
        self.prefill = replica.compile_with_variables(self._prefill)
        self.extend = replica.compile(_extend)
        self.decode_row = replica.compile(self._decode_row)
        self.select = replica.compile(_select)

    def _prefill(self, prefix: Any) -> tuple[list, list]:
        """Known rows (B, P) in one pass: whole segments of their keys and values are past, the rest recent."""
        n_prefix = prefix.shape[1]
        n_segment = self.rows_a_segment * self.n_px
        n_past = n_prefix // n_segment * n_segment
        unfilled = n_past + n_segment - n_prefix
        cache = new_cache(self.model, prefix)
        past = [(keys[:, :n_past], values[:, :, :n_past]) for keys, values in cache]
        recent = [
            (
                ops.pad(keys[:, n_past:], [(0, 0), (0, unfilled), (0, 0)]),
                ops.pad(values[:, :, n_past:], [(0, 0), (0, 0), (0, unfilled)]),
            )
            for keys, values in cache
        ]
        return past, recent

    def _decode_row(
        self, weights: dict, controls: dict, tokens: Any, known: Any, uniforms: Any, past: list, recent: list, row: Any
    ) -> tuple[Any, list, Any]:
        """One row of pixels; returns tokens (B, T), the recent cache with the row in it, and nats (B,).

        The nats are those that the row's known tokens cost under the model, whatever the controls.
        """
        first = row * self.n_px
        first_index = row % self.rows_a_segment * self.n_px
        n_head = self.model.config.n_head

        def decode_pixel(i, state):
            tokens, recent, nats = state
            position = first + i
            previous = ops.take(tokens, ops.maximum(position - 1, 0), axis=1)
            logits, recent = step(weights, n_head, previous, position, past, recent, first_index + i)
            is_known, given = ops.take(known, position, axis=1), ops.take(tokens, position, axis=1)
            drawn = choose(logits, ops.take(uniforms, position, axis=1), **controls)
            nats = nats + ops.where(is_known, token_nats(given, logits), 0.0)
            token = ops.where(is_known, given, drawn)
            return ops.slice_update(tokens, (0, position), token[:, None]), recent, nats

        return ops.fori_loop(0, self.n_px, decode_pixel, (tokens, recent, ops.zeros_like(uniforms[:, 0])))


def _extend(past: tuple, recent: tuple) -> tuple[tuple, tuple]:
    """Move a full segment of a layer from recent to past."""
    joined = (ops.concatenate([past[0], recent[0]], axis=1), ops.concatenate([past[1], recent[1]], axis=2))
    return joined, tuple(ops.zeros_like(part) for part in recent)


def _select(chosen: Any, arrays: tuple) -> tuple:
    """The rows `chosen` of every array."""
    return tuple(ops.take(array, chosen, axis=0) for array in arrays)


class Drawing:
    """A batch of images while it is drawn: `row` is the next, none from `end` to `n_rows` has an unknown pixel.

    Args:
        decoder: of the device.
        weights: from `decoder.lay_out`.
        tokens: (B, T) int32.
        known: (B, T) booleans.
        uniforms: (B, T) float32, from `draw_uniforms`.
        controls: what to draw from.
    """

    def __init__(
        self,
        decoder: Decoder,
        weights: dict,
        tokens: np.ndarray,
        known: np.ndarray,
        uniforms: np.ndarray,
        controls: Controls,
    ) -> None:
        self._decoder = decoder
        self._weights = weights
        self.n_rows = decoder.n_px
        unknown = np.flatnonzero(~known.all(axis=0)) // decoder.n_px
        self.row, self.end = (int(unknown[0]), int(unknown[-1]) + 1) if len(unknown) else (self.n_rows,) * 2
        put = decoder.put
        self._tokens, self._known, self._uniforms = put(tokens), put(known), put(uniforms)
        self._controls = {name: put(value) for name, value in controls.values().items()}
        if self.row < self.n_rows:
            self._past, self._recent = decoder.prefill(put(tokens[:, : self.row * decoder.n_px]))

    def draw_row(self) -> np.ndarray:
        """Draw the next row; returns the nats (B,) that its known pixels cost."""
        decoder = self._decoder
        self._tokens, self._recent, nats = decoder.decode_row(
            self._weights,
            self._controls,
            self._tokens,
            self._known,
            self._uniforms,
            self._past,
            self._recent,
            decoder.put(np.int32(self.row)),
        )
        self.row += 1
        if self.row < self.n_rows and self.row % decoder.rows_a_segment == 0:
            # Layer by layer, so that no more than one is held twice.
            for i, cache in enumerate(zip(self._past, self._recent, strict=True)):
                self._past[i], self._recent[i] = decoder.extend(*cache)
        return ops.convert_to_numpy(nats)

    def select(self, chosen: np.ndarray) -> None:
        """Go on from the images with these numbers, (B,) integers, each with the random numbers of its new place."""
        numbers = self._decoder.put(np.asarray(chosen, "int32"))
        (self._tokens,) = self._decoder.select(numbers, (self._tokens,))
        for part in (self._past, self._recent):
            for i, cache in enumerate(part):
                part[i] = self._decoder.select(numbers, cache)

    def tokens(self) -> np.ndarray:
        """(B, T) int32, final up to `row`."""
        return ops.convert_to_numpy(self._tokens)
