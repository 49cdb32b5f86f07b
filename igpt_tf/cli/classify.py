"""Name what pictures are of, with a fine-tuned model."""

from __future__ import annotations

import argparse
import json

from igpt_tf.cli.opening import load_backend, open_model, open_palette
from igpt_tf.cli.parser import add_device_options, add_model_options, positive
from igpt_tf.cli.program import command
from igpt_tf.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pictures", nargs="+", help="picture files, folders of them, or http(s) addresses")
    add_model_options(parser)
    parser.add_argument("--top", type=positive, default=5, help="classes to name for each picture, likeliest first")
    add_device_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> None:
    """Classify every picture and print a line for each."""
    load_backend()
    from igpt_tf.backend.devices import choose_devices, device_scope
    from igpt_tf.download.single import read_url
    from igpt_tf.model import ImageGPTClassifier
    from igpt_tf.pictures.palette import quantize
    from igpt_tf.pictures.reading import read_pictures
    from igpt_tf.scoring.evaluation import classify

    preset = open_model(options)
    if preset.n_class is None:
        raise UserError(f"{preset.source} has no trained classification head: make one with {command('finetune')}")
    palette = open_palette(options, preset)
    paths, pictures = read_pictures(options.pictures, preset.config.n_px, read_url)
    devices = choose_devices(options.n_gpu)
    with device_scope(devices):
        classifier = ImageGPTClassifier.from_preset(preset)
    tokens = quantize(palette, pictures)
    probabilities = classify(classifier, tokens, batch_size=options.n_sub_batch * len(devices))
    classes = preset.classes or [f"class {i}" for i in range(preset.n_class)]
    found = []
    for path, row in zip(paths, probabilities, strict=True):
        best = row.argsort(kind="stable")[::-1][: options.top]
        found.append({"picture": path, "classes": [{"name": classes[i], "probability": float(row[i])} for i in best]})
    if options.json:
        print(json.dumps(found))
        return
    for one in found:
        shown = ", ".join(f"{a_class['name']} {100 * a_class['probability']:.1f} %" for a_class in one["classes"])
        print(f"{one['picture']}: {shown}")
