"""Encode images to a store of an autoencoder's maps."""

from __future__ import annotations

import argparse
from pathlib import Path

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.console import report
from igpt_tf.cli.parser import positive
from igpt_tf.cli.source import add_key_options, open_pictures

EXAMPLES = (
    "--model my-autoencoder --data photos --out maps",
    "--model my-autoencoder --data tests --out test-maps",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder of the autoencoder")
    add(
        "--data",
        required=True,
        help="images: a folder, a list, .npy or .npz, a data set by name, such as hf:NAME or tfds:NAME",
    )
    add_key_options(parser)
    add("--n_px", type=positive, default=64, help="height and width that the images are resized and cropped to")
    add("--out", "--out_dir", type=Path, required=True, help="folder of the store")
    add("--flip", action="store_true", help="mirror every image left to right: a second store to train models on")
    add("--n_sub_batch", "--batch_size", type=positive, default=64, help="images per batch")


def run(options: argparse.Namespace) -> None:
    """Write the store, or resume it, and print what it holds."""
    source = open_pictures(options, options.data)
    load_backend(options.backend)
    from igpt_tf.latent.autoencoder import Autoencoder
    from igpt_tf.latent.maps import encode_source

    autoencoder = Autoencoder.from_preset(options.model)
    how = {"flip": options.flip, "batch_size": options.n_sub_batch, "progress": True}
    store = encode_source(autoencoder, source, options.out, options.n_px, **how)
    n, height, width, channels = store.shape
    fields = {"store": str(options.out), "images": n, "map": [height, width, channels], "skipped": store.skipped}
    report(options, fields, f"{options.out}: maps of {n} images, {height} x {width} x {channels}")
