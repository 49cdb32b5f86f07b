"""Drawing images from a model: whole ones, or what is missing.

The whole algorithm, for a batch of images on one device:

    weights = network.lay_out()                           # kept while the model's weights stay the same
    first, end = rows_to_draw(known, network.grid)
    past, recent = network.prefill(tokens[:, : first * width], start)
    for row in range(first, end):
        for position in range(row * width, (row + 1) * width):
            logits, recent = network.step(weights, tokens[:, position - 1], position, past, recent)
            drawn = choose(logits, uniforms[:, position], **controls)          # temperature, filters, the draw
            tokens[:, position] = where(known[:, position], tokens[:, position], drawn)
        network.end_row(row + 1, past, recent)            # what is recent becomes past
        yield row + 1, tokens                             # smc: weigh the particles by known pixels, and resample

`Drawing` holds this state; `draw_forced`, `draw_conditioned` (smc) and `draw_beams` are the loop over rows; `Sampler`
runs one such generator per device; and `sample`, `complete` and `stream` drain them. Another network implements
`Network`; another way to pick a token is another `choose`; one that compares whole images while they are drawn uses
`Drawing.select`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from igpt_tf.sampling.api import complete, sample, sample_batches, sampler_of, stream
    from igpt_tf.sampling.controls import Controls
    from igpt_tf.sampling.network import Network
    from igpt_tf.sampling.region import known_by_mask, known_outside_box, known_rows
    from igpt_tf.sampling.sampler import Sampler

_MODULES = {
    "Controls": "controls",
    "Network": "network",
    "Sampler": "sampler",
    "complete": "api",
    "known_by_mask": "region",
    "known_outside_box": "region",
    "known_rows": "region",
    "sample": "api",
    "sample_batches": "api",
    "sampler_of": "api",
    "stream": "api",
}
__all__ = [
    "Controls",
    "Network",
    "Sampler",
    "complete",
    "known_by_mask",
    "known_outside_box",
    "known_rows",
    "sample",
    "sample_batches",
    "sampler_of",
    "stream",
]


def __getattr__(name: str) -> object:
    """Import a name's module on first use: controls and regions are checked without Keras."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"igpt_tf.sampling.{_MODULES[name]}"), name)
