"""Put the parts of a cascade, trained one by one, into one folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.console import report
from igpt_tf.storage.files import check_writable

EXAMPLES = (
    "--autoencoder ae --codebooks a b --models m --maps maps --out all",
    "--autoencoder e --codebooks a b --models m --maps s --out x",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--autoencoder", type=Path, required=True, help="folder of the autoencoder")
    add("--codebooks", type=Path, nargs="+", required=True, help="folders of the codebooks, from coarse to fine")
    add("--models", type=Path, nargs="+", required=True, help="folders of the models of stages 1, 2 and so on")
    add("--maps", type=Path, required=True, help="store of maps in which codes of whole maps are counted")
    add("--float16", action="store_true", help="write the weights in half the bytes, a little rounded")
    add("--out", "--out_dir", type=Path, required=True, help="folder of the cascade")


def run(options: argparse.Namespace) -> None:
    """Check that the parts fit each other, and write the folder."""
    check_writable(options.out)
    load_backend(options.backend)
    from igpt_tf.latent.autoencoder import Autoencoder
    from igpt_tf.latent.cascade import Cascade
    from igpt_tf.latent.cascade_folder import load_model
    from igpt_tf.latent.codebook import Codebook
    from igpt_tf.latent.codebook_report import count_codes
    from igpt_tf.latent.maps import MapStore

    autoencoder = Autoencoder.from_preset(options.autoencoder)
    codebooks = [Codebook.load(path) for path in options.codebooks]
    models = [load_model(path) for path in options.models]
    maps, stride = MapStore.open(options.maps), autoencoder.config.stride
    counts = count_codes(codebooks[0], codebooks[0].encode_store(maps))
    height, width = (stride * side for side in maps.shape[1:3])
    cascade = Cascade(autoencoder, codebooks, models, counts, height, width)
    cascade.save_to_preset(options.out, "float16" if options.float16 else "float32")
    fields = {"preset": str(options.out), "stages": cascade.n_stages, "grids": cascade.grids}
    report(options, fields, f"{options.out}: a cascade of {height} x {width} pixels in {cascade.n_stages} stages")
