"""A batch of images drawn row by row on one device."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalSubscript=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from igpt_tf.sampling.array_functions import ops_of
from igpt_tf.sampling.controls import Controls
from igpt_tf.sampling.keys import Key, draw_uniforms
from igpt_tf.sampling.network import Cache, Network, Weights


class Image(NamedTuple):
    """An image to draw.

    Attributes:
        tokens: (T,) int32.
        known: (T,) booleans.
        key: of its random numbers.
        start: what it is drawn given: the number of its start embedding, or coarser codes (S,).
    """

    tokens: np.ndarray
    known: np.ndarray
    key: Key
    start: Any


class Step(NamedTuple):
    """How far a batch is, after each row.

    Attributes:
        rows: rows that are drawn, or need no drawing.
        final: rows whose tokens will not change any more; all of them at the last step.
        tokens: returns the tokens (B, T) as they are; to be called before the next step.
    """

    rows: int
    final: int
    tokens: Callable[[], np.ndarray]


class Programs:
    """What draws a row on one device, compiled once per batch size.

    Args:
        network: the device's network.
        choose: the strategy: from logits (B, V), uniforms (B,) and the values of `Controls` to tokens (B,).
    """

    def __init__(self, network: Network, choose: Callable[..., Any]) -> None:
        self.network = network
        self._choose = choose
        self.decode_row = network.compile(self._decode_row)
        self.search_row = network.compile(self._search_row)
        self.select = network.compile(_take)

    def _decode_row(
        self, weights: Weights, controls: dict, given: dict, tokens: Any, past: list, recent: list, row: Any
    ) -> tuple[Any, list, Any]:
        """Draw one row of pixels; returns tokens (B, T), the recent cache with the row in it, and nats (B,).

        The nats are those of the row's known tokens under the model, whatever the controls.
        """
        ops = ops_of(tokens)
        known, uniforms = given["known"], given["uniforms"]  # (B, T)
        width = self.network.grid[1]
        first = row * width

        def decode_pixel(i, state):
            tokens, recent, nats = state
            position = first + i
            logits, recent = self._step(weights, given, tokens, position, past, recent)
            is_known, token = ops.take(known, position, axis=1), ops.take(tokens, position, axis=1)
            drawn = self._choose(logits, ops.take(uniforms, position, axis=1), **controls)
            nats = nats + ops.where(is_known, ops.sparse_categorical_crossentropy(token, logits, from_logits=True), 0.0)
            token = ops.where(is_known, token, drawn)
            return ops.slice_update(tokens, (0, position), token[:, None]), recent, nats

        return self.network.loop(width, decode_pixel, (tokens, recent, ops.zeros_like(uniforms[:, 0])))

    def _search_row(
        self, weights: Weights, given: dict, tokens: Any, past: list, recent: list, row: Any, scores: Any
    ) -> tuple[Any, list, list, Any]:
        """Extend each image's K beams by one row; returns tokens (N K, T), the whole cache, and scores (N, K).

        The scores are the log-likelihoods of the beams so far, the greatest first.
        """
        ops = ops_of(tokens)
        n_images, n_beams = scores.shape
        n_vocab, width = self.network.n_vocab, self.network.grid[1]

        def search_pixel(i, state):
            tokens, past, recent, scores = state
            position = row * width + i
            logits, recent = self._step(weights, given, tokens, position, past, recent)
            is_known, token = (ops.take(array, position, axis=1) for array in (given["known"], tokens))
            # A known token is the only one that its beams can be extended by.
            possible = ops.logical_or(ops.logical_not(is_known)[:, None], token[:, None] == ops.arange(n_vocab))
            so_far: Any = ops.reshape(scores, (-1, 1))
            extended = ops.where(possible, so_far + ops.log_softmax(logits), -np.inf)
            # The K best of all extensions of an image's beams, (N, K V) of (N K, V).
            kept: Any = ops.top_k(ops.reshape(extended, (n_images, n_beams * n_vocab)), n_beams)
            scores, best = kept
            chosen = ops.reshape(ops.arange(n_images)[:, None] * n_beams + best // n_vocab, (-1,))
            token = ops.where(is_known, token, ops.reshape(best % n_vocab, (-1,)))
            tokens = ops.slice_update(ops.take(tokens, chosen, axis=0), (0, position), token[:, None])
            past, recent = ([_take(chosen, layer) for layer in part] for part in (past, recent))
            return tokens, past, recent, scores

        return self.network.loop(width, search_pixel, (tokens, past, recent, scores))

    def _step(
        self, weights: Weights, given: dict, tokens: Any, position: Any, past: list, recent: list
    ) -> tuple[Any, list]:
        """The network's step at a position of tokens (B, T)."""
        ops = ops_of(tokens)
        # (B,), also of coarser codes (B, S), of which a network reads none here.
        start = ops.reshape(given["start"], (tokens.shape[0], -1))[:, 0]
        previous = ops.where(position > 0, ops.take(tokens, ops.maximum(position - 1, 0), axis=1), start)
        return self.network.step(weights, previous, position, past, recent)


