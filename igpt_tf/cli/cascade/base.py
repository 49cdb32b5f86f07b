"""Train the model that draws the codes of stage 1, given the code of the whole map."""

from __future__ import annotations

import argparse
import time

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.cascade.parts import (
    add_code_options,
    add_part_options,
    add_run_options,
    load_pair,
    read_config,
    settings_of,
    shape_of,
    train_part,
)
from igpt_tf.latent.settings import BaseSettings
from igpt_tf.latent.shapes import BaseShape
from igpt_tf.storage.files import check_writable

EXAMPLES = (
    "--maps maps --codebooks c0 c1 --out base",
    "--maps maps --codebooks c0 c1 --n_layer 8 --out base",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_code_options(parser, "folders: that of whole maps, and that of stage 1")
    add_part_options(parser, BaseShape, BaseSettings)
    add_run_options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, or resume, and write the preset."""
    began = time.monotonic()
    read_config(options, BaseShape, BaseSettings)
    shape, settings = shape_of(options, BaseShape), settings_of(options, BaseSettings)
    check_writable(options.out)
    load_backend(options.backend, threads=options.threads)
    import keras

    from igpt_tf.latent.codebook import encode_stores
    from igpt_tf.latent.maps import MapStore
    from igpt_tf.training.pretrain import new_model, pretrain

    before, own = load_pair(options.codebooks)
    stores = [MapStore.open(path) for path in options.maps]
    others = None if options.validation_maps is None else MapStore.open(options.validation_maps)
    config = shape.config(len(before), own.code_grid(*stores[0].shape[1:3]), len(own))
    labels, tokens = encode_stores(before, stores)[:, 0], encode_stores(own, stores)
    held = None if others is None else own.encode_store(others)
    keras.utils.set_random_seed(settings.seed)
    model = new_model(config, options.mixed_precision)
    train_part(
        options,
        settings,
        began,
        lambda folder, callbacks: pretrain(model, tokens, settings, folder, held, callbacks, labels=labels),
        model.save_to_preset,
    )
