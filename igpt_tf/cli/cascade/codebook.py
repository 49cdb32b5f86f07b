"""Train a codebook of an autoencoder's maps."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.cascade.parts import add_part_options, read_config, shape_of
from igpt_tf.cli.console import report
from igpt_tf.latent.settings import CodebookSettings
from igpt_tf.storage.files import check_writable

EXAMPLES = (
    "--maps maps --num_embeddings 512 --out c2",
    "--maps maps --patch_H 16 --patch_W 16 --out c0",
)
PICTURE = "units.png"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--maps", type=Path, required=True, help="store of maps, from cascade encode")
    add("--autoencoder", type=Path, help=f"folder of their autoencoder: also write a picture of all units, {PICTURE}")
    add_part_options(parser, None, CodebookSettings)


def run(options: argparse.Namespace) -> None:
    """Train the codebook, write it and print what it is worth."""
    read_config(options, CodebookSettings)
    settings = shape_of(options, CodebookSettings)
    check_writable(options.out)
    load_backend(options.backend)
    from igpt_tf.latent.autoencoder import Autoencoder
    from igpt_tf.latent.codebook_report import report_codebook
    from igpt_tf.latent.maps import MapStore
    from igpt_tf.latent.train_codebook import train_codebook
    from igpt_tf.pictures.writing import write_png

    maps = MapStore.open(options.maps)
    autoencoder = None if options.autoencoder is None else Autoencoder.from_preset(options.autoencoder)
    if autoencoder is not None:
        maps.require_autoencoder(autoencoder)
    codebook = train_codebook(maps, settings, progress=True)
    codebook.save(options.out)
    if autoencoder is not None:
        write_png(options.out / PICTURE, codebook.unit_picture(autoencoder))
    found = report_codebook(codebook, maps)
    text = (
        f"{options.out}: {len(codebook)} units, quantisation error {found.quantisation_error:.4f}, "
        f"{100 * found.used:.1f} % used, perplexity {found.perplexity:.1f}, topographic error "
        f"{found.topographic_error:.3f}"
    )
    report(options, {"codebook": str(options.out), "units": len(codebook), **dataclasses.asdict(found)}, text)
