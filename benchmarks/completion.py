"""What do particles buy where a hole is in the middle of a picture?

    python -m benchmarks.completion --model nano-cifar10 --data cifar10/test

The same pictures with a square hole, 12 pixels wide in pictures of 32, are completed by the forced method and by
sequential Monte Carlo. `gain` is how many nats the log-likelihood of the known pixels behind the hole's first one rises
over forced, an image, with its standard error; `seconds_an_image` is what that costs.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import igpt_tf as igpt
from igpt_tf.data.open import open_data, read_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano-cifar10")
    parser.add_argument("--data", default="examples/photos")
    parser.add_argument("--images", type=int, default=32, help="the first ones of the data")
    parser.add_argument("--particles", type=int, nargs="+", default=[1, 8, 32, 128])
    options = parser.parse_args()
    model = igpt.ImageGPT.from_preset(options.model)
    n_px = model.config.n_px
    data = read_tokens(open_data(options.data), n_px, igpt.load_palette(options.model))
    tokens = data[np.arange(min(options.images, len(data)))].astype("int32")
    inside = np.abs(np.arange(n_px) - (n_px - 1) / 2) < 3 * n_px / 16
    known = ~np.outer(inside, inside).reshape(-1)
    behind = known & (np.arange(len(known)) > np.argmin(known))

    def completed(n_particles: int, **how) -> tuple[np.ndarray, float]:
        """Nats (N,) of the known pixels behind the hole, and seconds an image, without compilation."""
        batch_size = max(32, n_particles)
        how = {**how, "n_particles": n_particles, "batch_size": batch_size}
        igpt.complete(model, tokens[: max(1, batch_size // n_particles)], known, **how)
        start = time.perf_counter()
        drawn = igpt.complete(model, tokens, known, **how)
        seconds = (time.perf_counter() - start) / len(tokens)
        return igpt.score(model, drawn, batch_size=16)[:, behind].astype("float64").sum(axis=1), seconds

    forced, seconds = completed(1, method="forced")
    shape = {"model": options.model, "images": len(tokens), "pixels_behind": int(behind.sum())}
    row = {"benchmark": "completion", "method": "forced", **shape, "nats_behind": round(forced.mean(), 2)}
    print(json.dumps({**row, "seconds_an_image": round(seconds, 2)}), flush=True)
    for n_particles in options.particles:
        nats, seconds = completed(n_particles, method="smc", seed=1)
        gains = forced - nats
        row = {
            "benchmark": "completion",
            "method": "smc",
            "particles": n_particles,
            **shape,
            "nats_behind": round(nats.mean(), 2),
            "gain": round(gains.mean(), 2),
            "standard_error": round(gains.std(ddof=1) / len(gains) ** 0.5, 2),
            "seconds_an_image": round(seconds, 2),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
