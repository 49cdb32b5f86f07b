"""Options that name a source of images, and what opens it."""

from __future__ import annotations

import argparse
import glob
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.parser import positive
from igpt_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    from igpt_tf.data.sources.open import Source
    from igpt_tf.data.store.store import TokenStore


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Declare the source, and how its images are read."""
    add = parser.add_argument
    add(
        "--data",
        required=True,
        help="a folder of images (its subfolders are the classes), a .txt or .csv list of paths, an .npy or .npz, "
        "OpenAI's prefix of PREFIX_trX.npy, or mnist, fashion_mnist, cifar10 or cifar100; for another split than "
        "training add it after a colon: mnist:test",
    )
    add(
        "--data_file",
        type=Path,
        help="local copy of a data set given by name: mnist.npz, the folder of MNIST's four files, or the archive or "
        "folder of CIFAR's binary version (default: download it once)",
    )
    add("--n_px", type=positive, default=32, help="height and width to resize images to first")
    add("--workers", type=positive, help="number of threads that read images (default: one per core)")


def open_named_source(options: argparse.Namespace) -> Source:
    """The source that the options name."""
    from igpt_tf.data.sources.named import DownloadError
    from igpt_tf.data.sources.open import open_source

    try:
        return open_source(options.data, options.data_file)
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
