"""Images drawn batch by batch, on all devices of a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from igpt_tf.sampling.drawing import Drawing, decoders
from igpt_tf.sampling.filters import Controls, Key, draw_uniforms
from igpt_tf.sampling.workers import share

if TYPE_CHECKING:
    from igpt_tf.model.image_gpt import ImageGPT


def draw_forced(
    drawing: Callable[..., Drawing],
    tokens: np.ndarray,
    known: np.ndarray,
    keys: list[Key],
    on_rows: Callable[[int], object],
    controls: Controls,
) -> np.ndarray:
    """Tokens (B, T) with what is not known drawn in raster order from what is before it.

    Args:
        drawing: makes a `Drawing` of tokens, known, uniforms and controls.
        tokens: (B, T) int32.
        known: (B, T) booleans.
        keys: of each image's random numbers.
        on_rows: hears how many rows were finished.
        controls: what to draw from.
    """
    images = drawing(tokens, known, draw_uniforms(keys, tokens.shape[1]), controls)
    on_rows(images.row)
    while images.row < images.end:
        images.draw_row()
        on_rows(1)
    on_rows(images.n_rows - images.end)
    return images.tokens()


def draw_batches(
    model: ImageGPT,
    numbers: Iterable[int],
    size: int,
    task: Callable[[int], tuple[np.ndarray, np.ndarray, Key]],
    draw: Callable[..., np.ndarray],
    on_rows: Callable[[int], object],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers (b,) and tokens (b, T) of batches, in the order in which they are finished.

    Args:
        model: the model to draw from.
        numbers: of what is to be drawn; may be without end.
        size: of a batch on one device.
        task: from a number to tokens (T,), known (T,) and the key of the random numbers.
        draw: `draw_forced` or the like, with the controls.
        on_rows: hears how many rows of a batch were finished.
    """
    devices = decoders(model)
    weights: dict[int, dict] = {}
    waiting = iter(numbers)
    batches = iter(lambda: list(itertools.islice(waiting, size)), [])

    def work(device: int, batch: list[int], check: Callable[[], None]) -> np.ndarray:
        def report(count: int) -> None:
            check()
            on_rows(count)

        if device not in weights:
            weights[device] = devices[device].lay_out()
        # The last batch is padded, as another size would be compiled anew.
        padded = batch + batch[-1:] * (size - len(batch))
        tokens, known, keys = zip(*map(task, padded), strict=True)
        drawing = partial(Drawing, devices[device], weights[device])
        return draw(drawing, np.stack(tokens), np.stack(known), list(keys), report)[: len(batch)]

    return ((np.array(batch), tokens) for batch, tokens in share(batches, len(devices), work))
