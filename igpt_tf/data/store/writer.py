"""Write a store of tokens, or of other rows: progress is recorded, so a killed run resumes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from igpt_tf.data.sources.open import STORE
from igpt_tf.errors import UserError
from igpt_tf.storage.files import exclusive, held, remove_partials
from igpt_tf.storage.records import RecordError, read_record, write_record

PROGRESS, LOCK = "progress.json", ".lock"
TOKENS, LABELS, PALETTE, SKIPPED = "tokens.npy", "labels.npy", "palette.npy", "skipped.txt"
# A store of an autoencoder's maps and its record.
MAPS, MAP_STORE = "maps.npy", "maps.json"
FILES = (TOKENS, LABELS, PALETTE, SKIPPED, STORE)
PARTS = tuple(f"{name}.part" for name in (TOKENS, MAPS, LABELS, SKIPPED))
# Seconds between two records of progress, and so the most work that a killed run loses.
SAVE_SECONDS = 1.0
# Fields of `progress.json`.
FIELDS = {"request": dict, "sizes": dict, "done": int, "rows": int, "skipped": int, "chain": str}


@contextlib.contextmanager
def store_writer(
    folder: Path, request: dict, with_labels: bool, name: str, dtype: str, shape: tuple[int, ...]
) -> Iterator[StoreWriter]:
    """Make and lock the folder of a store, and write it or resume it.

    Args:
        folder: the store's folder.
        request: everything that determines the store's content; only a run with the same request is resumed.
        with_labels: whether there are labels.
        name: of the file of the rows, `TOKENS` or `MAPS`.
        dtype: of the rows.
        shape: of each row.

    Raises:
        UserError: if the folder holds something else or cannot be written, or another process is writing in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / LOCK, f"{folder}: another process is writing this store: wait for it"):
            writer = StoreWriter(folder, request, with_labels, name, np.dtype(dtype), shape)
            with contextlib.closing(writer):
                yield writer
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}): free some space or permit writing, then run the "
            "same command to resume"
        ) from error


