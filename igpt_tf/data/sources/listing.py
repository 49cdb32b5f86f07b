"""Image files in a folder, or named in a list."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.pictures.imaging import find_images

# A .csv whose first cell is one of these begins with a heading.
HEADINGS = ("path", "file", "filename", "image")


def list_folder(folder: Path) -> tuple[list[Path], np.ndarray | None, tuple[str, ...] | None]:
    """Sorted paths, labels (N,) int32 and class names of the images in a folder, or of the one image at that path.

    Subfolders are the classes; if an image lies in none, labels and names are None.
    """
    paths = find_images(folder)
    parts = [path.relative_to(folder).parts for path in paths]
    if any(len(part) < 2 for part in parts):
        return paths, None, None
    return paths, *number([part[0] for part in parts])


def read_list(file: Path) -> tuple[list[Path], np.ndarray | None, tuple[str, ...] | None]:
    """Paths, labels (N,) int32 or None, and class names or None, of a .txt of paths or a .csv of `path[,label]`.

    Paths are relative to the list's folder. Missing images are noticed when they are read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(
            f"{file}: expected a list of images, one per line, got one that cannot be read ({reason})"
        ) from error
    lines = text.splitlines()
    rows = list(csv.reader(lines)) if file.suffix.lower() == ".csv" else [[line] for line in lines]
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if rows and file.suffix.lower() == ".csv" and rows[0][0].lower() in HEADINGS:
        rows = rows[1:]
    if not rows:
        raise UserError(f"{file}: expected a list of images, one per line, got none")
    widths = {len(row) for row in rows}
    if len(widths) > 1 or max(widths) > 2 or not all(cell for row in rows for cell in row):
        raise UserError(
            f"{file}: expected `path` or `path,label` in every line, got lines that differ or have more cells"
        )
    paths = [file.parent / row[0] for row in rows]
    return (paths, None, None) if widths == {1} else (paths, *number([row[1] for row in rows]))


def number(labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Number labels: (N,) int32 and the sorted class names, or None where all labels are integers already."""
    if all(label.isascii() and label.isdigit() and len(label) < 10 for label in set(labels)):
        return np.array([int(label) for label in labels], np.int32), None
    names = sorted(set(labels))
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[label] for label in labels], np.int32), tuple(names)
