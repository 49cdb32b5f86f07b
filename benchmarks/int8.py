"""What do int8 weights change in a bundled model: loss, accuracy, size and speed?

    python -m benchmarks.int8 --model nano-mnist --data mnist:test --images 200

Quantises the model by `model.quantize("int8")`. Accuracy is by likelihood given each class, where the model was trained
with classes. Prints one JSON line for each of the two models.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import igpt_tf as igpt
from igpt_tf.data.open import open_data, read_data
from igpt_tf.weights.presets import open_preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano-mnist")
    parser.add_argument("--data", default="mnist:test", help="labelled test images")
    parser.add_argument("--images", type=int, default=200, help="images whose loss is computed, spread over the data")
    parser.add_argument("--classified", type=int, default=50, help="images that are classified")
    parser.add_argument("--drawn", type=int, default=8, help="images that are drawn, in one batch")
    options = parser.parse_args()
    palette = igpt.load_palette(options.model)
    n_px = open_preset(options.model).config.n_px
    data, labels = read_data(open_data(options.data), n_px, palette)
    rows = np.linspace(0, len(data) - 1, options.images).astype(int)
    tokens = np.asarray(data[rows])
    for weights in ("float32", "int8"):
        model = igpt.ImageGPT.from_preset(options.model)
        if weights == "int8":
            model.quantize("int8")
        row: dict = {"model": options.model, "weights": weights, "images": len(tokens)}
        igpt.score(model, tokens[:16], batch_size=16)  # compiles
        started = time.perf_counter()
        row["nats"] = round(float(igpt.score(model, tokens, batch_size=16).mean()), 4)
        row["images_a_second"] = round(len(tokens) / (time.perf_counter() - started), 2)
        if model.config.n_start > 1 and labels is not None:
            some = np.arange(0, len(tokens), max(1, len(tokens) // options.classified))[: options.classified]
            found = igpt.classify(model, tokens[some], batch_size=16).argmax(axis=1)
            row |= {"classified": len(some), "accuracy": round(float(np.mean(found == labels[rows[some]])), 4)}
        igpt.sample(model, options.drawn)
        started = time.perf_counter()
        igpt.sample(model, options.drawn)
        row["seconds_to_draw"] = round(time.perf_counter() - started, 2)
        with TemporaryDirectory() as folder:
            model.save(Path(folder) / "model.keras")
            row["file_mb"] = round((Path(folder) / "model.keras").stat().st_size / 1e6, 2)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