def _take(chosen: Any, arrays: Cache) -> Cache:
    """The rows of these numbers of all arrays."""
    return tuple(ops_of(array).take(array, chosen, axis=0) for array in arrays)


def to_numpy(array: Any) -> np.ndarray:
    """An array of a device as one of NumPy's."""
    return np.asarray(ops_of(array).convert_to_numpy(array))


def rows_to_draw(known: Sequence[np.ndarray], grid: tuple[int, int]) -> tuple[int, int]:
    """The first row and the end of the rows in which a token of known (B, T) is missing; twice the height for none."""
    height, width = grid
    unknown = np.flatnonzero(~np.all(known, axis=0)) // width
    return (int(unknown[0]), int(unknown[-1]) + 1) if len(unknown) else (height, height)


class Drawing:
    """A batch of images while it is drawn.

    Args:
        programs: of the device; those of a `GuidedNetwork` where the controls ask for guidance.
        weights: what the network has laid out.
        controls: temperature and filters.
        images: the batch.

    Attributes:
        row: the next row to draw.
        end: from this row on, every pixel is known.
        n_rows: height of the images.
    """

    def __init__(self, programs: Programs, weights: Weights, controls: Controls, images: Sequence[Image]) -> None:
        self._programs, self._network, self._weights = programs, programs.network, weights
        put = self._network.put
        self._controls = {name: put(value) for name, value in controls.values().items()}
        if controls.guidance != 1:
            self._weights = weights, put(np.float32(controls.guidance))
        tokens, known, keys, starts = zip(*images, strict=True)
        self.n_rows, width = self._network.grid
        self.row, self.end = rows_to_draw(known, self._network.grid)
        start = put(np.array(starts, "int32"))
        uniforms = put(draw_uniforms(keys, self.n_rows * width))
        self._given = {"known": put(np.stack(known)), "uniforms": uniforms, "start": start}
        self._tokens = put(np.stack(tokens))
        if self.row < self.n_rows:
            self._past, self._recent = self._network.prefill(put(np.stack(tokens)[:, : self.row * width]), start)

    def draw_row(self) -> np.ndarray:
        """Draw the next row; returns the nats (B,) of its known pixels."""
        row = self._network.put(np.int32(self.row))
        self._tokens, self._recent, nats = self._programs.decode_row(
            self._weights, self._controls, self._given, self._tokens, self._past, self._recent, row
        )
        self._end_row()
        return to_numpy(nats)

    def search_row(self, scores: np.ndarray) -> np.ndarray:
        """Extend the K beams of each image, which lie one after the other, by the next row.

        Takes and returns their log-likelihoods (N, K), the greatest first.
        """
        row, before = self._network.put(np.int32(self.row)), self._network.put(scores)
        self._tokens, self._past, self._recent, after = self._programs.search_row(
            self._weights, self._given, self._tokens, self._past, self._recent, row, before
        )
        self._end_row()
        return to_numpy(after)

    def _end_row(self) -> None:
        self.row += 1
        if self.row < self.n_rows:
            self._network.end_row(self.row, self._past, self._recent)

    def select(self, chosen: np.ndarray) -> None:
        """Replace the images by those with these numbers, (B,) integers; the random numbers stay with their places."""
        numbers = self._network.put(np.asarray(chosen, "int32"))
        (self._tokens,) = self._programs.select(numbers, (self._tokens,))
        for part in (self._past, self._recent):
            for i, cache in enumerate(part):
                part[i] = self._programs.select(numbers, cache)

    def tokens(self) -> np.ndarray:
        """(B, T) int32, drawn up to `row`."""
        return to_numpy(self._tokens)


def draw_forced(start: Callable[[Sequence[Image]], Drawing], images: Sequence[Image]) -> Iterator[Step]:
    """Draw unknown tokens in raster order, each given all tokens before it; `start` makes the `Drawing`."""
    drawing = start(images)
    yield Step(drawing.row, drawing.row, drawing.tokens)
    while drawing.row < drawing.end:
        drawing.draw_row()
        rows = drawing.row if drawing.row < drawing.end else drawing.n_rows
        yield Step(rows, rows, drawing.tokens)
