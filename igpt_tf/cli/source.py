"""Options that name a source of images, and opening it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.opening import load_backend

if TYPE_CHECKING:
    from igpt_tf.data.sources.open import Source


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Where images come from."""
    parser.add_argument(
        "--data",
        required=True,
        help="a folder of pictures (subfolders are classes), a .txt or .csv list of paths, an .npy or .npz, "
        "OpenAI's prefix of PREFIX_trX.npy, or mnist, fashion_mnist, cifar10 or cifar100; where there are splits, "
        "the training split unless NAME:test says another",
    )
    parser.add_argument(
        "--data_file",
        type=Path,
        help="a local copy of a data set given by name: mnist.npz, the folder of MNIST's four files, or the archive or "
        "folder of CIFAR's binary version (default: downloaded once)",
    )


def open_data(options: argparse.Namespace) -> Source:
    """The source that the options name."""
    from igpt_tf.data.sources.named import NAMES
    from igpt_tf.data.sources.open import open_source

    if options.data.partition(":")[0] in NAMES and options.data_file is None:
        load_backend()
    return open_source(options.data, options.data_file)