class StoreWriter:
    """Appends to the files of a store; see `store_writer`.

    Attributes:
        done: number of examples of the source that were encoded or left out.
        rows: number of rows so far.
        skipped: number of examples that could not be read.
    """

    def __init__(
        self, folder: Path, request: dict, with_labels: bool, name: str, dtype: np.dtype, shape: tuple[int, ...]
    ) -> None:
        self._folder = folder
        self._request = request
        self._name = name
        self._shapes: dict[str, tuple[np.dtype, tuple[int, ...]]] = {name: (dtype, shape)}
        if with_labels:
            self._shapes[LABELS] = (np.dtype(np.int32), ())
        self.done = self.rows = self.skipped = 0
        # Digest of all rows and labels, chunk by chunk. It becomes the fingerprint, which training runs record:
        # neither the hash nor the chunks may change.
        self._chain = ""
        sizes = self._resume()
        self._files = {name: self._open(name, sizes.get(name)) for name in (*self._shapes, SKIPPED)}
        self._saved = time.monotonic()

    def append(self, done: int, rows: np.ndarray, labels: np.ndarray | None, problems: list[str]) -> None:
        """Add the next examples.

        Args:
            done: number of examples, read or not.
            rows: (m, ...) of the dtype and shape of this store.
            labels: (m,) int32, or None for a store without labels.
            problems: a line for each example that could not be read.
        """
        lines = "".join(" ".join(line.splitlines()) + "\n" for line in problems)
        data = {self._name: rows.tobytes(), SKIPPED: lines.encode("utf-8", "backslashreplace")}
        if LABELS in self._shapes:
            data[LABELS] = cast("np.ndarray", labels).astype(np.int32).tobytes()
        for name, some in data.items():
            self._files[name].write(some)
        self._chain = hashlib.sha256(self._chain.encode() + data[self._name] + data.get(LABELS, b"")).hexdigest()
        self.done += done
        self.rows += len(rows)
        self.skipped += len(problems)
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Record the progress, after the data have reached the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        progress = {
            "request": self._request,
            "done": self.done,
            "rows": self.rows,
            "skipped": self.skipped,
            "chain": self._chain,
            "sizes": {name: file.tell() for name, file in self._files.items()},
        }
        write_record(self._folder / PROGRESS, progress)
        self._saved = time.monotonic()

    def finish(self, record: str, made_with: str, about: dict) -> None:
        """Give the files their names, the record last.

        Args:
            record: its name, `STORE` or `MAP_STORE`.
            made_with: the field of the request that is part of the fingerprint.
            about: further fields of the record.
        """
        self.save()
        for name, (dtype, shape) in self._shapes.items():
            self._files[name].seek(0)
            self._files[name].write(_header(dtype, (self.rows, *shape)))
        self.close()
        for name in (*self._shapes, *([SKIPPED] if self.skipped else [])):
            os.replace(self._part(name), self._folder / name)
        about = {
            **self._request,
            **about,
            "images": self.rows,
            "skipped": self.skipped,
            "labels": LABELS in self._shapes,
            "fingerprint": hashlib.sha256(f"{self._chain} {self._request[made_with]}".encode()).hexdigest()[:16],
        }
        write_record(self._folder / record, about)
        self.discard()

    def problems(self) -> list[str]:
        """A line for each example that could not be read."""
        self._files[SKIPPED].flush()
        return self._part(SKIPPED).read_text(encoding="utf-8").splitlines()

    def discard(self) -> None:
        """Delete all files without a final name."""
        self.close()
        _clear(self._folder)

    def close(self) -> None:
        """Close the files; the next run repeats what was not saved."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()

    def _resume(self) -> dict[str, int]:
        """Read the recorded progress; return the size of each file at that time, in bytes, {} to start anew."""
        path = self._folder / PROGRESS
        try:
            progress = read_record(path, FIELDS)
        except RecordError as error:
            raise UserError(
                f"{path}: expected a record, got a damaged one ({error}): delete the folder and start again"
            ) from error
        if progress is None:
            others = {one.name for one in self._folder.iterdir() if not one.name.startswith(".")}.difference(PARTS)
            if others:
                raise UserError(f"{self._folder}: expected a new or an empty folder, got one with {min(others)} in it")
            return {}
        sizes = progress["sizes"]
        check_request(self._folder, progress["request"], self._request)
        for name in sizes:
            if not self._part(name).exists() and (self._folder / name).exists():
                os.replace(self._folder / name, self._part(name))
            # Files shorter than recorded lost their end with the power.
            if not self._part(name).exists() or self._part(name).stat().st_size < sizes[name]:
                return {}
        self.done, self.rows, self.skipped = progress["done"], progress["rows"], progress["skipped"]
        self._chain = progress["chain"]
        return sizes

    def _open(self, name: str, size: int | None) -> BinaryIO:
        file = open(self._part(name), "w+b" if size is None else "r+b")  # noqa: SIM115
        if size is not None:
            file.truncate(size)
            file.seek(size)
        elif name in self._shapes:
            dtype, shape = self._shapes[name]
            file.write(_header(dtype, (0, *shape)))
        return file

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}.part"


def remove_leftovers(folder: Path) -> None:
    """Delete what a run killed at its very end left in a finished store, if the folder can be written."""
    with contextlib.suppress(OSError), held(folder / LOCK) as ours:
        if ours:
            _clear(folder)


def _clear(folder: Path) -> None:
    for name in (PROGRESS, STORE, MAP_STORE, PALETTE):
        remove_partials(folder, name)
    for name in (*PARTS, PROGRESS):
        (folder / name).unlink(missing_ok=True)


def check_request(folder: Path, found: dict, wanted: dict) -> None:
    """Raise a `UserError` unless a store was begun with the same arguments; fields of both as in `tokenize`."""
    for name, value in wanted.items():
        if found.get(name) != value:
            what = {"source": "data", "examples": "number of examples"}.get(name, name)
            raise UserError(
                f"{folder}: expected a store begun with {what} {value}, got {found.get(name)}: "
                "use the same or another folder"
            )


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The header of an .npy file; NumPy leaves room in it for any first dimension, so it can be rewritten in place."""
    file = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()
