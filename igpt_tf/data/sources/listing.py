"""Image files in a folder, or named in a list."""

from __future__ import annotations

import csv
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from igpt_tf.errors import Notice, UserError, skipped
from igpt_tf.pictures.imaging import IMAGE_EXTENSIONS, find_images

DELIMITERS = ",;\t"
# Lines of a list by which its delimiter is found.
FIRST_LINES = 100


def list_folder(folder: Path) -> tuple[list[Path], np.ndarray | None, tuple[str, ...] | None]:
    """Sorted paths, labels (N,) int32 and class names of the images in a folder, or of the one image at that path.

    Subfolders are the classes, of which a warning names those without images; if an image lies in none, labels and
    names are None.
    """
    paths = find_images(folder)
    parts = [path.relative_to(folder).parts for path in paths]
    if any(len(part) < 2 for part in parts):
        return paths, None, None
    labels = [part[0] for part in parts]
    there = {one.name for one in folder.iterdir() if os.path.isdir(one) and not one.name.startswith(".")}
    skipped(folder, len(there), "classes, which have no images", sorted(there.difference(labels)))
    return paths, *number(labels)


def read_list(file: Path) -> tuple[list[Path], np.ndarray | None, tuple[str, ...] | None]:
    """Paths, labels (N,) int32 or None, and class names or None, of a list: lines of a path, or a table.

    A .csv or .tsv has columns `path[,label]`, with commas, semicolons or tabs between them, and perhaps a heading.
    Paths are relative to the list's folder. Missing images are noticed when they are read.
    """
    lines = _text_of(file).splitlines()
    if file.suffix.lower() == ".txt":
        rows = [(at, [line.strip()]) for at, line in enumerate(lines, 1)]
    else:
        rows = _cells(file, lines)
    rows = [(at, row) for at, row in rows if any(row)]
    if rows and file.suffix.lower() != ".txt" and _is_heading(file.parent, rows[0][1][0]):
        rows = rows[1:]
    if not rows:
        raise UserError(f"{file}: expected a list of images, one per line, got none")
    width = len(rows[0][1])
    for at, row in rows:
        if len(row) > 2 or len(row) != width or not all(row):
            wanted = "`path` or `path,label`" if width > 2 else ("a path", "a path and a label")[width - 1]
            raise UserError(f"{file}, line {at}: expected {wanted}, got {','.join(row)!r}: correct or delete it")
    paths = [file.parent / row[0] for _, row in rows]
    return (paths, None, None) if width == 1 else (paths, *number([row[1] for _, row in rows]))


def read_database(file: Path) -> tuple[list[Path], np.ndarray | None, tuple[str, ...] | None]:
    """As `read_list`, of a TinyDB file: `{"_default": {"1": {"image_fpath": path, "labels": [label]}}}`.

    Labels are a class, or a one-hot vector of at least two numbers. Where an image has none or several, all are left
    out, with a warning.
    """
    wanted = f'{file}: expected {{"_default": {{"1": {{"image_fpath": PATH, "labels": [LABEL]}}}}}}'
    try:
        table: Any = json.loads(_text_of(file))["_default"]
        entries = list(table.values())
        paths = [file.parent / entry["image_fpath"] for entry in entries]
        labels = [_label_of(entry.get("labels", [])) for entry in entries]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{wanted}, got another kind of JSON ({type(error).__name__}: {error})") from error
    if not paths:
        raise UserError(f"{wanted}, got no image")
    known = [label for label in labels if label is not None]
    if len(known) == len(labels):
        return paths, *number(known)
    if any(entry.get("labels") for entry in entries):
        count = len(labels) - len(known)
        warnings.warn(
            Notice(f"{file}: labels are left out: {count} of {len(labels)} images have not one"), stacklevel=2
        )
    return paths, None, None


def _label_of(labels: list[Any]) -> str | None:
    """The class that a list of one label, or a one-hot vector, names."""
    if len(labels) == 1:
        return str(labels[0])
    return str(labels.index(1)) if sorted(labels, key=str) == [0] * (len(labels) - 1) + [1] else None


def _text_of(file: Path) -> str:
    """The text of a list."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{file}: expected UTF-8 text, got other bytes in line {line}: save it as UTF-8") from error
    except OSError as error:
        raise UserError(
            f"{file}: expected a list of images, one per line, got one that cannot be read ({error.strerror or error})"
        ) from error


def _cells(file: Path, lines: list[str]) -> list[tuple[int, list[str]]]:
    """The number of each line and its cells, by the delimiter that makes most lines a file and a label."""
    tables = {delimiter: _split(file, lines[:FIRST_LINES], delimiter) for delimiter in DELIMITERS}
    pairs = {delimiter: [row for _, row in rows if len(row) == 2] for delimiter, rows in tables.items()}
    scores = {
        delimiter: (sum((file.parent / row[0]).is_file() for row in rows), len(rows))
        for delimiter, rows in pairs.items()
    }
    return _split(file, lines, max(DELIMITERS, key=lambda delimiter: scores[delimiter]))


def _split(file: Path, lines: list[str], delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise UserError(
            f"{file}, line {reader.line_num}: expected cells of text, got a damaged line ({error})"
        ) from error
    return rows


def _is_heading(folder: Path, cell: str) -> bool:
    """Whether a first cell names no image."""
    path = folder / cell
    return path.suffix.lower() not in IMAGE_EXTENSIONS and not path.is_file()


def number(labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Number labels: (N,) int32 and the sorted class names, or None where labels are whole numbers already."""
    distinct = set(labels)
    are_numbers = all(label.isascii() and label.isdigit() for label in distinct)
    if are_numbers and all(len(label) < 10 and str(int(label)) == label for label in distinct):
        return np.array([int(label) for label in labels], np.int32), None
    names = sorted(distinct, key=lambda label: (int(label), label)) if are_numbers else sorted(distinct)
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[label] for label in labels], np.int32), tuple(names)
