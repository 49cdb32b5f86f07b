"""The images of a data set that are nearest to pictures in the space of a model's features."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from igpt_tf.cli.console import report
from igpt_tf.cli.memory import bytes_to_predict, require_memory
from igpt_tf.cli.opening import load_model, open_model
from igpt_tf.cli.parser import add_device_options, add_model_options, non_negative, positive
from igpt_tf.cli.score import read_images
from igpt_tf.cli.source import add_key_options
from igpt_tf.errors import UsageError
from igpt_tf.storage.files import check_outputs

EXAMPLES = ("photo.jpg --data cifar10", "out/samples --data photos.tokens --n 8 --out nearest.png")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("pictures", nargs="+", help="picture files, folders of them, or http(s) addresses")
    add_model_options(parser)
    add("--data", required=True, help="the images to choose from: a token store, or any other source, such as cifar10")
    add_key_options(parser)
    add("--limit", type=positive, help="only this many images of the data, from the first")
    add("--n", type=positive, default=5, help="number of images for each picture")
    add("--layer", type=non_negative, help="layer whose features are compared (default: the middle one)")
    add("--out", type=Path, default=Path("neighbours.png"), help="figure: each picture, then what is nearest to it")
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Find the images, write the figure and print a line for each picture."""
    preset = open_model(options)
    layer = preset.config.n_layer // 2 if options.layer is None else options.layer
    if layer > preset.config.n_layer:
        raise UsageError(f"--layer: expected a number from 0 to {preset.config.n_layer}, got {layer}")
    check_outputs([options.out], options.pictures)
    paths, pictures, palette = read_images(options, preset, None)
    names, tokens, _ = read_images(options, preset, options.data)
    model, batch_size = load_model(options, preset)
    require_memory(min(batch_size, len(tokens)), bytes_to_predict(preset.config), "--n_sub_batch")
    from igpt_tf.pictures.figures import name_cells
    from igpt_tf.pictures.writing import grid, write_png
    from igpt_tf.probing.features import extract_features
    from igpt_tf.probing.neighbours import nearest_images

    assert paths is not None and palette is not None
    features = extract_features(model, tokens, [layer], batch_size=batch_size, progress=True)[0]
    queries = extract_features(model, pictures, [layer], batch_size=batch_size)[0]
    nearest, similarity = nearest_images(features, queries, options.n)
    found = [
        [{"image": names[i] if names else int(i), "similarity": float(one)} for i, one in zip(row, values, strict=True)]
        for row, values in zip(nearest, similarity, strict=True)
    ]
    shown = [np.concatenate([pictures[i : i + 1], tokens[row]]) for i, row in enumerate(nearest)]
    images = [list(palette.dequantize(row)) for row in shown]
    cells = [[Path(path).name, *(f"{one:.3f}" for one in row)] for path, row in zip(paths, similarity, strict=True)]
    scale = max(1, 128 // preset.config.n_px)
    write_png(options.out, name_cells(grid(images, scale=scale), cells))
    lines = [
        f"{path}: " + ", ".join(f"{one['image']} {one['similarity']:.3f}" for one in row)
        for path, row in zip(paths, found, strict=True)
    ]
    result = [{"picture": path, "nearest": row} for path, row in zip(paths, found, strict=True)]
    report(options, {"figure": str(options.out), "layer": layer, "pictures": result}, *lines, str(options.out))
