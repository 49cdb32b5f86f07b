"""What benchmarks against Hugging Face's model share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

import igpt_tf as igpt
from igpt_tf.weights.names import named_arrays


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


def put_weights(theirs: Any, model: igpt.ImageGPT) -> None:
    """Give Hugging Face's model, of the same shape, the weights of an autoregressive one of ours."""
    import torch

    config, weights = model.config, named_arrays(model)
    width = config.n_embd
    state = {
        "lm_head.weight": weights["wtet"],
        "transformer.wpe.weight": weights["wpe"],
        # The start of a sequence is one more colour.
        "transformer.wte.weight": np.concatenate([weights["wte"], weights["sos"][None]]),
        "transformer.ln_f.weight": weights["ln_f/g"],
    }
    for i in range(config.n_layer):
        block = f"transformer.h.{i}"
        # (H, E, D), from D to H heads of E, is (D, H E) there; q, k and v lie side by side.
        projections = [weights[f"h{i}/attn/{name}_proj"].reshape(width, width).T for name in "qkv"]
        state |= {
            f"{block}.ln_1.weight": weights[f"h{i}/ln_1/g"],
            f"{block}.ln_2.weight": weights[f"h{i}/ln_2/g"],
            f"{block}.attn.c_attn.weight": np.concatenate(projections, axis=1),
            f"{block}.attn.c_attn.bias": np.zeros(3 * width),
            f"{block}.attn.c_proj.weight": weights[f"h{i}/attn/c_proj"].reshape(width, width),
            f"{block}.attn.c_proj.bias": np.zeros(width),
            f"{block}.mlp.c_fc.weight": weights[f"h{i}/mlp/c_fc/w"],
            f"{block}.mlp.c_fc.bias": np.zeros(4 * width),
            f"{block}.mlp.c_proj.weight": weights[f"h{i}/mlp/c_proj/w"],
            f"{block}.mlp.c_proj.bias": np.zeros(width),
        }
    theirs.load_state_dict({name: torch.tensor(array, dtype=torch.float32) for name, array in state.items()})


def means_of_hidden_states(theirs: Any, tokens: np.ndarray, batch_size: int) -> np.ndarray:
    """Mean over positions of every hidden state of Hugging Face's model: tokens (N, T) to (L + 1, N, D).

    The tokens are the inputs as they are, and nothing is kept but the means.
    """
    import torch

    torch.set_num_threads(os.cpu_count())
    device = next(theirs.parameters()).device
    means = []
    with torch.no_grad():
        for start in tqdm(range(0, len(tokens), batch_size), unit="batch", desc="theirs", leave=False):
            inputs = torch.tensor(tokens[start : start + batch_size], dtype=torch.long, device=device)
            states = theirs.transformer(inputs, output_hidden_states=True).hidden_states
            means.append(np.stack([state.mean(1).cpu().numpy() for state in states]))
    return np.concatenate(means, axis=1)
