"""Which columns of a library's data set hold the pictures and their labels, and which of its splits is read."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from igpt_tf.data.sources.arrays import check_labels
from igpt_tf.data.sources.listing import number
from igpt_tf.errors import Notice, UserError, listed, meant

# Names of columns of labels where no column says that it holds classes.
LABEL_NAMES = ("label", "labels")


@dataclass(frozen=True)
class Keys:
    """Columns that the user named.

    Attributes:
        image: the column of the pictures; None: the only one that holds pictures.
        label: the column of the labels; None: the only one that holds classes.
    """

    image: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Column:
    """What a column holds.

    Attributes:
        kind: in words, for messages.
        is_picture: whether each of its cells is an image file.
        is_class: whether it says that its numbers are classes.
        is_label: whether its numbers or words may be labels.
        classes: names of the classes, or None.
    """

    kind: str
    is_picture: bool = False
    is_class: bool = False
    is_label: bool = False
    classes: tuple[str, ...] | None = None


def choose_split(name: str, wanted: str | None, splits: Collection[str]) -> str:
    """The split that is wanted; by default "train", or the only one.

    Raises:
        UserError: if there is no such split, or none is wanted and several may be.
    """
    if wanted in splits:
        return str(wanted)
    if wanted is None:
        if "train" in splits or len(splits) == 1:
            return "train" if "train" in splits else next(iter(splits))
        raise UserError(f"{name}: expected one of the splits {listed(splits)} after a colon, got none")
    raise UserError(f"{name}: expected one of the splits {listed(splits)}, got {wanted!r}{meant(wanted, splits)}")


def choose_image(name: str, wanted: str | None, columns: Mapping[str, Column]) -> str:
    """The column of the pictures.

    Args:
        name: of the data set, for messages.
        wanted: the column that the user named; None: the only one that holds pictures.
        columns: all columns by their names.

    Raises:
        UserError: if there is none, or several and none is named, or the one that is named holds no pictures.
    """
    pictures = [key for key, column in columns.items() if column.is_picture]
    if not pictures:
        kinds = listed(f"{key} ({column.kind})" for key, column in columns.items())
        raise UserError(f"{name}: expected a column of pictures, got {kinds}")
    if wanted is None:
        if len(pictures) > 1:
            raise UserError(f"{name}: expected one column of pictures, got {listed(pictures)}: name one by `image_key`")
        return pictures[0]
    _require_known(name, wanted, columns, "image_key")
    if not columns[wanted].is_picture:
        found = f"{wanted}, a column of {columns[wanted].kind}"
        raise UserError(f"{name}: expected a column of pictures, {' or '.join(pictures)}, got {found}", "image_key")
    return wanted


def choose_label(name: str, wanted: str | None, columns: Mapping[str, Column]) -> str | None:
    """The column of the labels, or None; where several hold classes and none is named, a notice says so.

    Args:
        name: of the data set, for messages.
        wanted: the column that the user named; None: the only one that holds classes, or one that is called label.
        columns: all columns by their names.

    Raises:
        UserError: if there is no such column, or it can hold no labels.
    """
    if wanted is not None:
        _require_known(name, wanted, columns, "label_key")
        if not columns[wanted].is_label:
            raise UserError(
                f"{name}: expected a column of labels, got {wanted}, of {columns[wanted].kind}", "label_key"
            )
        return wanted
    found = [key for key, column in columns.items() if column.is_class]
    found = found or [key for key in LABEL_NAMES if key in columns and columns[key].is_label]
    if len(found) > 1:
        line = f"{name}: labels are left out: any of {listed(found)} may be meant: name one by label_key"
        warnings.warn(Notice(line), stacklevel=2)
    return found[0] if len(found) == 1 else None


def number_labels(
    name: str, values: np.ndarray, classes: tuple[str, ...] | None
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Labels (N,) int32 and names of the classes; both None, with a notice, where an image has no label.

    Args:
        name: of the data set, for messages.
        values: (N,) numbers, of which -1 and NaN say that there is none, or words or None.
        classes: names of the classes that the numbers mean, or None.

    Raises:
        UserError: if they are no labels.
    """
    if values.dtype.kind in "iub":
        missing = values.astype(np.int64) < 0
    elif values.dtype.kind == "f":
        missing = np.isnan(values)
    else:
        missing = np.array([value is None for value in values], bool)
    if missing.any():
        line = f"{name}: labels are left out: {missing.sum()} of {len(values)} images have not one"
        warnings.warn(Notice(line), stacklevel=2)
        return None, None
    if values.dtype.kind not in "iubf":
        return number([str(value) for value in values])
    labels = check_labels(name, values, len(values))
    if classes is not None and len(labels) and labels.max() >= len(classes):
        raise UserError(f"{name}: expected labels of {len(classes)} classes, got {labels.max()}")
    return labels, classes


def _require_known(name: str, wanted: str, columns: Mapping[str, Column], argument: str) -> None:
    if wanted not in columns:
        hint = meant(wanted, columns)
        raise UserError(f"{name}: expected one of the columns {listed(columns)}, got {wanted!r}{hint}", argument)
