"""Draw images from a model."""

from __future__ import annotations

import argparse
import math

from igpt_tf.cli.options import (
    add_device_options,
    add_model_options,
    add_sampling_options,
    load_backend,
    open_model,
    open_palette,
    positive,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_model_options(parser)
    parser.add_argument("--n", type=positive, help="images to draw (default: n_sub_batch on each device)")
    add_sampling_options(parser)
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Draw the images and write sample_0.png, sample_1.png ... and their grid."""
    load_backend()
    import numpy as np

    from igpt_tf.backend import choose_devices, device_scope
    from igpt_tf.cli.pictures import check_places, film, in_rows, write_results
    from igpt_tf.presets import load_model
    from igpt_tf.sampling import sample
    from igpt_tf.sampling.filters import check_filters

    check_filters(options.temperature, options.top_k, options.top_p)
    check_places(options)
    preset = open_model(options)
    palette = open_palette(options, preset)
    devices = choose_devices(options.n_gpu)
    with device_scope(devices):
        model = load_model(preset)
    batch_size = options.n_sub_batch * len(devices)
    tokens = sample(
        model,
        options.n or batch_size,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        batch_size=batch_size,
        progress=True,
    )
    pictures = list(palette.dequantize(tokens))
    columns = math.ceil(math.sqrt(len(pictures)))
    nothing = np.zeros(tokens.shape[1], bool)
    frames = film(palette, tokens, nothing, columns) if options.gif else None
    named = {f"sample_{i}.png": picture for i, picture in enumerate(pictures)}
    write_results(options, named, in_rows(pictures, columns), frames)
