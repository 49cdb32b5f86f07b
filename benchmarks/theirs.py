"""What benchmarks against Hugging Face's model share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import igpt_tf as igpt


def timed(function: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def new_theirs(config: igpt.ImageGPTConfig, **changes: Any) -> tuple[Any, str]:
    """Hugging Face's model of our shape with random weights, and torch's name of the device that it is on."""
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = transformers.ImageGPTConfig(
        vocab_size=config.n_vocab + 1,
        n_positions=config.n_tokens,
        n_embd=config.n_embd,
        n_layer=config.n_layer,
        n_head=config.n_head,
        **changes,
    )
    return transformers.ImageGPTForCausalImageModeling(settings).to(device), device
