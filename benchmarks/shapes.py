"""The shapes of model that the benchmarks take by name: the paper's, and those of the bundled models."""

from __future__ import annotations

import igpt_tf as igpt

SHAPES = {
    **igpt.SIZES,
    "nano": igpt.ImageGPTConfig(n_px=32, n_vocab=512, n_layer=4, n_embd=128, n_head=4),
    "flagship": igpt.ImageGPTConfig(n_px=32, n_vocab=512, n_layer=12, n_embd=256, n_head=4),
}
