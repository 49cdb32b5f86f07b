"""How fast are likelihoods: compiled code and NumPy's products against Keras' forward pass, on a processor?

    python -m benchmarks.scoring --size s --images 16

Random weights, batches of 8, medians over repeats after a first call. Prints one JSON line for each side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import igpt_tf as igpt
from igpt_tf.sampling.keras_network import keras_networks
from igpt_tf.sampling.native.network import NativeNetwork
from igpt_tf.weights.names import shape_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", default="nano-cifar10", help="a preset")
    which.add_argument("--size", choices=sorted(igpt.SIZES), help="random weights of this size")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = igpt.ImageGPT(igpt.SIZES[options.size]) if options.size else igpt.ImageGPT.from_preset(options.model)
    config = model.config
    tokens = np.random.default_rng(0).integers(0, config.n_vocab, (options.images, config.n_tokens)).astype("int32")
    # Products of a matrix, two operations each; and of attention, where half is seen.
    weights = sum(int(np.prod(shape)) for name, shape in shape_table(config).items() if name not in ("wpe", "wte"))
    operations = 2 * config.n_tokens * (weights + config.n_layer * config.n_tokens * config.n_embd)
    (by_keras,) = keras_networks(model)
    native = NativeNetwork(config, model.read_weight, model.classes)
    for side, network in (("native", native), ("keras", by_keras)):
        network.score(tokens[:8], None, 8)
        seconds = []
        for _ in range(options.repeats):
            begin = time.perf_counter()
            network.score(tokens, None, 8)
            seconds.append(time.perf_counter() - begin)
        rate = options.images / statistics.median(seconds)
        row = {"side": side, "model": options.size or options.model, "images": options.images}
        row |= {"images_per_second": round(rate, 3), "gflops_per_second": round(rate * operations / 1e9, 1)}
        print(json.dumps({"benchmark": "scoring", **row}), flush=True)


if __name__ == "__main__":
    main()
