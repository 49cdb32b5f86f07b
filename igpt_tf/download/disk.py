"""A download on disk: what its files are from, its lock, its checksums and its mistakes."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from igpt_tf.download.http import AGAIN, Identity
from igpt_tf.errors import UserError
from igpt_tf.storage.files import held
from igpt_tf.storage.records import RecordError, read_record, write_record

# The file of a folder that says which remote files the bytes of the others are from.
RECORD = ".igpt-download.json"


class Origins:
    """What is recorded of the files in a folder: the remote file that they, or their parts, are from."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD
        self._guard = threading.Lock()
        self._known: dict[str, Any] = {}
        with contextlib.suppress(RecordError):
            self._known = read_record(self._path, {}) or {}

    def note(self, path: Path, source: str = "", identity: Identity | None = None) -> None:
        """Record what a file's bytes are from, or forget it."""
        with self._guard:
            self._known.pop(path.name, None)
            if identity is not None:
                mtime = path.stat().st_mtime_ns
                self._known[path.name] = {"source": source, "mtime_ns": mtime, "identity": asdict(identity)}
            write_record(self._path, self._known)

    def of(self, path: Path, touched: bool = False) -> tuple[str, Identity] | tuple[None, None]:
        """A file's source and identity; (None, None) for an unknown file, or one that was touched and must not be."""
        with contextlib.suppress(KeyError, TypeError, OSError):
            known = self._known[path.name]
            if touched or known["mtime_ns"] == path.stat().st_mtime_ns:
                return known["source"], Identity(**known["identity"])
        return None, None


def size_of(path: Path) -> int:
    """Bytes on disk, 0 where there is no file."""
    return path.stat().st_size if path.exists() else 0


def md5_of(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """The MD5 of a file in base64; `check` is called every few megabytes and may raise to stop."""
    digest = hashlib.md5(usedforsecurity=False)
    with explained(path), open(path, "rb") as file:
        while block := file.read(1 << 22):
            check()
            digest.update(block)
    return base64.b64encode(digest.digest()).decode()


def readable(count: float) -> str:
    """A number of bytes as people say it: 16.5 GB."""
    power = min(4, int(math.log10(max(1, count))) // 3)
    return f"{count / 1000**power:.1f} {('', 'kB', 'MB', 'GB', 'TB')[power]}" if power else f"{count:.0f} bytes"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and hold it for one downloader; a killed process holds nothing."""
    with contextlib.ExitStack() as stack:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            ours = stack.enter_context(held(folder / ".igpt-download.lock"))
        if not ours:
            raise UserError(f"another download into {folder} is running: wait for it, or use another folder")
        yield


@contextlib.contextmanager
def waiting_lock(folder: Path) -> Iterator[None]:
    """Make a folder and hold it; where another process does, wait for its end."""
    with contextlib.ExitStack() as stack:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            while not stack.enter_context(held(folder / ".igpt-weights.lock")):
                time.sleep(0.2)
        yield


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line that says what to do."""
    try:
        yield
    except OSError as error:
        reason = f"cannot be used ({error.strerror or error}): use another folder, which can be made and written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"the disk is full: what was fetched is kept, free some space, then {AGAIN}"
        elif error.errno == errno.EFBIG:
            reason = "it grew larger than this file system or a limit (ulimit -f) allows: use another folder"
        raise UserError(f"{path}: {reason}") from error
