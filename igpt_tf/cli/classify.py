"""Name what pictures are of."""

from __future__ import annotations

import argparse

from igpt_tf.cli.console import remark, report
from igpt_tf.cli.memory import bytes_to_predict, require_memory
from igpt_tf.cli.opening import load_model, open_model, open_palette
from igpt_tf.cli.parser import add_device_options, add_model_options, positive
from igpt_tf.cli.program import command
from igpt_tf.errors import UserError

EXAMPLES = ("photo.jpg", "--model pets-classifier photos --top 1 --json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pictures", nargs="+", help="picture files, folders of them, or http(s) addresses")
    add_model_options(parser)
    parser.add_argument("--top", type=positive, default=5, help="classes to name for each picture, likeliest first")
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Classify every picture and print a line for each."""
    preset = open_model(options)
    from igpt_tf.download.http import read_url
    from igpt_tf.pictures.palette import quantize
    from igpt_tf.pictures.reading import read_pictures

    has_head = preset.n_class is not None
    if not has_head and preset.config.n_start == 1:
        raise UserError(
            f"{preset.source}: expected a trained classification head, or a model that was trained with classes, got "
            f"neither: make a head with {command(f'finetune --model {options.model} --data FOLDER --out CLASSIFIER')}, "
            "where FOLDER has a subfolder of pictures for each class, and give --model CLASSIFIER here"
        )
    palette = open_palette(options, preset)
    paths, pictures = read_pictures(options.pictures, preset.config.n_px, read_url)
    if not has_head:
        remark(f"{preset.source} has no classification head: pictures are of the class that makes them likeliest")
    model, batch_size = load_model(options, preset, has_head)
    from igpt_tf.scoring.classes import classify

    require_memory(min(batch_size, len(pictures)), bytes_to_predict(preset.config), "--n_sub_batch")
    probabilities = classify(model, quantize(palette, pictures), batch_size=batch_size, progress=True)
    names = preset.classes if has_head else preset.start_classes
    classes = names or [f"class {i}" for i in range(probabilities.shape[1])]
    found, lines = [], []
    for path, row in zip(paths, probabilities, strict=True):
        best = row.argsort(kind="stable")[::-1][: options.top]
        found.append({"picture": path, "classes": [{"name": classes[i], "probability": float(row[i])} for i in best]})
        lines.append(f"{path}: " + ", ".join(f"{classes[i]} {100 * row[i]:.1f} %" for i in best))
    report(options, found, *lines)
