"""How well does a small convolutional network do that never saw an image without its label?

    python -m benchmarks.supervised --model nano-mnist --data mnist-train --test_data mnist-test --epochs 3

It has about as many weights as the model, and learns from the colours that the model's palette leaves: three times two
convolutions with batch norm and a maximum over 2x2 between, then the mean over positions and a linear head; Adam, a
cosine from 0.002, shifts by up to 2 pixels and, with --flip, mirror images.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import igpt_tf as igpt
from igpt_tf.data.open import open_data, read_labelled


def new_network(shape: tuple[int, ...], n_class: int, width: int, flip: bool) -> keras.Model:
    """A network of three stages, each twice as wide as the one before."""
    x = inputs = keras.Input(shape)
    if flip:
        x = keras.layers.RandomFlip("horizontal", seed=0)(x)
    x = keras.layers.RandomTranslation(2 / shape[0], 2 / shape[1], interpolation="nearest", seed=0)(x)
    for stage in range(3):
        for _ in range(2):
            x = keras.layers.Conv2D(width * 2**stage, 3, padding="same", use_bias=False)(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        if stage < 2:
            x = keras.layers.MaxPool2D()(x)
    return keras.Model(inputs, keras.layers.Dense(n_class)(keras.layers.GlobalAveragePooling2D()(x)))


def of_size(n_weights: int, shape: tuple[int, ...], n_class: int, flip: bool) -> keras.Model:
    """The widest network of no more weights."""
    width = 4
    while new_network(shape, n_class, width + 1, flip).count_params() <= n_weights:
        width += 1
    return new_network(shape, n_class, width, flip)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano-mnist")
    parser.add_argument("--data", required=True, help="token store to learn from")
    parser.add_argument("--test_data", required=True, help="token store to judge on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--flip", action="store_true")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    model, palette = igpt.ImageGPT.from_preset(options.model), igpt.load_palette(options.model)
    config = model.config
    parts = [
        read_labelled(open_data(path), config.n_px, palette, config.n_vocab)
        for path in (options.data, options.test_data)
    ]
    images = []
    for part in parts:
        colors = palette.dequantize(np.asarray(part.tokens[:], "int32"))
        images.append((colors.reshape(len(part), config.n_px, config.n_px, -1) / np.float32(127.5)) - 1)
    train, test = parts
    network = of_size(model.count_params(), images[0].shape[1:], train.n_class, options.flip)
    steps = options.epochs * -(-len(train) // options.batch_size)
    network.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    start = time.perf_counter()
    network.fit(images[0], train.labels, batch_size=options.batch_size, epochs=options.epochs, verbose=2)
    seconds = time.perf_counter() - start
    accuracy = network.evaluate(images[1], test.labels, batch_size=256, verbose=0, return_dict=True)["accuracy"]
    row = {
        "benchmark": "supervised",
        "backend": keras.backend.backend(),
        "like": options.model,
        "weights": network.count_params(),
        "weights_of_model": model.count_params(),
        "epochs": options.epochs,
        "images": len(train),
        "test_images": len(test),
        "seconds": round(seconds),
        "test_percent": round(100 * accuracy, 2),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
