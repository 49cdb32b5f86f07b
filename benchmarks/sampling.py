"""How fast is the cached, compiled sampler, against running the whole network for every pixel?

    python -m benchmarks.sampling --size s --batch_size 8

Random weights: speed does not depend on them. The naive side is timed over a few pixels, as every pixel costs the
same; its tokens per second are those of these pixels.
"""

import argparse
import json
import os
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import igpt_tf as igpt


def report(**row):
    machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    print(json.dumps({"benchmark": "sampling", "backend": keras.backend.backend(), **row, **machine}), flush=True)


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def naive_pixel(model, tokens):
    """What the original does for each pixel: the logits of all positions, of which it uses one."""
    return np.asarray(model.predict_on_batch(tokens))[:, -1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(igpt.SIZES), default="s")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    config = igpt.SIZES[options.size]
    model = igpt.ImageGPT(config)
    shape = {"size": options.size, "batch_size": options.batch_size, "tokens": config.n_tokens}
    drawn = options.batch_size * config.n_tokens

    def draw():
        igpt.sample(model, options.batch_size, batch_size=options.batch_size)

    first = timed(draw)
    report(what="cached, first call with compilation", **shape, seconds=round(first, 2))
    seconds = statistics.median(timed(draw) for _ in range(options.repeats))
    report(what="cached", **shape, seconds=round(seconds, 2), tokens_per_second=round(drawn / seconds, 1))

    tokens = np.zeros((options.batch_size, config.n_tokens), "int32")
    naive_pixel(model, tokens)
    pixel = statistics.median(timed(lambda: naive_pixel(model, tokens)) for _ in range(options.repeats))
    report(
        what="naive, one pixel of each image",
        **shape,
        seconds=round(pixel, 3),
        tokens_per_second=round(options.batch_size / pixel, 2),
    )


if __name__ == "__main__":
    main()
