"""How many images differ, by rounding alone, between two batch sizes?

    python -m benchmarks.reproducible --size s --images 64 --rows 32 --batch_size 8 16

Every image draws the same random numbers whatever its batch; what differs is the order in which sums are taken. Draws
the last rows of images whose first rows, if any, are noise, with random weights and logits as wide as
a trained model's.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import igpt_tf as igpt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(igpt.SIZES), default="s")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rows", type=int, default=4, help="that are drawn")
    parser.add_argument("--batch_size", type=int, nargs=2, default=[8, 16])
    options = parser.parse_args()
    model = igpt.ImageGPT(igpt.SIZES[options.size])
    config = model.config
    rng = np.random.default_rng(0)
    # The norm before it gives features of size 1, so that logits have a standard deviation of 2.
    model.wtet.assign(rng.normal(0, 2 / config.n_embd**0.5, model.wtet.shape))
    tokens = rng.integers(0, config.n_vocab, (options.images, config.n_tokens))
    known = igpt.known_rows(config.n_px, config.n_px - options.rows)
    first, second = (igpt.complete(model, tokens, known, batch_size=size) for size in options.batch_size)
    row = {
        "benchmark": "reproducible",
        "backend": keras.backend.backend(),
        "size": options.size,
        "images": options.images,
        "rows": options.rows,
        "batch_sizes": options.batch_size,
        "images_that_differ": int((first != second).any(axis=1).sum()),
        "pixels_that_differ": int((first != second).sum()),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
