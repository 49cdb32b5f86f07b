"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 by name: downloaded once, or from a local copy.

Keras' own loader of CIFAR unpickles what it downloads, which could run code. Here CIFAR is the binary version of its
authors, bytes and nothing else.
"""

from __future__ import annotations

import contextlib
import gzip
import sys
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from igpt_tf.errors import UserError

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
KERAS_FILES = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
CIFAR_FILES = "https://www.cs.toronto.edu/~kriz"
# MNIST's own format: a big-endian heading of so many bytes, then one byte a pixel or label.
IDX_IMAGES, IDX_LABELS = 16, 8
CIFAR_PIXELS = 32 * 32 * 3
Arrays = tuple[np.ndarray, np.ndarray, tuple[str, ...]]


@dataclass(frozen=True)
class Cifar:
    """One of the two CIFARs in its binary version: a label or two, then 3,072 pixels, plane by plane.

    Args:
        archive: its name where it is downloaded.
        md5: of the archive, from its authors' page.
        splits: the files of each split.
        names: the file that names the classes.
        n_labels: bytes before the pixels; the last is the class.
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


def load_named(name: str, split: str, file: Path | None = None) -> Arrays:
    """One of the data sets in `NAMES`.

    Args:
        name: which.
        split: "train" or "test".
        file: a local copy: for the MNISTs a folder with the four original idx files; for the CIFARs the archive of
            the binary version, or its unpacked folder. Without one, Keras' own cache is used, and filled.

    Returns:
        Images (N, height, width[, 3]) uint8, labels (N,) int32, names of the classes.

    Raises:
        UserError: no such split, the file is missing or another, or there is no network.
    """
    if split not in SPLITS:
        raise UserError(f"{name} has the splits {' and '.join(SPLITS)}, found {split!r}")
    if name in CIFARS:
        archive = _download_cifar(CIFARS[name]) if file is None else file
        return read_cifar(CIFARS[name], archive, split)
    images, labels = _keras_arrays(name, split) if file is None else read_idx(file, split)
    return images, labels.astype(np.int32), MNISTS[name]


def _keras_arrays(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    url = f"{KERAS_FILES}/mnist.npz" if name == "mnist" else f"the four files of Fashion-MNIST in {KERAS_FILES}"
    advice = "mnist.npz" if name == "mnist" else "the folder with them"
    with _downloading(name, f"fetch {url} elsewhere and give {advice} as --data_file"):
        import keras

        train, test = getattr(keras.datasets, name).load_data()
    return train if split == "train" else test


def _download_cifar(cifar: Cifar) -> Path:
    url = f"{CIFAR_FILES}/{cifar.archive}"
    with _downloading(cifar.archive, f"fetch {url} elsewhere and give it as --data_file"):
        import keras

        return Path(keras.utils.get_file(cifar.archive, url, file_hash=cifar.md5, hash_algorithm="md5"))


@contextlib.contextmanager
def _downloading(what: str, advice: str):
    """Keras prints its progress, which belongs on standard error, and raises a bare Exception without a network."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: cannot be downloaded ({reason}); {advice}") from error


def read_cifar(cifar: Cifar, path: Path, split: str) -> Arrays:
    """CIFAR's binary version, from its archive or its unpacked folder.

    Returns:
        Images (N, 32, 32, 3) uint8, labels (N,) int32, names of the classes.

    Raises:
        UserError: one of the files is missing or of another size.
    """
    wanted = (*cifar.splits[split], cifar.names)
    files = _files_of_folder(path, wanted) if path.is_dir() else _files_of_archive(path, wanted)
    missing = [name for name in wanted if name not in files]
    if missing:
        hint = ""
        if "python" in path.name or "-py" in path.name:
            hint = ", which is the Python version: pickles, never read here because they can run code"
        raise UserError(
            f"{path}: expected the binary version of CIFAR with {missing[0]}, found none{hint}; "
            f"get {CIFAR_FILES}/{cifar.archive}"
        )
    data = b"".join(files[name] for name in cifar.splits[split])
    width = cifar.n_labels + CIFAR_PIXELS
    if not data or len(data) % width:
        raise UserError(f"{path}: expected records of {width} bytes, found {len(data)} bytes; get it again")
    records = np.frombuffer(data, np.uint8).reshape(-1, width)
    images = records[:, cifar.n_labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    classes = tuple(files[cifar.names].decode("utf-8", "replace").split())
    labels = records[:, cifar.n_labels - 1].astype(np.int32)
    if labels.max() >= len(classes):
        raise UserError(f"{path}: expected labels of {len(classes)} classes, found {labels.max()}; get it again")
    return np.ascontiguousarray(images), labels, classes


def _files_of_folder(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def _files_of_archive(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Members of an archive by their last name; nothing is unpacked to disk."""
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in names and member.isfile():
                    found[name] = archive.extractfile(member).read()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: expected a .tar.gz archive, cannot read it ({error}); get it again") from error
    return found


def read_idx(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's original files, packed or not, from a folder.

    Returns:
        Images (N, height, width) uint8 and labels (N,) uint8.

    Raises:
        UserError: a file is missing or damaged.
    """
    start = "train" if split == "train" else "t10k"
    images, heading = _read_idx_file(folder, f"{start}-images-idx3-ubyte", IDX_IMAGES)
    labels, _ = _read_idx_file(folder, f"{start}-labels-idx1-ubyte", IDX_LABELS)
    count, height, width = (int(number) for number in np.frombuffer(heading, ">u4")[1:])
    if len(images) != count * height * width or len(labels) != count or not count:
        raise UserError(
            f"{folder}: expected {count} images and labels of {height} x {width} pixels, "
            f"found {len(images)} and {len(labels)} bytes; get the files again"
        )
    return images.reshape(count, height, width), labels


def _read_idx_file(folder: Path, name: str, heading: int) -> tuple[np.ndarray, bytes]:
    for path, opener in ((folder / f"{name}.gz", gzip.open), (folder / name, open)):
        if path.is_file():
            try:
                with opener(path, "rb") as file:
                    data = file.read()
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(f"{path}: damaged ({error}); get it again") from error
            if len(data) < heading:
                raise UserError(f"{path}: expected at least {heading} bytes, found {len(data)}; get it again")
            return np.frombuffer(data, np.uint8, offset=heading), data[:heading]
    raise UserError(f"{folder}: expected a folder with {name}.gz, found none")
