"""Sources of images and tokens: folders, lists, arrays and well-known data sets, all read in one way."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from igpt_tf.data.sources.arrays import (
    SPLITS,
    check_labels,
    has_split,
    holds_pictures,
    read_array,
    read_npz,
    read_prefix,
)
from igpt_tf.data.sources.columns import Keys
from igpt_tf.data.sources.libraries import find_library, open_library
from igpt_tf.data.sources.listing import list_folder, read_database, read_list
from igpt_tf.data.sources.named import NAMES, load_named
from igpt_tf.data.sources.records import Records
from igpt_tf.errors import Notice, UserError

# The file that makes a folder a token store.
STORE = "store.json"
# Rows of an array that its fingerprint is made of.
SAMPLED_ROWS = 1024
# The files that list images, and what reads them.
LISTS = {".txt": read_list, ".csv": read_list, ".tsv": read_list, ".json": read_database}


@dataclass(frozen=True)
class Source:
    """Images, or tokens, that are read part by part.

    Args:
        name: what the user called it, for messages.
        items: paths of image files; or `Records`, which are read when they are asked for; or an array of images, uint8
            (N, height, width[, 1 or 3]), or of tokens, integers (N, T) or (N, n_px, n_px), which may be memory-mapped.
        labels: (N,) int32, or None.
        classes: names of the classes, or None.
    """

    name: str
    items: Sequence[Path] | Records | np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def are_tokens(self) -> bool:
        """Whether the items are tokens already."""
        return isinstance(self.items, np.ndarray) and not holds_pictures(self.items)

    def part(self, examples: np.ndarray) -> list[Path] | Records | np.ndarray:
        """The items of these examples (n,): arrays in memory, the others still to be read."""
        if isinstance(self.items, np.ndarray):
            return np.array(self.items[examples])
        if isinstance(self.items, Records):
            return self.items[examples]
        return [self.items[i] for i in examples]

    def fingerprint(self) -> str:
        """A short digest of names and sizes of files, or of some rows; stores record it: keep it as it is."""
        digest = hashlib.sha256()
        if isinstance(self.items, np.ndarray):
            digest.update(f"{self.items.shape} {self.items.dtype}".encode())
            digest.update(np.ascontiguousarray(self.items[self._sampled()]).tobytes())
        elif isinstance(self.items, Records):
            digest.update(f"{len(self)} records".encode())
            for record in self.items[self._sampled()]:
                data = record.data.name.encode() if isinstance(record.data, Path) else record.data or b""
                digest.update(f"{len(data)}".encode() + data)
        else:
            for path in self.items:
                size = path.stat().st_size if path.is_file() else -1
                digest.update(f"{path.name}\0{size}\0".encode("utf-8", "surrogateescape"))
        digest.update(b"" if self.labels is None else self.labels.tobytes())
        digest.update(repr(self.classes).encode())
        return digest.hexdigest()[:16]

    def _sampled(self) -> np.ndarray:
        return np.unique(np.linspace(0, len(self) - 1, SAMPLED_ROWS).astype(int))


def open_source(spec: str | Path, file: str | Path | None = None, keys: Keys | None = None) -> Source:
    """Find out what a source is, without reading its images.

    Args:
        spec: one of
            - a folder of images, whose subfolders are the classes if all images lie in one. Or one image;
            - a .txt list of images, or a .csv or .tsv of `path` or `path,label`, relative to the list's folder; or
              TinyDB's .json of `image_fpath` and `labels`;
            - an .npy of images, uint8 (N, height, width[, 1 or 3]), or of tokens, integers (N, T) or (N, n_px, n_px);
            - an .npz with `x_train`, `y_train` and so on as Keras' mnist.npz, or with `images` and `labels`;
            - OpenAI's prefix of `{prefix}_trX.npy`, `{prefix}_trY.npy` and so on, tokens or images;
            - `hf:NAME`, a data set of the Hugging Face hub, or a folder that `datasets` wrote: see `open_huggingface`;
            - `tfds:NAME`, a data set of TensorFlow Datasets, or a folder that it wrote: see `open_tfds`;
            - `mnist`, `fashion_mnist`, `cifar10` or `cifar100`, which are downloaded once, unless there is a folder of
              this name.
            Sources with splits give "train", or the split after a colon: `mnist:test`, `prefix:valid`, `hf:beans:test`.
        file: a local copy of a data set given by name, see `load_named`; or an .npz of Keras' layout.
        keys: columns of the pictures and labels, where a data set has columns.

    Raises:
        UserError: if there is no such source, it is empty or damaged, or has no such split.
    """
    text = str(spec)
    if not text:
        raise UserError("expected a folder, a file or a data set's name, got an empty one: type . for this folder")
    if file is None and (found := find_library(text)) is not None:
        return Source(*open_library(found, keys or Keys()))
    if keys not in (None, Keys()):
        raise UserError(f"{text}: expected a data set with columns, hf:NAME or tfds:NAME, got another: name no columns")
    path, split = Path(text), "train"
    start, colon, end = text.rpartition(":")
    if colon and end in SPLITS and not path.exists():
        text, path, split = start, Path(start), end
    if text in NAMES and file is None and text == str(spec) and path.is_dir():
        reading = f"{text}: reading the folder of this name, {path.absolute()}, not the data set"
        warnings.warn(Notice(f"{reading}: rename the folder to read that"), stacklevel=2)
    elif text in NAMES:
        return _of_arrays(f"{text}:{split}", *load_named(text, split, None if file is None else Path(file)))
    if file is not None:
        raise UserError(f"expected a local copy of one of {', '.join(NAMES)}, got one of {text!r}")
    if has_split(text):
        return _of_arrays(f"{text}:{split}", *read_prefix(text, split))
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _of_arrays(text, *read_npz(path, split))
    if split != "train" or text != str(spec):
        raise UserError(f"{text}: expected a source without splits, got :{split}: leave it out")
    if suffix == ".npy":
        return _of_arrays(text, read_array(path), None)
    if (path / STORE).exists():
        raise UserError(f"{text}: expected images, got a token store: give what it was made of")
    read = LISTS.get(suffix, list_folder) if path.is_file() else list_folder
    return Source(text, *read(path))


def _of_arrays(
    name: str, array: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...] | None = None
) -> Source:
    if holds_pictures(array):
        good = array.dtype == np.uint8 and (array.ndim == 3 or array.shape[3] in (1, 3))
    else:
        good = array.ndim in (2, 3) and array.dtype.kind in "iu"
    if not good or not array.size:
        raise UserError(
            f"{name}: expected at least one image, uint8 (N, height, width[, 3]), or tokens, integers (N, T), "
            f"got {array.dtype} {array.shape}"
        )
    return Source(name, array, None if labels is None else check_labels(name, labels, len(array)), classes)
