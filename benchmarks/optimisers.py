"""Which optimiser learns most from the same images, and from the same time?

    python -m benchmarks.optimisers --data cifar-train --test_data cifar-test --shape nano
    python -m benchmarks.optimisers --data cifar-train --test_data cifar-test --shape flagship --steps 100

Every row is a whole training run: warm-up, a cosine to 0, flipped images, the same order and the same initial weights;
its loss is measured on the first test images. First each optimiser gets the same number of steps: Adam with the paper's
second decay of 0.95, Adam with one that remembers as many images as 0.95 does at the paper's batch of 128, and Muon,
each at two learning rates. Then steps of both optimisers take turns, for their time, and the best Adam is trained again
with the steps that fit into Muon's time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import igpt_tf as igpt
from benchmarks.shapes import SHAPES
from benchmarks.theirs import timed
from igpt_tf.backend.devices import computes_bfloat16, jit_compile
from igpt_tf.data.open import open_data, read_tokens
from igpt_tf.training.optimizer import new_optimizer
from igpt_tf.training.pretrain import new_model, pretrain
from igpt_tf.training.settings import PretrainSettings, scaled_beta2

ADAM_RATES, MUON_RATES = (2e-3, 4e-3), (4e-3, 1e-2)


def report(**row) -> None:
    print(json.dumps({"benchmark": "optimisers", **row}), flush=True)


def seconds_a_step(config: igpt.ImageGPTConfig, sides: list[PretrainSettings], tokens: np.ndarray, repeats: int):
    """The median time of a step with each of these settings, which take turns."""
    times = [[] for _ in sides]
    models = []
    for settings in sides:
        model = new_model(config, mixed_precision=computes_bfloat16())
        optimizer = new_optimizer(settings, n_steps=1_000_000, warmup=0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=jit_compile())
        models.append(model)
    for i in range(repeats + 1):
        for model, side in zip(models, times, strict=True):
            seconds = timed(lambda model=model: float(model.train_on_batch(tokens, tokens)))
            if i:  # the first step is traced
                side.append(seconds)
    return [statistics.median(side) for side in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="images to learn from: all that `pretrain --data` takes")
    parser.add_argument("--test_data", required=True, help="images to measure the loss on")
    parser.add_argument("--palette", default="nano-cifar10", help="preset whose colours are used")
    parser.add_argument("--shape", choices=("nano", "flagship"), default="nano")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--test_images", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=10, help="steps of each optimiser that are timed")
    options = parser.parse_args()

    palette = igpt.load_palette(options.palette)
    config = SHAPES[options.shape]
    train, test = (
        read_tokens(open_data(path), config.n_px, palette, config.n_vocab) for path in (options.data, options.test_data)
    )
    test = np.asarray(test[: options.test_images], "int32")

    def settings(optimizer: str, beta2: float, rate: float, steps: int = options.steps) -> PretrainSettings:
        return PretrainSettings(
            optimizer=optimizer,
            beta2=beta2,
            learning_rate=rate,
            steps=steps,
            batch_size=options.batch_size,
            augment=("flip",),
        )

    def loss_of(run: PretrainSettings, **row) -> float:
        keras.utils.set_random_seed(0)
        model = new_model(config, mixed_precision=computes_bfloat16())
        with tempfile.TemporaryDirectory() as folder:
            pretrain(model, train, run, folder)
        nats = igpt.evaluate(model, test, batch_size=options.batch_size).nats
        report(
            shape=options.shape,
            optimizer=run.optimizer,
            beta2=run.beta2,
            learning_rate=run.learning_rate,
            images=run.steps * run.batch_size,
            test_nats=round(nats, 4),
            **row,
        )
        return nats

    scaled = round(scaled_beta2(options.batch_size), 4)
    sides = [("adam", beta2, rate) for beta2 in (0.95, scaled) for rate in ADAM_RATES]
    sides += [("muon", scaled, rate) for rate in MUON_RATES]
    losses = {side: loss_of(settings(*side), what="equal data") for side in sides}

    batch = np.asarray(train[: options.batch_size], "int32")
    adam, muon = (min((s for s in sides if s[0] == name), key=losses.__getitem__) for name in ("adam", "muon"))
    seconds = seconds_a_step(config, [settings(*adam), settings(*muon)], batch, options.repeats)
    report(shape=options.shape, what="a step", seconds_adam=round(seconds[0], 3), seconds_muon=round(seconds[1], 3))
    more = round(options.steps * seconds[1] / seconds[0])
    loss_of(settings(*adam, steps=more), what="equal time, beside the best Muon")


if __name__ == "__main__":
    main()
