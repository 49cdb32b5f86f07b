"""A token store while it is being written: what is done is recorded, so that a killed run goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.pictures.palette import Palette
from igpt_tf.storage.files import atomic_write, held

STORE, PROGRESS, LOCK = "store.json", "progress.json", ".lock"
TOKENS, LABELS, PALETTE, SKIPPED = "tokens.npy", "labels.npy", "palette.npy", "skipped.txt"
PARTS = tuple(f"{name}.part" for name in (TOKENS, LABELS, SKIPPED))
# A run that is killed loses the work of about so many seconds.
SAVE_SECONDS = 1.0


def digest_of(palette: Palette) -> str:
    """A short digest of a palette's colours."""
    return hashlib.sha256(repr(palette.colors.shape).encode() + palette.colors.tobytes()).hexdigest()[:16]


@contextlib.contextmanager
def store_writer(folder: Path, request: dict, with_labels: bool) -> Iterator[StoreWriter]:
    """Make a folder, hold it for this process alone, and write a store in it, or go on with one.

    Args:
        folder: where the store goes.
        request: everything that decides its content; a run goes on only with the same.
        with_labels: whether there are labels.

    Raises:
        UserError: the folder holds something else or cannot be written, or another process is at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder / LOCK) as ours:
            if not ours:
                raise UserError(f"{folder}: another process is writing this store; wait for it")
            writer = StoreWriter(folder, request, with_labels)
            try:
                yield writer
            finally:
                writer.close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{folder}: cannot be written ({reason}); make it writable and make room, and the same command goes on"
        ) from error


class StoreWriter:
    """Appends to the files of a store; see `store_writer`.

    Attributes:
        done: examples of the source that are done with.
        rows: tokenised images so far.
        skipped: examples that could not be read.
    """

    def __init__(self, folder: Path, request: dict, with_labels: bool) -> None:
        self._folder = folder
        self._request = request
        self._shapes = {TOKENS: (np.dtype(np.uint16), (request["n_px"] ** 2,))}
        if with_labels:
            self._shapes[LABELS] = (np.dtype(np.int32), ())
        self.done = self.rows = self.skipped = 0
        self._chain = ""
        sizes = self._resume()
        self._files = {name: self._open(name, sizes.get(name)) for name in (*self._shapes, SKIPPED)}
        self._saved = time.monotonic()

    def append(self, done: int, tokens: np.ndarray, labels: np.ndarray | None, problems: list[str]) -> None:
        """Add what became of the next examples.

        Args:
            done: how many examples they are.
            tokens: (m, T) uint16.
            labels: (m,) int32, where the store has labels.
            problems: a line for each that could not be read.
        """
        lines = "".join(" ".join(line.splitlines()) + "\n" for line in problems)
        data = {TOKENS: tokens.tobytes(), SKIPPED: lines.encode("utf-8", "backslashreplace")}
        if LABELS in self._shapes:
            data[LABELS] = labels.astype(np.int32).tobytes()
        for name, some in data.items():
            self._files[name].write(some)
        self._chain = hashlib.sha256(self._chain.encode() + data[TOKENS] + data.get(LABELS, b"")).hexdigest()
        self.done += done
        self.rows += len(tokens)
        self.skipped += len(problems)
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Record what is done, after it has reached the disk."""
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
        with atomic_write(self._folder / PROGRESS) as file:
            file.write(json.dumps(progress).encode())
        self._saved = time.monotonic()

    def finish(self, palette: Palette, about: dict) -> None:
        """Give the files their names, `store.json` last; this can be killed and done again, too.

        Args:
            palette: goes into the store.
            about: what `store.json` says beside the request.
        """
        self.save()
        for name, (dtype, shape) in self._shapes.items():
            self._files[name].seek(0)
            self._files[name].write(_heading(dtype, (self.rows, *shape)))
        palette.save(self._folder / PALETTE)
        self.close()
        for name in (*self._shapes, *([SKIPPED] if self.skipped else [])):
            os.replace(self._part(name), self._folder / name)
        about = {
            **self._request,
            **about,
            "images": self.rows,
            "skipped": self.skipped,
            "labels": LABELS in self._shapes,
            "fingerprint": hashlib.sha256(f"{self._chain} {self._request['palette']}".encode()).hexdigest()[:16],
        }
        with atomic_write(self._folder / STORE) as file:
            file.write(json.dumps(about, indent=1).encode())
        self.discard()

    def problems(self) -> list[str]:
        """A line for each example that could not be read."""
        self._files[SKIPPED].flush()
        return self._part(SKIPPED).read_text(encoding="utf-8").splitlines()

    def discard(self) -> None:
        """Delete what has no final name."""
        self.close()
        _clear(self._folder)

    def close(self) -> None:
        """Close the files; what was not saved is done again by the next run."""
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()

    def _resume(self) -> dict[str, int]:
        """Take up the recorded progress; the bytes of each file that belong to it, none where there is no progress."""
        path = self._folder / PROGRESS
        if not path.exists():
            others = sorted(one.name for one in self._folder.iterdir() if not one.name.startswith("."))
            others = [name for name in others if name not in PARTS]
            if others:
                raise UserError(f"{self._folder}: expected a new or an empty folder, found {others[0]} in it")
            return {}
        try:
            progress = json.loads(path.read_bytes())
            request, sizes = progress["request"], progress["sizes"]
            counts = [int(progress[name]) for name in ("done", "rows", "skipped")]
            chain = str(progress["chain"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged; delete the folder and start again") from error
        check_request(self._folder, request, self._request)
        for name in sizes:
            if not self._part(name).exists() and (self._folder / name).exists():
                os.replace(self._folder / name, self._part(name))
            # Files shorter than recorded lost their end with the power.
            if not self._part(name).exists() or self._part(name).stat().st_size < sizes[name]:
                return {}
        (self.done, self.rows, self.skipped), self._chain = counts, chain
        return sizes

    def _open(self, name: str, size: int | None) -> BinaryIO:
        if size is None:
            file = open(self._part(name), "w+b")  # noqa: SIM115
            if name in self._shapes:
                dtype, shape = self._shapes[name]
                file.write(_heading(dtype, (0, *shape)))
            return file
        file = open(self._part(name), "r+b")  # noqa: SIM115
        file.truncate(size)
        file.seek(size)
        return file

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}.part"


def tidy(folder: Path) -> None:
    """Clear a finished store of what a run that was killed at its very end left, where that can be written."""
    with contextlib.suppress(OSError), held(folder / LOCK) as ours:
        if ours:
            _clear(folder)


def _clear(folder: Path) -> None:
    unfinished = [path for name in (PROGRESS, STORE, PALETTE) for path in folder.glob(f".{name}.*.part")]
    for path in (*(folder / name for name in PARTS), *unfinished, folder / PROGRESS):
        path.unlink(missing_ok=True)


def check_request(folder: Path, found: dict, wanted: dict) -> None:
    """Raise a `UserError` unless a store was begun for what is asked for now."""
    for name, value in wanted.items():
        if found.get(name) != value:
            what = {"source": "data", "examples": "number of examples"}.get(name, name)
            raise UserError(
                f"{folder}: this store was begun with another {what} ({found.get(name)}, now {value}); "
                "give what it was begun with, or another folder"
            )


def _heading(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The start of an .npy file; NumPy leaves room in it for any first dimension, so it can be rewritten in place."""
    file = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()
