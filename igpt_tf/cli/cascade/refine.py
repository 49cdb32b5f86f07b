"""Train a model that draws finer codes, given coarser ones."""

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
from igpt_tf.latent.shapes import RefinerShape
from igpt_tf.storage.files import check_writable
from igpt_tf.training.settings import RunSettings

EXAMPLES = (
    "--maps maps --codebooks c1 c2 --out refiner",
    "--maps maps --codebooks c1 c2 --num_dec_layers 8 --out refiner",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_code_options(parser, "folders: that of the coarser and of the finer codes")
    add_part_options(parser, RefinerShape, RunSettings)
    add_run_options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, or resume, and write the preset."""
    began = time.monotonic()
    read_config(options, RefinerShape, RunSettings)
    shape, settings = shape_of(options, RefinerShape), settings_of(options, RunSettings)
    check_writable(options.out)
    load_backend(options.backend, threads=options.threads)
    import keras

    from igpt_tf.latent.codebook import encode_stores
    from igpt_tf.latent.maps import MapStore
    from igpt_tf.latent.train_refiner import new_refiner, train_refiner

    pair = load_pair(options.codebooks)
    stores = [MapStore.open(path) for path in options.maps]
    others = None if options.validation_maps is None else MapStore.open(options.validation_maps)
    grids = [codebook.code_grid(*stores[0].shape[1:3]) for codebook in pair]
    config = shape.config(grids[0], len(pair[0]), grids[1], len(pair[1]))
    coarse, tokens = (encode_stores(codebook, stores) for codebook in pair)
    held = None if others is None else (pair[0].encode_store(others), pair[1].encode_store(others))
    keras.utils.set_random_seed(settings.seed)
    model = new_refiner(config, (pair[0].digest(), pair[1].digest()), options.mixed_precision)
    train_part(
        options,
        settings,
        began,
        lambda folder, callbacks: train_refiner(model, coarse, tokens, settings, folder, held, callbacks),
        model.save_to_preset,
    )
