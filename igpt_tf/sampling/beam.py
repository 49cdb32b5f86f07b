"""Beam search: the likeliest image that a search over the likeliest beginnings finds; nothing is drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from igpt_tf.sampling.drawing import Drawing, Image, Step


def draw_beams(start: Callable[[Sequence[Image]], Drawing], images: Sequence[Image], beam_width: int) -> Iterator[Step]:
    """Find likely values of the unknown tokens given all known ones; `start` makes the `Drawing`.

    After every token the `beam_width` likeliest beginnings of each image are kept, known tokens included in the
    likelihood. Until the last row a step shows the likeliest, and no row below the first unknown token is final.

    Source: Lowerre, "The Harpy speech recognition system" (1976).
    """
    beams = start([image for image in images for _ in range(beam_width)])
    first_row, n_rows = beams.row, beams.n_rows
    # Beams that begin alike would stay alike: all but one of each image are impossible.
    scores = np.full((len(images), beam_width), -np.inf, "float32")
    scores[:, 0] = 0.0

    def likeliest() -> np.ndarray:
        return beams.tokens()[::beam_width]

    while beams.row < n_rows:
        yield Step(beams.row, first_row, likeliest)
        scores = beams.search_row(scores)
    yield Step(n_rows, n_rows, likeliest)
