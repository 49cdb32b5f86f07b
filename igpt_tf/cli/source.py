"""Options that name a source of images, and what opens it."""

from __future__ import annotations

import argparse
import glob
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.parser import group, positive
from igpt_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    from igpt_tf.data.sources.columns import Keys
    from igpt_tf.data.sources.open import Source
    from igpt_tf.data.store.store import TokenStore

# Options that name images.
NAMING = ("data", "data_path", "validation", "test_data", "against")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Declare the source, and how its images are read."""
    add = parser.add_argument
    add(
        "--data",
        required=True,
        help="a folder of images (its subfolders are the classes), a .txt or .csv list of paths, an .npy or .npz, "
        "OpenAI's prefix of PREFIX_trX.npy; mnist, fashion_mnist, cifar10 or cifar100; hf:NAME, a data set of the "
        "Hugging Face hub, or tfds:NAME, one of TensorFlow Datasets, or a folder that either wrote; for another split "
        "than training add it after a colon: mnist:test",
    )
    add(
        "--data_file",
        type=Path,
        help="local copy of a data set given by name: mnist.npz, the folder of MNIST's four files, or the archive or "
        "folder of CIFAR's binary version (default: download it once)",
    )
    add_key_options(parser)
    add("--n_px", type=positive, default=32, help="height and width to resize images to first")
    add("--workers", type=positive, help="number of threads that read images (default: one per core)")


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """Declare the columns of data sets that have columns."""
    add = group(parser, "columns of a data set of hf: or tfds:").add_argument
    add("--image_key", metavar="COLUMN", help="the column of the pictures (default: the only one that holds pictures)")
    add("--label_key", metavar="COLUMN", help="the column of the labels (default: the only one that holds classes)")


def open_images(options: argparse.Namespace, name: str) -> TokenStore | Source:
    """A token store, or a source, whose columns the options name."""
    from igpt_tf.data.open import open_data

    return open_data(name, _keys_of(options, name))


def open_pictures(options: argparse.Namespace, name: str, file: Path | None = None) -> Source:
    """A source, whose columns the options name; `file` is a local copy of it."""
    from igpt_tf.data.sources.open import open_source

    return open_source(name, file, _keys_of(options, name))


def _keys_of(options: argparse.Namespace, name: str) -> Keys | None:
    """The columns that were typed, for a data set that has columns; they may be those of another option's."""
    from igpt_tf.data.sources.columns import Keys
    from igpt_tf.data.sources.libraries import find_library

    keys = Keys(options.image_key, options.label_key)
    if keys == Keys() or find_library(name) is not None:
        return keys
    named = [getattr(options, option, None) for option in NAMING]
    if not any(find_library(one) for one in named if one is not None):
        flag = "--label_key" if options.image_key is None else "--image_key"
        raise UsageError(f"{flag}: expected data with columns, hf:NAME or tfds:NAME, got {name}: leave it out")
    return None


def open_named_source(options: argparse.Namespace) -> Source:
    """The source that the options name."""
    from igpt_tf.data.sources.named import DownloadError

    try:
        return open_pictures(options, options.data, options.data_file)
    except DownloadError as error:
        raise UserError(f"{error}, and give it as --data_file") from error


def files_of(name: str, source: Source | TokenStore, data_file: Path | None = None) -> list[str | Path]:
    """The files that a source is read from: its images, and the list or arrays that its name means."""
    # OpenAI's prefixes and names with a split are no files themselves.
    prefix = Path(name.rpartition(":")[0] or name)
    beside = list(prefix.parent.glob(f"{glob.escape(prefix.name)}_*.npy")) if prefix.name else []
    items = getattr(source, "items", None)
    images = items if isinstance(items, list) else []
    return [name, prefix, *([data_file] if data_file else []), *beside, *images]


def refuse_inside(out: Path, *sources: str | None, option: str = "--out") -> None:
    """Raise a `UsageError` if figures in an option's folder would be read as pictures of a source the next time."""
    from igpt_tf.data.sources.open import STORE

    for source in filter(None, sources):
        is_folder = Path(source).is_dir() and not (Path(source) / STORE).exists()
        if is_folder and out.resolve().is_relative_to(Path(source).resolve()):
            raise UsageError(
                f"{option}: expected a folder outside of {source}, as its figures would be taken for pictures of the "
                f"data, got {out}: give another one"
            )
