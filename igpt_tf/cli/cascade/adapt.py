"""Train an autoencoder and its finest codebook together."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.cascade.parts import (
    add_image_options,
    add_part_options,
    add_run_options,
    open_images,
    read_config,
    rows_of,
    settings_of,
    train_part,
)
from igpt_tf.latent.settings import AutoencoderSettings
from igpt_tf.storage.files import check_writable

EXAMPLES = (
    "--autoencoder ae --codebook c2 --data photos --out adapted",
    "--autoencoder ae --codebook c2 --data photos --epochs 2 --out adapted",
)
# Where the new codebook goes, in the folder of the new autoencoder.
CODEBOOK = "codebook"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--autoencoder", type=Path, required=True, help="folder of the autoencoder to begin with")
    add("--codebook", type=Path, required=True, help="folder of a codebook of single positions of its maps")
    add_image_options(parser)
    add_part_options(parser, None, AutoencoderSettings)
    add_run_options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, or resume, and write both: the autoencoder, and codebook/ in its folder."""
    began = time.monotonic()
    read_config(options, AutoencoderSettings)
    settings = settings_of(options, AutoencoderSettings)
    images = open_images(options)
    check_writable(options.out)
    load_backend(options.backend, threads=options.threads)
    from igpt_tf.latent.adapt import adapt
    from igpt_tf.latent.autoencoder import Autoencoder
    from igpt_tf.latent.codebook import Codebook

    rows, held = rows_of(options, *images)
    model = Autoencoder.from_preset(options.autoencoder, dtype="mixed_bfloat16" if options.mixed_precision else None)
    codebook = Codebook.load(options.codebook)

    def train(folder, callbacks):
        nonlocal codebook
        codebook, logs = adapt(model, codebook, rows, settings, folder, held, callbacks)
        return logs

    def save(folder: Path) -> None:
        model.save_to_preset(folder)
        codebook.save(folder / CODEBOOK)

    train_part(options, settings, began, train, save)
