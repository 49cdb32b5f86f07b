"""Arrays of images, tokens and labels, from .npy and .npz files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.storage.arrays import read_npy

# OpenAI's short names of images and labels of each split.
SPLITS = {"train": ("trX", "trY"), "valid": ("vaX", "vaY"), "test": ("teX", "teY")}


def read_array(path: str | Path) -> np.memmap:
    """Memory-map an `.npy` file of images, tokens or labels."""
    return read_npy(path, "a NumPy .npy file of numbers")


def read_npz(path: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read images or tokens, and labels or None, of a split of an `.npz` file.

    Its arrays are named as in Keras' mnist.npz, `x_train`, `y_train`, `x_test`, `y_test` (and `x_valid`, `y_valid`),
    or `images` and `labels`, which are the split "train".

    Raises:
        UserError: if the file is missing, damaged or would need pickle, or has no such split.
    """
    names = [(f"x_{split}", f"y_{split}")] + ([("images", "labels")] if split == "train" else [])
    try:
        # Opened here, because NumPy forgets to close a damaged one.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            for images, labels in names:
                if images in arrays:
                    return arrays[images], arrays.get(labels)
            found = ", ".join(arrays.files) or "nothing"
    except FileNotFoundError as error:
        raise UserError(f"{path}: expected a NumPy .npz file, got nothing: check the path") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: expected a NumPy .npz file of arrays of numbers, got {reason}") from error
    raise UserError(f"{path}: expected arrays named {' or '.join(name for name, _ in names)}, got {found}")


def read_prefix(prefix: str, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Memory-map tokens or images, and labels or None, of a split of OpenAI's `{prefix}_trX.npy` and so on."""
    short_images, short_labels = SPLITS[split]
    labels = Path(f"{prefix}_{short_labels}.npy")
    return read_array(f"{prefix}_{short_images}.npy"), read_array(labels) if labels.exists() else None


def has_split(prefix: str) -> bool:
    """Whether there is any of OpenAI's splits with this prefix."""
    return any(Path(f"{prefix}_{images}.npy").exists() for images, _ in SPLITS.values())


def holds_pictures(array: np.ndarray) -> bool:
    """Whether an array holds images, uint8 (N, height, width[, C]), not tokens, integers (N, T) or (N, n_px, n_px)."""
    return array.ndim == 4 or (array.ndim == 3 and array.dtype == np.uint8)


def check_labels(name: str, labels: np.ndarray, count: int) -> np.ndarray:
    """Return labels (N,), (N, 1) or one-hot (N, C) as (N,) int32; raise a `UserError` if they are anything else."""
    plain = labels.argmax(1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1)
    good = labels.ndim in (1, 2) and labels.dtype.kind in "iufb" and len(plain) == len(labels) == count
    with np.errstate(invalid="ignore"):
        good = good and bool((plain >= 0).all() and (plain == plain.astype(np.int64)).all())
    if not good:
        raise UserError(
            f"{name}: expected {count} labels, integers from 0 (N,) or one-hot (N, C), "
            f"got {labels.dtype} {labels.shape}"
        )
    if len(plain) and plain.max() > np.iinfo(np.int32).max:
        raise UserError(f"{name}: expected labels below 2 ** 31, got {plain.max():,}: are these classes?")
    return plain.astype(np.int32)
