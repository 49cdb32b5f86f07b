"""Open what the user named, a token store or a source of images or tokens, and read its tokens and labels."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from igpt_tf.config import check_rows
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.sources.columns import Keys
from igpt_tf.data.sources.open import STORE, Source, open_source
from igpt_tf.data.store.encode import Encoder, encode_all
from igpt_tf.data.store.rows import FileTokens
from igpt_tf.data.store.store import TokenStore
from igpt_tf.data.store.writer import PROGRESS
from igpt_tf.data.tokens import Tokens
from igpt_tf.errors import UserError, naming
from igpt_tf.pictures.palette import Palette


def open_data(path: str | Path, keys: Keys | None = None) -> TokenStore | Source:
    """Open a token store, or else a source as in `open_source`; `are_tokens` says whether it needs no palette.

    Args:
        path: of the store, or what `open_source` takes.
        keys: as for `open_source`; stores have none.

    Raises:
        UserError: as `TokenStore.open` and `open_source`.
    """
    if any((Path(path) / name).exists() for name in (STORE, PROGRESS)):
        return TokenStore.open(path)
    return open_source(path, keys=keys)


def read_tokens(data: TokenStore | Source, n_px: int, palette: Palette | None, n_vocab: int | None = None) -> Tokens:
    """The tokens of `read_data`.

    Args:
        data: from `open_data`.
        n_px: height and width of the images.
        palette: as in `read_data`.
        n_vocab: as in `read_data`.

    Raises:
        UserError: as `read_data`.
    """
    return read_data(data, n_px, palette, n_vocab)[0]


def read_data(
    data: TokenStore | Source, n_px: int, palette: Palette | None, n_vocab: int | None = None
) -> tuple[Tokens, np.ndarray | None]:
    """The tokens (N, T) and labels (N,) of all images that can be read; a warning names the others.

    Tokens of stores and of .npy files stay on disk.

    Args:
        data: from `open_data`.
        n_px: height and width of the images.
        palette: turns images into tokens, and must be a store's own; None: the store's.
        n_vocab: number of colours that the tokens may use, if there is no palette.

    Raises:
        UserError: if they do not fit n_px, palette or n_vocab, or no image can be read.
    """
    if isinstance(data, TokenStore):
        data.require_fitting(n_px, palette, n_vocab)
        return data, data.labels
    if data.are_tokens:
        items = cast("np.ndarray", data.items)
        tokens: FileTokens | np.ndarray = items.reshape(len(items), -1)
        if isinstance(items, np.memmap) and items.flags.c_contiguous:
            tokens = FileTokens(Path(cast("str", items.filename)))
        with naming(data.name):
            check_rows(tokens, n_px, n_vocab if palette is None else len(palette))
        return tokens, data.labels
    if palette is None:
        raise UserError(f"{data.name}: expected a palette to turn images into tokens, got none", "palette")
    tokens, read = encode_all(data, np.arange(len(data)), Encoder(n_px, palette))
    return tokens, None if data.labels is None else data.labels[read]


def read_labelled(
    data: TokenStore | Source,
    n_px: int,
    palette: Palette | None,
    n_vocab: int | None = None,
    like: LabelledTokens | None = None,
) -> LabelledTokens:
    """`read_data` with labels, of at least two classes, which are those that have images.

    Args:
        data: from `open_data`.
        n_px: height and width of the images.
        palette: as in `read_data`.
        n_vocab: as in `read_data`.
        like: other images whose classes these must be of.

    Raises:
        UserError: as `read_data`, and if there are no labels or all are the same.
    """
    require_labels(data)
    tokens, labels = read_data(data, n_px, palette, n_vocab)
    labels = _of_two_classes(data, cast("np.ndarray", labels))
    found = LabelledTokens(data.name, tokens, labels, data.classes)
    return found.numbered() if like is None else found.in_classes(like.n_class, like.classes)


def require_labels(data: TokenStore | Source) -> np.ndarray:
    """The labels (N,) of all images, of at least two classes.

    Raises:
        UserError: if there are none or all are the same.
    """
    if data.labels is None:
        raise UserError(
            f"{data.name}: expected images with labels, got none: give a folder with a subfolder for each class, a "
            ".csv of path,label, an .npz with y_train, OpenAI's PREFIX_trX.npy with PREFIX_trY.npy, or a store of these"
        )
    return _of_two_classes(data, data.labels)


def _of_two_classes(data: TokenStore | Source, labels: np.ndarray) -> np.ndarray:
    if labels.min() == labels.max():
        label = labels[0] if data.classes is None else repr(data.classes[labels[0]])
        raise UserError(f"{data.name}: expected images of at least 2 classes, got label {label} alone")
    return labels
