"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 by name: downloaded once into Keras' cache, or from a local copy.

Keras' own loader of CIFAR unpickles what it downloads, which could run code. Here CIFAR is its authors' binary version.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from igpt_tf.data.sources.arrays import read_npz
from igpt_tf.download.files import fetch_file
from igpt_tf.errors import UserError

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
KERAS_FILES = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
CIFAR_FILES = "https://www.cs.toronto.edu/~kriz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
# MNIST's own format: a big-endian header of this many bytes, then one byte per pixel or label.
IDX_IMAGES, IDX_LABELS = 16, 8
CIFAR_PIXELS = 32 * 32 * 3
# Images (N, height, width[, 3]) uint8, labels (N,), class names.
Arrays = tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]


@dataclass(frozen=True)
class Cifar:
    """The files of one of the two CIFARs, whose records are one or two labels, then 3,072 pixels, plane by plane.

    Args:
        archive: name of the file to download.
        md5: of the archive, from its authors' page.
        splits: split to the names of its files.
        names: name of the file with the class names.
        n_labels: bytes before the pixels; the last of them is the class.
    """

    archive: str
    md5: str
    splits: dict[str, tuple[str, ...]]
    names: str
    n_labels: int


CIFARS = {
    "cifar10": Cifar(
        "cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        "batches.meta.txt",
        1,
    ),
    "cifar100": Cifar(
        "cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        {"train": ("train.bin",), "test": ("test.bin",)},
        "fine_label_names.txt",
        2,
    ),
}
MNISTS = {"mnist": DIGITS, "fashion_mnist": CLOTHES}
NAMES = (*MNISTS, *CIFARS)
SPLITS = ("train", "test")


class DownloadError(UserError):
    """A data set that cannot be downloaded; a local copy of it would do."""


def load_named(name: str, split: str, file: Path | None = None) -> Arrays:
    """Load one of the data sets in `NAMES`: images, labels or None, class names or None.

    Args:
        name: of the data set.
        split: "train" or "test".
        file: a local copy: for the MNISTs a folder with the four original idx files; for the CIFARs the archive of
            the binary version, or its unpacked folder; for all an .npz of Keras' layout. None: the file in Keras'
            cache, downloaded if it is missing.

    Raises:
        DownloadError: if a download fails.
        UserError: if there is no such split, or a file is missing or damaged.
    """
    classes = MNISTS.get(name)
    if file is not None and file.suffix.lower() == ".npz":
        return *read_npz(file, split), classes
    if split not in SPLITS:
        raise UserError(f"{name}: expected the split {' or '.join(SPLITS)}, got {split!r}")
    if name in CIFARS:
        cifar = CIFARS[name]
        return _read_cifar(cifar, file or _cached(f"{CIFAR_FILES}/{cifar.archive}", cifar.md5), split)
    if name == "mnist" and file is None:
        return *read_npz(_cached(f"{KERAS_FILES}/mnist.npz", MNIST_SHA256), split), classes
    return *_read_idx(file or _cached_fashion_mnist(split), split), classes


def _cached_fashion_mnist(split: str) -> Path:
    """The folder of Keras' cache with the files of a split."""
    start = f"{KERAS_FILES}/{_idx_start(split)}"
    _cached(f"{start}-images-idx3-ubyte.gz", folder="fashion-mnist")
    return _cached(f"{start}-labels-idx1-ubyte.gz", folder="fashion-mnist").parent


def _cached(url: str, digest: str | None = None, folder: str = "") -> Path:
    """A file in a folder of Keras' cache, downloaded if it is missing or its digest is another."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    path = Path(home, "datasets", folder, url.rpartition("/")[2])
    if path.exists() and _has_digest(path, digest):
        return path
    try:
        path.unlink(missing_ok=True)
        fetch_file(url, path)
    except (UserError, OSError) as error:
        raise DownloadError(f"{path.name} cannot be downloaded ({error}): fetch {url} elsewhere") from error
    if not _has_digest(path, digest):
        raise DownloadError(f"{url}: expected a file of digest {digest}, got another: fetch it elsewhere")
    return path


def _has_digest(path: Path, digest: str | None) -> bool:
    """Whether a file has this MD5 or SHA-256, in hexadecimal digits; None: any."""
    if digest is None:
        return True
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5" if len(digest) == 32 else "sha256").hexdigest() == digest


def _read_cifar(cifar: Cifar, path: Path, split: str) -> Arrays:
    """A split of CIFAR from the archive of its binary version, or from its unpacked folder."""
    wanted = (*cifar.splits[split], cifar.names)
    if path.is_dir():
        files = {name: (path / name).read_bytes() for name in wanted if (path / name).is_file()}
    else:
        files = _files_of_archive(path, wanted)
    missing = [name for name in wanted if name not in files]
    if missing:
        hint = ""
        if "python" in path.name or "-py" in path.name:
            hint = ", because it is the Python version: pickles, never read here because they can run code"
        raise UserError(
            f"{path}: expected the binary version of CIFAR with {missing[0]}, got none{hint}: "
            f"get {CIFAR_FILES}/{cifar.archive}"
        )
    data = b"".join(files[name] for name in cifar.splits[split])
    width = cifar.n_labels + CIFAR_PIXELS
    if not data or len(data) % width:
        raise UserError(f"{path}: expected records of {width} bytes, got {len(data)} bytes: get it again")
    records = np.frombuffer(data, np.uint8).reshape(-1, width)
    images = records[:, cifar.n_labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = records[:, cifar.n_labels - 1]
    classes = tuple(files[cifar.names].decode("utf-8", "replace").split())
    if labels.max() >= len(classes):
        raise UserError(f"{path}: expected labels of {len(classes)} classes, got {labels.max()}: get it again")
    return np.ascontiguousarray(images), labels, classes


def _files_of_archive(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Name to content of the members of an archive; nothing is unpacked to disk."""
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in names and member.isfile():
                    found[name] = cast("IO[bytes]", archive.extractfile(member)).read()
    except FileNotFoundError as error:
        raise UserError(f"{path}: expected an archive or a folder, got nothing: check the path") from error
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: expected a .tar.gz archive, got a damaged one ({error}): get it again") from error
    return found


def _read_idx(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, height, width) and labels (N,), both uint8, from MNIST's original files, compressed or not."""
    start = _idx_start(split)
    images, header = _read_idx_file(folder, f"{start}-images-idx3-ubyte", IDX_IMAGES)
    labels, _ = _read_idx_file(folder, f"{start}-labels-idx1-ubyte", IDX_LABELS)
    count, height, width = (int(number) for number in np.frombuffer(header, ">u4")[1:])
    if len(images) != count * height * width or len(labels) != count or not count:
        raise UserError(
            f"{folder}: expected {count} images and labels of {height} x {width} pixels, "
            f"got {len(images)} and {len(labels)} bytes: get the files again"
        )
    return images.reshape(count, height, width), labels


def _idx_start(split: str) -> str:
    return "train" if split == "train" else "t10k"


def _read_idx_file(folder: Path, name: str, header: int) -> tuple[np.ndarray, bytes]:
    for path, opener in ((folder / f"{name}.gz", gzip.open), (folder / name, open)):
        if path.is_file():
            try:
                with opener(path, "rb") as file:
                    data = file.read()
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(
                    f"{path}: expected a file of MNIST, got a damaged one ({error}): get it again"
                ) from error
            if len(data) < header:
                raise UserError(f"{path}: expected at least {header} bytes, got {len(data)}: get it again")
            return np.frombuffer(data, np.uint8, offset=header), data[:header]
    raise UserError(f"{folder}: expected a folder with {name}.gz, got none")
