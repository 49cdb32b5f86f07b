"""Likelihoods of images, as numbers and as maps, and how well they tell two sets of images apart."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igpt_tf.cli.console import report
from igpt_tf.cli.memory import bytes_to_predict, require_memory
from igpt_tf.cli.opening import NO_LIKELIHOOD, load_networks, open_model, open_palette, refuse_bert, resolve_palette
from igpt_tf.cli.parser import add_device_options, add_model_options, add_processor_options, positive
from igpt_tf.cli.source import add_key_options, open_images, refuse_inside
from igpt_tf.errors import UsageError
from igpt_tf.storage.files import check_outputs

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.data.tokens import Tokens
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.sampling.network import Network
    from igpt_tf.weights.presets import Preset

EXAMPLES = ("photo.jpg --map maps", "--data cifar10:test --against mnist:test --histogram both.png")
COLUMNS: tuple[str, ...] = ("image", "nats_per_token", "bits_per_token", "bits_per_dimension")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("pictures", nargs="*", help="picture files, folders of them, or http(s) addresses")
    add_model_options(parser)
    add("--data", help="in place of pictures: a token store, or any other source, such as cifar10:test")
    add_key_options(parser)
    add("--limit", type=positive, help="only this many images of the data, from the first")
    add("--csv", type=Path, help="write a line for each image to this file")
    add("--map", type=Path, help="folder for a map of each image's surprise, in nats per pixel")
    add("--against", help="other images, a source as for --data: how well likelihoods tell the two apart")
    add("--histogram", type=Path, help="with --against: write a histogram of both to this .png")
    add_device_options(parser)
    add_processor_options(parser)


def run(options: argparse.Namespace) -> None:
    """Score every image and print a line for each picture, or for all data."""
    if bool(options.pictures) == (options.data is not None):
        raise UsageError("expected pictures or --data, got " + ("both" if options.pictures else "neither"))
    if options.limit is not None and options.data is None and options.against is None:
        raise UsageError("--limit: expected --data with it, got pictures alone: leave it out")
    if options.histogram is not None and options.against is None:
        raise UsageError("--histogram: expected --against with it, got none: name the other images")
    if options.against is not None and (options.csv or options.map):
        raise UsageError("--against: expected it without --csv and --map, got one of these: score the images first")
    preset = open_model(options)
    refuse_bert(preset, NO_LIKELIHOOD)
    check_outputs([path for path in (options.csv, options.histogram) if path is not None], options.pictures)
    if options.map is not None:
        refuse_inside(options.map, options.data, *options.pictures, option="--map")
    names, tokens, palette = read_images(options, preset, options.data)
    others = None if options.against is None else read_images(options, preset, options.against)[1]
    (network, *_), batch_size = load_networks(options, preset)
    require_memory(min(batch_size, len(tokens)), bytes_to_predict(preset.config), "--n_sub_batch")
    if others is not None:
        _compare(options, network, batch_size, tokens, others, palette)
    else:
        _score(options, network, batch_size, names, tokens, palette)


def read_images(
    options: argparse.Namespace, preset: Preset, data: str | None
) -> tuple[list[str] | None, Tokens, Palette | None]:
    """The paths of pictures, None for images that have none; their tokens; and the palette, where there is one.

    Args:
        options: those of the command: pictures, limit, palette.
        preset: the model that reads the images.
        data: a source; None: the pictures.
    """
    import numpy as np

    if data is None:
        from igpt_tf.download.http import read_url
        from igpt_tf.pictures.palette import quantize
        from igpt_tf.pictures.reading import read_pictures

        palette = open_palette(options, preset)
        paths, pictures = read_pictures(options.pictures, preset.config.n_px, read_url)
        return paths, quantize(palette, pictures), palette
    from igpt_tf.data.labelled import TokenRows
    from igpt_tf.data.open import read_tokens

    images = open_images(options, data)
    palette = resolve_palette(options, preset, images)
    tokens = read_tokens(images, preset.config.n_px, palette, preset.config.n_vocab)
    items = getattr(images, "items", None)
    # Where some could not be read, their names would belong to others.
    paths = [str(path) for path in items] if isinstance(items, list) and len(items) == len(tokens) else None
    if options.limit is not None:
        tokens = TokenRows(tokens, np.arange(len(tokens))[: options.limit])
    return paths, tokens, palette


def _score(
    options: argparse.Namespace,
    network: Network,
    batch_size: int,
    names: list[str] | None,
    tokens: Tokens,
    palette: Palette | None,
) -> None:
    from igpt_tf.pictures.reading import names_of
    from igpt_tf.scoring.likelihood import stream_nats
    from igpt_tf.storage.files import atomic_write

    if palette is None and options.map is not None:
        raise UsageError("--map: expected a palette to draw the images with, got none: give --palette")
    files = names_of(names) if names else [f"{i:06d}" for i in range(len(tokens))]
    n_channels = 3 if palette is None else palette.n_channels
    rows: list[dict[str, Any]] = []
    total = 0.0
    with contextlib.ExitStack() as stack:
        table = None
        if options.csv is not None:
            text = io.TextIOWrapper(stack.enter_context(atomic_write(options.csv)), "utf-8", newline="")
            stack.callback(text.detach)
            table = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
            table.writeheader()
        done = 0
        for part, nats in stream_nats(network, tokens, batch_size, progress=True):
            for i, (row, surprise) in enumerate(zip(part, nats, strict=True), done):
                found = _fields(names[i] if names else str(i), surprise, n_channels)
                total += found["nats_per_token"]
                if options.pictures:
                    rows.append(found)
                if table is not None:
                    table.writerow(found)
                if options.map is not None and palette is not None:
                    image = palette.dequantize(row[None])[0]
                    path = options.map / f"{files[i]}.png"
                    from igpt_tf.scoring.plots import draw_surprise

                    draw_surprise(path, image, surprise.reshape(image.shape[:2]), float(surprise.max()))
            done += len(part)
    mean = total / len(tokens)
    result = {"images": len(tokens), **_numbers(mean, n_channels)}
    lines = [_line(one["image"], one) for one in rows]
    if len(rows) != 1:
        lines.append(_line(f"mean of {len(tokens)} images", result))
    report(options, {**result, "scores": rows} if options.pictures else result, *lines)


def _numbers(nats: float, n_channels: int) -> dict[str, float]:
    bits = nats / 0.6931471805599453
    return {"nats_per_token": nats, "bits_per_token": bits, "bits_per_dimension": bits / n_channels}


def _fields(name: str, nats: np.ndarray, n_channels: int) -> dict[str, Any]:
    return {"image": name, **_numbers(float(nats.astype("float64").mean()), n_channels)}


def _line(name: str, found: dict[str, Any]) -> str:
    return (
        f"{name}: {found['nats_per_token']:.4f} nats/token, {found['bits_per_token']:.4f} bits/token, "
        f"{found['bits_per_dimension']:.4f} bits/dimension of the quantised picture"
    )


def _compare(
    options: argparse.Namespace,
    network: Network,
    batch_size: int,
    tokens: Tokens,
    others: Tokens,
    palette: Palette | None,
) -> None:
    from igpt_tf.scoring.likelihood import image_scores, roc_area

    if palette is None:
        raise UsageError("--against: expected a palette, to write the images as PNG, got none: give --palette")
    inside = image_scores(network, tokens, palette, batch_size, progress=True)
    outside = image_scores(network, others, palette, batch_size, progress=True)
    kinds = ("likelihood", "likelihood minus PNG")
    areas = {kind: roc_area(one, two) for kind, one, two in zip(kinds, inside, outside, strict=True)}
    if options.histogram is not None:
        from igpt_tf.scoring.plots import draw_histograms

        panels = {
            f"{kind}: area {areas[kind]:.3f}": (one, two) for kind, one, two in zip(kinds, inside, outside, strict=True)
        }
        source = options.data or ", ".join(options.pictures)
        draw_histograms(options.histogram, panels, (source, options.against))
    result = {
        "images": [len(tokens), len(others)],
        "auroc_likelihood": areas[kinds[0]],
        "auroc_likelihood_minus_png": areas[kinds[1]],
    }
    lines = [f"area under the ROC curve by {kind}: {area:.4f}" for kind, area in areas.items()]
    report(options, result, *lines)
