"""A batch of images drawn row by row on one device."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalSubscript=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from igpt_tf.model.objectives import token_nats
from igpt_tf.sampling.controls import Controls
from igpt_tf.sampling.keys import Key, draw_uniforms
from igpt_tf.sampling.network import Network, Weights


class Image(NamedTuple):
    """An image to draw.

    Attributes:
        tokens: (T,) int32.
        known: (T,) booleans.
        key: of its random numbers.
        start: what it begins with: a class, or 0 for none.
    """

    tokens: np.ndarray
    known: np.ndarray
    key: Key
    start: int


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
        self.select = network.compile(lambda chosen, arrays: tuple(ops.take(array, chosen, axis=0) for array in arrays))

    def _decode_row(
        self, weights: Weights, controls: dict, given: dict, tokens: Any, past: list, recent: list, row: Any
    ) -> tuple[Any, list, Any]:
        """Draw one row of pixels; returns tokens (B, T), the recent cache with the row in it, and nats (B,).

        The nats are those of the row's known tokens under the model, whatever the controls.
        """
        known, uniforms = given["known"], given["uniforms"]  # (B, T)
        width = self.network.grid[1]
        first = row * width

        def decode_pixel(i, state):
            tokens, recent, nats = state
            position = first + i
            previous = ops.where(position > 0, ops.take(tokens, ops.maximum(position - 1, 0), axis=1), given["start"])
            logits, recent = self.network.step(weights, previous, position, past, recent)
            is_known, token = ops.take(known, position, axis=1), ops.take(tokens, position, axis=1)
            drawn = self._choose(logits, ops.take(uniforms, position, axis=1), **controls)
            nats = nats + ops.where(is_known, token_nats(token, logits), 0.0)
            token = ops.where(is_known, token, drawn)
            return ops.slice_update(tokens, (0, position), token[:, None]), recent, nats

        return self.network.loop(width, decode_pixel, (tokens, recent, ops.zeros_like(uniforms[:, 0])))


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
        self.row += 1
        if self.row < self.n_rows:
            self._network.end_row(self.row, self._past, self._recent)
        return np.asarray(ops.convert_to_numpy(nats))

    def select(self, chosen: np.ndarray) -> None:
        """Replace the images by those with these numbers, (B,) integers; the random numbers stay with their places."""
        numbers = self._network.put(np.asarray(chosen, "int32"))
        (self._tokens,) = self._programs.select(numbers, (self._tokens,))
        for part in (self._past, self._recent):
            for i, cache in enumerate(part):
                part[i] = self._programs.select(numbers, cache)

    def tokens(self) -> np.ndarray:
        """(B, T) int32, drawn up to `row`."""
        return np.asarray(ops.convert_to_numpy(self._tokens))


def draw_forced(start: Callable[[Sequence[Image]], Drawing], images: Sequence[Image]) -> Iterator[Step]:
    """Draw unknown tokens in raster order, each given all tokens before it; `start` makes the `Drawing`."""
    drawing = start(images)
    yield Step(drawing.row, drawing.row, drawing.tokens)
    while drawing.row < drawing.end:
        drawing.draw_row()
        rows = drawing.row if drawing.row < drawing.end else drawing.n_rows
        yield Step(rows, rows, drawing.tokens)
