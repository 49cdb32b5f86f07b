"""Open what the user named, a token store or a source of images or tokens, and read its tokens and labels."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from igpt_tf.config import check_rows
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.sources.open import STORE, Source, open_source
from igpt_tf.data.store.encode import Encoder, encode
from igpt_tf.data.store.rows import FileTokens
from igpt_tf.data.store.store import TokenStore
from igpt_tf.data.store.writer import PROGRESS
from igpt_tf.data.tokens import Tokens
from igpt_tf.errors import UserError, naming
from igpt_tf.pictures.palette import Palette


def open_data(path: str | Path) -> TokenStore | Source:
    """Open a token store, or else a source as in `open_source`; `are_tokens` says whether it needs no palette.

    Raises:
        UserError: as `TokenStore.open` and `open_source`.
    """
    if any((Path(path) / name).exists() for name in (STORE, PROGRESS)):
        return TokenStore.open(path)
    return open_source(path)


def read_tokens(data: TokenStore | Source, n_px: int, palette: Palette | None, n_vocab: int | None = None) -> Tokens:
    """The tokens (N, T) of all images; those of stores and of .npy files stay on disk.

    Args:
        data: from `open_data`.
        n_px: height and width of the images.
        palette: turns images into tokens, and must be a store's own; None: the store's.
        n_vocab: number of colours that the tokens may use, if there is no palette.

    Raises:
        UserError: if they do not fit n_px, palette or n_vocab, or an image cannot be read.
    """
    if isinstance(data, TokenStore):
        data.require_fitting(n_px, palette, n_vocab)
        return data
    if data.are_tokens:
        items = cast("np.ndarray", data.items)
        tokens: FileTokens | np.ndarray = items.reshape(len(items), -1)
        if isinstance(items, np.memmap) and items.flags.c_contiguous:
            tokens = FileTokens(Path(cast("str", items.filename)))
        with naming(data.name):
            check_rows(tokens, n_px, n_vocab if palette is None else len(palette))
        return tokens
    if palette is None:
        raise UserError(f"{data.name}: expected a palette to turn images into tokens, got none", "palette")
    tokens = np.empty((len(data), n_px**2), np.uint16)
    for part in encode(data, np.arange(len(data)), Encoder(n_px, palette)):
        if part.problems:
            raise UserError(part.problems[0])
        tokens[part.examples] = part.rows
    return tokens


def read_labelled(
    data: TokenStore | Source, n_px: int, palette: Palette | None, n_vocab: int | None = None
) -> LabelledTokens:
    """`read_tokens` with labels, of at least two classes.

    Args:
        data: from `open_data`.
        n_px: height and width of the images.
        palette: as in `read_tokens`.
        n_vocab: as in `read_tokens`.

    Raises:
        UserError: as `read_tokens`, and if there are no labels or all are the same.
    """
    labels = require_labels(data)
    return LabelledTokens(data.name, read_tokens(data, n_px, palette, n_vocab), labels, data.classes)


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
    if data.labels.min() == data.labels.max():
        raise UserError(f"{data.name}: expected images of at least 2 classes, got label {data.labels[0]} alone")
    return data.labels
