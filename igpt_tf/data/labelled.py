"""Images whose classes are known, as tokens and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from igpt_tf.data.sources.open import Source, open_source, tokens_of
from igpt_tf.data.store.store import TokenStore, require_fitting
from igpt_tf.data.store.writer import PROGRESS, STORE
from igpt_tf.errors import UserError
from igpt_tf.pictures.palette import Palette


@dataclass(frozen=True)
class LabelledTokens:
    """Tokens, and what each image is of.

    Attributes:
        name: what the user called them.
        tokens: something with a length, a `shape` (N, T) and `[rows]`; may lie on disk.
        labels: (N,) integers from 0.
        classes: names of what the labels count, or None.

    Raises:
        UserError: if there is not one label from 0 for each image, or no image.
    """

    name: str
    tokens: TokenStore | np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be the labels of these images."""
        labels, n_images = self.labels, len(self.tokens)
        if labels.shape != (n_images,) or labels.dtype.kind not in "iu" or not n_images:
            raise UserError(
                f"{self.name}: expected a whole number (N,) for each of {n_images} images, "
                f"found labels {labels.dtype} {labels.shape}"
            )
        if labels.min() < 0:
            raise UserError(f"{self.name}: expected labels from 0, found {labels.min()}")

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def n_class(self) -> int:
        """Number of classes C: of the names, or else one more than the greatest label."""
        return int(self.labels.max()) + 1 if self.classes is None else len(self.classes)

    def part(self, rows: np.ndarray) -> LabelledTokens:
        """The images of these rows (n,), still where they are."""
        return LabelledTokens(self.name, TokenRows(self.tokens, rows), self.labels[rows], self.classes)

    def require_classes(self, n_class: int, classes: tuple[str, ...] | None = None) -> None:
        """Refuse labels that are not of these classes.

        Raises:
            UserError: if there are labels from `n_class` on, or classes that have other names.
        """
        if self.labels.max() >= n_class:
            raise UserError(
                f"{self.name}: expected labels from 0 to {n_class - 1}, found {self.labels.max()}; "
                "are these images of other classes?"
            )
        if None not in (classes, self.classes) and classes != self.classes:
            raise UserError(
                f"{self.name}: expected the classes {_listed(classes)}, found {_listed(self.classes)}; "
                "give images of the same classes, in the same order"
            )


@dataclass(frozen=True)
class TokenRows:
    """Some rows of tokens, which may lie on disk.

    Attributes:
        tokens: something with a length and `[rows]`.
        rows: (n,) integers.
    """

    tokens: TokenStore | np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        """The number of rows n."""
        return len(self.rows)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """The tokens of one of these rows (T,) or of several (n, T)."""
        return self.tokens[self.rows[rows]]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, T)."""
        return (len(self), self.tokens.shape[1])


def open_images(path: str | Path) -> TokenStore | Source:
    """A token store, or else a source as in `open_source`, by which it is told whether a palette is needed.

    Raises:
        UserError: as `TokenStore.open` and `open_source`.
    """
    if any((Path(path) / name).exists() for name in (STORE, PROGRESS)):
        return TokenStore.open(path)
    return open_source(path)


def find_labelled(
    opened: TokenStore | Source, n_px: int, palette: Palette | None, n_vocab: int | None = None
) -> tuple[TokenStore | np.ndarray, LabelledTokens | None]:
    """Tokens (N, T), and the same with labels where there are any.

    Args:
        opened: from `open_images`.
        n_px: height and width of the images.
        palette: turns pictures into tokens, and must be a store's own; None: the store's.
        n_vocab: number of colours that the tokens may use, if there is no palette.

    Raises:
        UserError: if they do not fit n_px, palette or n_vocab, or an image cannot be read.
    """
    if isinstance(opened, TokenStore):
        tokens = require_fitting(opened, n_px, palette, n_vocab)
    else:
        tokens = tokens_of(opened, n_px, palette, n_vocab)
    if opened.labels is None:
        return tokens, None
    return tokens, LabelledTokens(str(opened.name), tokens, opened.labels, opened.classes)


def read_labelled(
    opened: TokenStore | Source, n_px: int, palette: Palette | None, n_vocab: int | None = None
) -> LabelledTokens:
    """Images with labels, of at least two classes; arguments as in `find_labelled`.

    Raises:
        UserError: as `find_labelled`, and if there are no labels or all are the same.
    """
    if opened.labels is None:
        raise UserError(
            f"{opened.name}: expected images with labels, found none: give a folder with a subfolder for each class, a "
            ".csv of path,label, an .npz with y_train, OpenAI's PREFIX_trX.npy with PREFIX_trY.npy, or a store of these"
        )
    if opened.labels.min() == opened.labels.max():
        raise UserError(f"{opened.name}: expected images of at least 2 classes, found label {opened.labels[0]} alone")
    return find_labelled(opened, n_px, palette, n_vocab)[1]


def _listed(classes: tuple[str, ...]) -> str:
    """A few of the names."""
    return ", ".join(classes[:5]) + (f" and {len(classes) - 5} more" if len(classes) > 5 else "")
