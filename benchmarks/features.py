"""How fast are the features of every layer computed, and in how much memory, against Hugging Face's class?

    python -m benchmarks.features --size s --images 1000

Weights and images are random: speed does not depend on them. Ours is the mean over positions of each block's normalised
input; theirs is the mean of each hidden state (`output_hidden_states`), in batches of the same size; only the means are
kept. `grew_mb` is the peak memory of the process minus its memory before the first batch; to compare it, run each side
alone.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import igpt_tf as igpt
from benchmarks.sampling import peak_resident_mb, resident_mb
from benchmarks.theirs import means_of_hidden_states, new_theirs, timed


def report(**row) -> None:
    print(json.dumps({"benchmark": "features", "backend": keras.backend.backend(), **row}), flush=True)


def measure(what: str, extract: Callable[[np.ndarray], object], tokens: np.ndarray, batch_size: int, **shape) -> float:
    """Report and return images per second, without the first batch, which compiles."""
    before = resident_mb()
    extract(tokens[:batch_size])
    seconds = timed(lambda: extract(tokens))
    rate = len(tokens) / seconds
    grew = round(peak_resident_mb() - before)
    report(
        what=what,
        **shape,
        images=len(tokens),
        seconds=round(seconds, 1),
        images_per_second=round(rate, 3),
        grew_mb=grew,
    )
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(igpt.SIZES), default="s")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--layers", type=int, nargs="+", help="layers of ours (default: all)")
    parser.add_argument("--sides", nargs="+", choices=("ours", "theirs"), default=["ours", "theirs"])
    options = parser.parse_args()
    config = igpt.SIZES[options.size]
    tokens = np.random.default_rng(0).integers(0, config.n_vocab, (options.images, config.n_tokens)).astype("int32")
    shape = {"size": options.size}
    rates = {}
    if "ours" in options.sides:
        model = igpt.ImageGPT(config)
        layers = options.layers or list(range(config.n_layer + 1))
        rates["ours"] = measure(
            "ours",
            lambda part: igpt.extract_features(model, part, layers, batch_size=options.batch_size),
            tokens,
            options.batch_size,
            layers=len(layers),
            **shape,
        )
    if "theirs" in options.sides:
        theirs, _ = new_theirs(config)
        theirs.eval()
        rates["theirs"] = measure(
            "theirs",
            lambda part: means_of_hidden_states(theirs, part, options.batch_size),
            tokens,
            options.batch_size,
            layers=config.n_layer + 1,
            **shape,
        )
    if len(rates) == 2:
        report(what="ours against theirs", **shape, times=round(rates["ours"] / rates["theirs"], 2))


if __name__ == "__main__":
    main()
