"""Where images and tokens come from: folders, lists, arrays and well-known data sets, all read in one way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from igpt_tf.data.sources.arrays import (
    SPLITS,
    check_labels,
    check_pictures,
    check_tokens,
    has_split,
    holds_pictures,
    read_array,
    read_npz,
    read_prefix,
)
from igpt_tf.data.sources.listing import list_folder, read_list
from igpt_tf.data.sources.named import MNISTS, NAMES, load_named
from igpt_tf.errors import UserError
from igpt_tf.pictures.imaging import load_images, resize_and_crop
from igpt_tf.pictures.palette import Palette, quantize

__all__ = ["Source", "holds_pictures", "load_tokens", "open_source", "read_array"]

# Decoded and quantised this many at a time, so that a folder of any size needs little more than its tokens.
CHUNK = 4096
# Rows of an array that tell it from another.
TELLING_ROWS = 1024


@dataclass(frozen=True)
class Source:
    """Images, or tokens, that are read a part at a time.

    Args:
        name: what the user called it.
        items: paths of picture files; or an array of pictures, uint8 (N, height, width[, 1 or 3]), or of tokens,
            integers (N, T) or (N, n_px, n_px), which may be memory-mapped.
        labels: (N,) int32, or None.
        classes: what the labels count, or None.
    """

    name: str
    items: Sequence[Path] | np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def are_files(self) -> bool:
        """Whether the items are paths."""
        return not isinstance(self.items, np.ndarray)

    @property
    def are_tokens(self) -> bool:
        """Whether the items are tokens already."""
        return not self.are_files and not holds_pictures(self.items)

    def part(self, examples: np.ndarray) -> list[Path] | np.ndarray:
        """The items of these places (n,), in memory."""
        return [self.items[i] for i in examples] if self.are_files else np.array(self.items[examples])

    def fingerprint(self) -> str:
        """A digest that another source does not share: of names and sizes of files, or of rows of an array."""
        digest = hashlib.sha256()
        if self.are_files:
            for path in self.items:
                size = path.stat().st_size if path.is_file() else -1
                digest.update(f"{path.name}\0{size}\0".encode("utf-8", "surrogateescape"))
        else:
            digest.update(f"{self.items.shape} {self.items.dtype}".encode())
            rows = np.unique(np.linspace(0, len(self) - 1, TELLING_ROWS).astype(int))
            digest.update(np.ascontiguousarray(self.items[rows]).tobytes())
        digest.update(b"" if self.labels is None else self.labels.tobytes())
        digest.update(repr(self.classes).encode())
        return digest.hexdigest()[:16]


def open_source(spec: str | Path, file: str | Path | None = None) -> Source:
    """Find out what a source is, without reading its images.

    Args:
        spec: one of
            - a folder of pictures; where all lie in subfolders, those are the classes. Or one picture;
            - a .txt list of pictures, or a .csv of `path` or `path,label`, relative to the list's folder;
            - an .npy of pictures, uint8 (N, height, width[, 1 or 3]), or of tokens, integers (N, T) or (N, n_px, n_px);
            - an .npz with `x_train`, `y_train` and so on as Keras' mnist.npz, or with `images` and `labels`;
            - OpenAI's prefix of `{prefix}_trX.npy`, `{prefix}_trY.npy` and so on, tokens or pictures;
            - `mnist`, `fashion_mnist`, `cifar10` or `cifar100`, which are downloaded once.
            Those with splits give "train", or what follows a colon: `mnist:test`, `mnist.npz:test`, `prefix:valid`.
        file: a local copy of a data set given by name, see `igpt_tf.data.named`; or an .npz of Keras' layout.

    Raises:
        UserError: there is no such source, it is empty or damaged, or has no such split.
    """
    text = str(spec)
    path, split = Path(text), "train"
    start, colon, end = text.rpartition(":")
    if colon and end in SPLITS and not path.exists():
        text, path, split = start, Path(start), end
    if text in NAMES:
        return _open_named(text, split, None if file is None else Path(file))
    if file is not None:
        raise UserError(f"a local copy was given for {text!r}, expected one of {', '.join(NAMES)} with it")
    if has_split(text):
        return _of_arrays(f"{text}:{split}", *read_prefix(text, split))
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _of_arrays(text, *read_npz(path, split))
    if split != "train" or text != str(spec):
        raise UserError(f"{text}: no splits here, expected it without :{split}")
    if suffix == ".npy":
        return _of_arrays(text, read_array(path), None)
    if path.is_dir() and (path / "store.json").exists():
        raise UserError(f"{text}: expected images, found a token store; its images are tokens already")
    listed = read_list(path) if suffix in (".txt", ".csv") and path.is_file() else list_folder(path)
    return Source(text, *listed)


def _open_named(name: str, split: str, file: Path | None) -> Source:
    label = f"{name}:{split}"
    if file is None or file.suffix.lower() != ".npz":
        images, labels, classes = load_named(name, split, file)
        return _of_arrays(label, images, labels, classes)
    return _of_arrays(label, *read_npz(file, split), MNISTS.get(name))


def _of_arrays(
    name: str, array: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...] | None = None
) -> Source:
    if holds_pictures(array):
        check_pictures(name, array)
    elif array.ndim not in (2, 3) or not array.size or array.dtype.kind not in "iu":
        raise UserError(
            f"{name}: expected images, uint8 (N, height, width[, 3]), or tokens, integers (N, T), "
            f"found {array.dtype} {array.shape}"
        )
    return Source(name, array, None if labels is None else check_labels(name, labels, len(array)), classes)


def load_tokens(source: str | Path, n_px: int, palette: Palette | None, n_vocab: int | None = None) -> np.ndarray:
    """All tokens of a source, with every image that cannot be read an error.

    Args:
        source: see `open_source`. An `.npy` of tokens stays memory-mapped.
        n_px: height and width of the images, T = n_px * n_px.
        palette: turns pictures into tokens; needed for those alone.
        n_vocab: number of colours that the tokens may use, if not the palette's.

    Returns:
        (N, T) integers.

    Raises:
        UserError: if the source is missing, empty or of another shape, or a token is outside the vocabulary.
    """
    if str(source).endswith(".npy"):
        array = read_array(source)
        if not holds_pictures(array):
            return check_tokens(str(source), array, n_px, n_vocab if palette is None else len(palette))
    return tokens_of(open_source(source), n_px, palette, n_vocab)


def tokens_of(source: Source, n_px: int, palette: Palette | None, n_vocab: int | None = None) -> np.ndarray:
    """Likewise of a source that is open already; arguments and errors as in `load_tokens`."""
    if source.are_tokens:
        return check_tokens(source.name, source.items, n_px, n_vocab if palette is None else len(palette))
    if palette is None:
        raise UserError(f"{source.name}: pictures need a palette to become tokens; give one with --palette")
    tokens = np.empty((len(source), n_px**2), np.uint16)
    for start in range(0, len(source), CHUNK):
        part = source.part(np.arange(start, min(start + CHUNK, len(source))))
        tokens[start : start + CHUNK] = quantize(palette, pictures_of(part, n_px))
    return tokens


def pictures_of(items: Sequence[Path] | np.ndarray, n_px: int) -> np.ndarray:
    """Pictures, files or arrays, as uint8 (N, n_px, n_px, 3)."""
    if not isinstance(items, np.ndarray):
        return load_images(items, n_px)
    images = np.broadcast_to(items.reshape(*items.shape[:3], -1), (*items.shape[:3], 3))
    return images if images.shape[1:3] == (n_px, n_px) else np.stack([resize_and_crop(one, n_px) for one in images])
