"""Train an autoencoder."""

from __future__ import annotations

import argparse
import time

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.cascade.parts import (
    add_part_options,
    add_run_options,
    read_config,
    settings_of,
    shape_of,
    train_part,
)
from igpt_tf.cli.parser import positive
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.settings import AutoencoderSettings
from igpt_tf.storage.files import check_writable

EXAMPLES = ("--data photos --out my-autoencoder", "--data photos --config autoencoder.json --out my-autoencoder")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--data", required=True, help="images: a folder, a list, .npy or .npz, a data set by name")
    add("--validation", help="images that are not trained on")
    add("--n_px", type=positive, default=64, help="height and width that the images are resized and cropped to")
    add_part_options(parser, AutoencoderConfig, AutoencoderSettings)
    add_run_options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, or resume, and write the preset."""
    began = time.monotonic()
    from igpt_tf.data.sources.open import open_source

    read_config(options, AutoencoderConfig, AutoencoderSettings)
    config, settings = shape_of(options, AutoencoderConfig), settings_of(options, AutoencoderSettings)
    config.map_size(options.n_px, options.n_px)
    images = open_source(options.data)
    others = None if options.validation is None else open_source(options.validation)
    check_writable(options.out)
    load_backend(options.backend, threads=options.threads)
    import keras

    from igpt_tf.data.image_rows import ImageRows, held_images
    from igpt_tf.latent.autoencoder import Autoencoder
    from igpt_tf.latent.train import train_autoencoder

    rows = ImageRows(images, options.n_px, progress=True)
    held = None if others is None else held_images(others, options.n_px)
    keras.utils.set_random_seed(settings.seed)
    model = Autoencoder(config, dtype="mixed_bfloat16" if options.mixed_precision else None)
    train_part(
        options,
        settings,
        began,
        lambda folder, callbacks: train_autoencoder(model, rows, settings, folder, held, callbacks),
        model.save_to_preset,
    )
