"""How many images differ, by rounding alone, between ways to draw the same ones?

    python -m benchmarks.reproducible --model nano-cifar10 --images 64 --data cifar10:test
    python -m benchmarks.reproducible --size s --images 64

Every image draws the same random numbers in whatever way it is drawn. The first row has compiled code in float32,
batches of 8 and all threads; each other one changes one thing, and counts the images and pixels that differ from it.
With `--data`, which needs the model's palette, a row also has the nats per token of test images. `--size` stands for
random weights, with logits as wide as a trained model's. One JSON line a row.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import igpt_tf as igpt
from igpt_tf.data.open import open_data, read_data
from igpt_tf.sampling.keras_network import keras_networks
from igpt_tf.sampling.native.network import NativeNetwork

WAYS = {
    "compiled, float32, batch 8": ({}, 8),
    "batch 16": ({}, 16),
    "one thread": ({"threads": 1}, 8),
    "Keras": (None, 8),
    "bfloat16": ({"storage": "bfloat16"}, 8),
    "int8": ({"storage": "int8"}, 8),
}


def new_model(size: str) -> igpt.ImageGPT:
    """Random weights; the last norm gives features of size 1, so that logits have a standard deviation of 2."""
    model = igpt.ImageGPT(igpt.SIZES[size])
    shape = model.wtet.shape
    model.wtet.assign(np.random.default_rng(0).normal(0, 2 / shape[1] ** 0.5, shape))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", default="nano-cifar10", help="a preset")
    which.add_argument("--size", choices=sorted(igpt.SIZES), help="random weights of this size")
    parser.add_argument("--images", type=int, default=64, help="images that are drawn")
    parser.add_argument("--data", help="test images")
    parser.add_argument("--scored", type=int, default=200, help="how many of them are scored, spread over the data")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    options = parser.parse_args()
    model = new_model(options.size) if options.size else igpt.ImageGPT.from_preset(options.model)
    config, tokens = model.config, None
    if options.data:
        data, _ = read_data(open_data(options.data), config.n_px, igpt.load_palette(options.model))
        tokens = np.asarray(data[np.linspace(0, len(data) - 1, options.scored).astype(int)])
    first, nats = None, None
    for way in options.ways:
        how, batch_size = WAYS[way]
        if how is None:
            (network,) = keras_networks(model)
        else:
            network = NativeNetwork(config, model.read_weight, model.classes, **how)
        begin = time.perf_counter()
        drawn = igpt.Sampler([network]).sample(options.images, batch_size=batch_size)
        row = {"model": options.size or options.model, "way": way, "seconds": round(time.perf_counter() - begin, 1)}
        first = drawn if first is None else first
        row |= {
            "images": len(drawn),
            "images_that_differ": int((first != drawn).any(axis=1).sum()),
            "pixels_that_differ": int((first != drawn).sum()),
        }
        if tokens is not None:
            found = network.score(tokens, None, 8)
            nats = found if nats is None else nats
            row |= {"nats_per_token": round(float(found.mean(dtype="float64")), 6), "scored": len(tokens)}
            row["largest_difference_of_an_image"] = round(float(np.abs((found - nats).mean(axis=1)).max()), 6)
        print(json.dumps({"benchmark": "reproducible", **row}), flush=True)


if __name__ == "__main__":
    main()
