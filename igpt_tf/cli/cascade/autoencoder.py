"""Train an autoencoder."""

from __future__ import annotations

import argparse
import time

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.cascade.parts import (
    add_image_options,
    add_part_options,
    add_run_options,
    open_images,
    read_config,
    rows_of,
    settings_of,
    shape_of,
    train_part,
)
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.settings import AutoencoderSettings
from igpt_tf.storage.files import check_writable

EXAMPLES = ("--data photos --out my-autoencoder", "--data photos --config autoencoder.json --out my-autoencoder")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_image_options(parser)
    add_part_options(parser, AutoencoderConfig, AutoencoderSettings)
    add_run_options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, or resume, and write the preset."""
    began = time.monotonic()
    read_config(options, AutoencoderConfig, AutoencoderSettings)
    config, settings = shape_of(options, AutoencoderConfig), settings_of(options, AutoencoderSettings)
    config.map_size(options.n_px, options.n_px)
    images = open_images(options)
    check_writable(options.out)
    load_backend(options.backend, threads=options.threads)
    import keras

    from igpt_tf.latent.autoencoder import Autoencoder
    from igpt_tf.latent.train import train_autoencoder

    rows, held = rows_of(options, *images)
    keras.utils.set_random_seed(settings.seed)
    model = Autoencoder(config, dtype="mixed_bfloat16" if options.mixed_precision else None)
    train_part(
        options,
        settings,
        began,
        lambda folder, callbacks: train_autoencoder(model, rows, settings, folder, held, callbacks),
        model.save_to_preset,
    )
