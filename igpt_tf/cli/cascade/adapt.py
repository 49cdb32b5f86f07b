"""Train an autoencoder and its finest codebook together."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.cascade.parts import add_part_options, add_run_options, read_config, settings_of, train_part
from igpt_tf.cli.parser import positive
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
    add("--data", required=True, help="images: a folder, a list, .npy or .npz, a data set by name")
    add("--validation", help="images that are not trained on")
    add("--n_px", type=positive, default=64, help="height and width that the images are resized and cropped to")
    add_part_options(parser, None, AutoencoderSettings)
    add_run_options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, or resume, and write both: the autoencoder, and codebook/ in its folder."""
    began = time.monotonic()
    from igpt_tf.data.sources.open import open_source

    read_config(options, AutoencoderSettings)
    settings = settings_of(options, AutoencoderSettings)
    images = open_source(options.data)
    others = None if options.validation is None else open_source(options.validation)
    check_writable(options.out)
    load_backend(options.backend, threads=options.threads)
    from igpt_tf.data.image_rows import ImageRows, held_images
    from igpt_tf.latent.adapt import adapt
    from igpt_tf.latent.autoencoder import Autoencoder
    from igpt_tf.latent.codebook import Codebook

    rows = ImageRows(images, options.n_px, progress=True)
    held = None if others is None else held_images(others, options.n_px)
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
