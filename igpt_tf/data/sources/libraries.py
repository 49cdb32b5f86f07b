"""Data sets by the library that reads them: `hf:NAME[:SPLIT]`, `tfds:NAME[:SPLIT]`, or a folder that it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from igpt_tf.data.sources.columns import Keys
from igpt_tf.data.sources.huggingface import is_saved, open_huggingface
from igpt_tf.data.sources.records import Records
from igpt_tf.data.sources.tfds import is_prepared, open_tfds
from igpt_tf.errors import UserError

# What opens a data set of each library, and what knows a folder that it wrote.
OPENERS = {"hf": open_huggingface, "tfds": open_tfds}
FOLDERS = {"hf": is_saved, "tfds": is_prepared}


class LibraryName(NamedTuple):
    """The name of a data set of a library.

    library: one of `OPENERS`.
    name: of the data set, or its folder.
    split: of the data set, or None.
    """

    library: str
    name: str
    split: str | None


def find_library(spec: str) -> LibraryName | None:
    """The library that reads what the user named, by its prefix or as a folder that it wrote; None: none does."""
    library, colon, rest = spec.partition(":")
    if colon and library in OPENERS:
        return LibraryName(library, *_split_off(rest))
    name, split = _split_off(spec)
    found = [library for library, wrote in FOLDERS.items() if wrote(Path(name))]
    return LibraryName(found[0], name, split) if found else None


def open_library(found: LibraryName, keys: Keys) -> tuple[str, Records, np.ndarray | None, tuple[str, ...] | None]:
    """A name for messages, the pictures, and labels and names of the classes or None.

    Raises:
        UserError: if there is no such data set, or it cannot be read.
    """
    if not found.name:
        raise UserError(f"{found.library}: expected the name of a data set after it, got none")
    return OPENERS[found.library](found.name, found.split, keys)


def _split_off(text: str) -> tuple[str, str | None]:
    """A name and the split after its colon; folders may have a colon in their names."""
    if Path(text).exists():
        return text, None
    start, colon, end = text.rpartition(":")
    name, split = (start, end) if colon and Path(start).exists() else (text.partition(":")[0], text.partition(":")[2])
    return name, split or None
