"""Finish pictures of which the first rows are given."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from igpt_tf.cli.options import (
    add_device_options,
    add_model_options,
    add_sampling_options,
    load_backend,
    non_negative,
    open_model,
    open_palette,
    positive,
)
from igpt_tf.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pictures", nargs="+", help="picture files, folders of them, or http(s) addresses")
    add_model_options(parser)
    parser.add_argument("--rows", type=non_negative, help="rows that are given (default: half of the picture)")
    parser.add_argument("--n", type=positive, default=4, help="completions of each picture")
    add_sampling_options(parser)
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Complete each picture n times; write NAME_0.png ..., and a grid row of what was seen, drawn and true."""
    load_backend()
    import numpy as np

    from igpt_tf.backend import choose_devices, device_scope
    from igpt_tf.cli.pictures import check_places, film, in_rows, seen, write_results
    from igpt_tf.data.sources import quantize
    from igpt_tf.presets import load_model
    from igpt_tf.sampling import complete, known_rows
    from igpt_tf.sampling.filters import check_filters

    check_filters(options.temperature, options.top_k, options.top_p)
    check_places(options)
    preset = open_model(options)
    palette = open_palette(options, preset)
    n_px = preset.config.n_px
    known = known_rows(n_px, n_px // 2 if options.rows is None else options.rows)
    names, originals = _read_pictures(options.pictures, n_px)
    devices = choose_devices(options.n_gpu)
    with device_scope(devices):
        model = load_model(preset)
    tokens = quantize(palette, originals)
    drawn = complete(
        model,
        tokens.repeat(options.n, axis=0),
        known,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        batch_size=options.n_sub_batch * len(devices),
        progress=True,
    )
    completions = in_rows(list(palette.dequantize(drawn)), options.n)
    given = seen(palette.dequantize(tokens), known)
    rows = [[given[i], *completions[i], originals[i]] for i in range(len(names))]
    named = {f"{name}_{k}.png": completions[i][k] for i, name in enumerate(names) for k in range(options.n)}
    frames = film(palette, drawn, np.asarray(known), options.n) if options.gif else None
    write_results(options, named, rows, frames)


def _read_pictures(sources: list[str], n_px: int) -> tuple[list[str], np.ndarray]:
    """A name that occurs once for each picture, and the pictures (N, n_px, n_px, 3)."""
    import numpy as np

    from igpt_tf.fetch.picture import read_url
    from igpt_tf.imaging import find_images, load_images, read_image, resize_and_crop

    names, pictures = [], []
    for source in sources:
        if source.lower().startswith(("http://", "https://")):
            try:
                picture = read_image(read_url(source))
            except UserError as error:
                raise error if source in str(error) else UserError(f"{source}: {error}") from error
            names.append(Path(unquote(urlsplit(source).path)).stem or "picture")
            pictures.append(resize_and_crop(picture, n_px)[None])
        else:
            files = find_images(source)
            names += [file.stem for file in files]
            pictures.append(load_images(files, n_px))
    return _distinct(names), np.concatenate(pictures)


def _distinct(names: list[str]) -> list[str]:
    """The names, those that were there before with a number behind them."""
    taken: dict[str, None] = {}
    for name in names:
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        taken[free] = None
    return list(taken)
