"""How fast are the features of every layer, and in how much memory, against Hugging Face's `output_hidden_states`?

    python -m benchmarks.features --size s --images 1000

Random weights and images: speed does not depend on them. Ours is the mean over positions of what each block's norm
makes of its input; theirs is the mean of each hidden state, in batches of the same size, nothing kept but the means.
`grew_mb` is the memory of the process at its peak over what it held before the first batch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import igpt_tf as igpt
from benchmarks.sampling import peak_resident_mb, resident_mb
from benchmarks.theirs import new_theirs, timed


def report(**row) -> None:
    print(json.dumps({"benchmark": "features", "backend": keras.backend.backend(), **row}), flush=True)


def measure(what: str, extract, n_images: int, repeats: int, **shape) -> float:
    """Report and return the median of images a second; the first call, which compiles, is not counted."""
    before = resident_mb()
    first = timed(extract)
    seconds = statistics.median(timed(extract) for _ in range(repeats))
    report(
        what=what,
        **shape,
        images=n_images,
        seconds=round(seconds, 2),
        first_call_seconds=round(first, 2),
        images_per_second=round(n_images / seconds, 2),
        grew_mb=round(peak_resident_mb() - before),
    )
    return n_images / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(igpt.SIZES), default="s")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--layers", type=int, nargs="+", help="of ours; all unless told otherwise")
    parser.add_argument("--sides", nargs="+", choices=("ours", "theirs"), default=["ours", "theirs"])
    options = parser.parse_args()
    config = igpt.SIZES[options.size]
    tokens = np.random.default_rng(0).integers(0, config.n_vocab, (options.images, config.n_tokens)).astype("int32")
    shape = {"size": options.size, "batch_size": options.batch_size}
    rates = {}
    if "ours" in options.sides:
        model = igpt.ImageGPT(config)
        layers = options.layers or list(range(config.n_layer + 1))
        rates["ours"] = measure(
            "ours",
            lambda: igpt.extract_features(model, tokens, layers, batch_size=options.batch_size),
            options.images,
            options.repeats,
            layers=len(layers),
            **shape,
        )
    if "theirs" in options.sides:
        rates["theirs"] = measure(
            "theirs", theirs_on(config, tokens, options.batch_size), options.images, options.repeats, **shape
        )
    if len(rates) == 2:
        report(what="ours against theirs", **shape, times=round(rates["ours"] / rates["theirs"], 2))


def theirs_on(config: igpt.ImageGPTConfig, tokens: np.ndarray, batch_size: int):
    """A function that takes the mean of every hidden state of every image."""
    import torch

    torch.set_num_threads(os.cpu_count())
    theirs, device = new_theirs(config)
    theirs.eval()

    def extract() -> np.ndarray:
        means = []
        with torch.no_grad():
            for start in range(0, len(tokens), batch_size):
                inputs = torch.tensor(tokens[start : start + batch_size], dtype=torch.long, device=device)
                states = theirs.transformer(inputs, output_hidden_states=True).hidden_states
                means.append(np.stack([state.mean(1).cpu().numpy() for state in states]))
        return np.concatenate(means, axis=1)

    return extract


if __name__ == "__main__":
    main()
