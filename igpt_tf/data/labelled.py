"""Tokens with labels, and selections of rows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from igpt_tf.data.tokens import Tokens
from igpt_tf.errors import UserError, listed, skipped


@dataclass(frozen=True)
class LabelledTokens:
    """Tokens and the class of each image.

    Attributes:
        name: what the user called them, for messages.
        tokens: (N, T); may lie on disk.
        labels: (N,) integers from 0.
        classes: names of the classes, or None.

    Raises:
        UserError: if there is not one label from 0 for each image, or no image.
    """

    name: str
    tokens: Tokens
    labels: np.ndarray
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse labels that cannot belong to these images."""
        labels, n_images = self.labels, len(self.tokens)
        if labels.shape != (n_images,) or labels.dtype.kind not in "iu" or not n_images:
            raise UserError(
                f"{self.name}: expected an integer label for each of {n_images} images, "
                f"got labels {labels.dtype} {labels.shape}"
            )
        if labels.min() < 0:
            raise UserError(f"{self.name}: expected labels from 0, got {labels.min()}")

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def n_class(self) -> int:
        """Number of classes C: that of the names, or else one more than the greatest label."""
        return count_classes(self.labels, self.classes)

    def part(self, rows: np.ndarray) -> LabelledTokens:
        """The images of these rows (n,); nothing is copied but the labels."""
        return LabelledTokens(self.name, TokenRows(self.tokens, rows), self.labels[rows], self.classes)

    def numbered(self) -> LabelledTokens:
        """The same with classes numbered from 0 without gaps; a warning names classes that have no images."""
        present, places = np.unique(self.labels, return_inverse=True)
        if len(present) == self.n_class:
            return self
        if self.classes is not None:
            without = [name for label, name in enumerate(self.classes) if label not in present]
            skipped(self.name, self.n_class, "classes, which have no images", without)
        names = tuple(str(label) if self.classes is None else self.classes[label] for label in present)
        return LabelledTokens(self.name, self.tokens, places.astype(np.int32), names)

    def in_classes(self, n_class: int, classes: tuple[str, ...] | None = None) -> LabelledTokens:
        """The same with labels of other classes, such as a model's, found by name; numbers are names, too.

        Args:
            n_class: number of classes.
            classes: their names; None: they have none.

        Raises:
            UserError: if images are of none of these classes.
        """
        present, places = np.unique(self.labels, return_inverse=True)
        own = [str(label) if self.classes is None else self.classes[label] for label in present]
        targets = {name: place for place, name in enumerate(classes or map(str, range(n_class)))}
        if set(own) <= set(targets):
            numbers = [targets[name] for name in own]
        elif self.classes is not None and not _are_numbers(own) and classes is None:
            # Of classes without names, any may be these.
            numbers = present.tolist()
        elif _are_numbers(own) and (classes is None or not _are_numbers(classes)):
            numbers = [int(name) for name in own]
        else:
            others = [name for name in own if name not in targets]
            raise UserError(
                f"{self.name}: expected the classes {listed(targets)}, got {listed(others)}: "
                "give images of these classes"
            )
        found = LabelledTokens(self.name, self.tokens, np.array(numbers, np.int32)[places], classes)
        found.require_classes(n_class)
        return found

    def require_classes(self, n_class: int, classes: tuple[str, ...] | None = None) -> None:
        """Refuse labels of other classes.

        Args:
            n_class: number of classes; labels are below it.
            classes: their names; None allows any.

        Raises:
            UserError: if there are labels from `n_class` on, or classes with other names.
        """
        if self.labels.max() >= n_class:
            raise UserError(
                f"{self.name}: expected labels from 0 to {n_class - 1}, got {self.labels.max()}: "
                "are these images of other classes?"
            )
        if classes is not None and self.classes is not None and classes != self.classes:
            raise UserError(
                f"{self.name}: expected the classes {listed(classes)}, got {listed(self.classes)}: "
                "give images of the same classes, in the same order"
            )


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isascii() and name.isdigit() for name in names)


def count_classes(labels: np.ndarray, classes: Sequence[str] | None) -> int:
    """Number of classes: that of their names, or else one more than the greatest label."""
    return int(labels.max()) + 1 if classes is None else len(classes)


@dataclass(frozen=True)
class TokenRows:
    """Some rows of tokens, which may lie on disk.

    Attributes:
        tokens: (N, T).
        rows: (n,) integers, the rows to keep.
    """

    tokens: Tokens
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
