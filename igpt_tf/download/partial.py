"""The files of a download on disk: the part of each file, the folder's receipts, and the folder's lock."""

import base64
import contextlib
import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from igpt_tf.errors import UserError
from igpt_tf.storage.files import held

AGAIN = "run the same command again to continue"


@dataclass(frozen=True)
class Identity:
    """Which remote file some bytes belong to, as far as the server tells.

    Attributes:
        source: path below the base URL; two files with the same `source` are the same file, on whatever mirror.
        size: in bytes.
        md5: in base64, as in the header Content-MD5.
    """

    source: str
    url: str
    size: int | None = None
    md5: str | None = None
    etag: str | None = None
    last_modified: str | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range may carry: an ETag that stands for exact bytes, else the date of the last change."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def differs(self, other: "Identity") -> bool:
        """Whether the two answers of one server show that the file changed between them."""
        if self.etag and other.etag:
            return self.etag != other.etag
        if self.last_modified and other.last_modified:
            return self.last_modified != other.last_modified
        return False

    def continues(self, earlier: "Identity") -> bool:
        """Whether bytes fetched under `earlier` are the first bytes of this file, by all that the server tells."""
        if self.source != earlier.source or (self.size and earlier.size and self.size != earlier.size):
            return False
        if self.md5 and earlier.md5:
            return self.md5 == earlier.md5
        # ETags and dates of two servers have nothing to do with each other.
        if self.url != earlier.url:
            return False
        if self.validator or earlier.validator:
            return self.validator == earlier.validator
        # A server that dates nothing: the length is all there is to go by.
        return bool(self.size and self.size == earlier.size)


class Part:
    """The bytes of one file fetched so far, beside its final name, with a note of which remote file they are from."""

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.note_path = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes on disk, 0 where there is no part."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def start(self) -> bytes:
        """Return the first bytes on disk, 512 at most."""
        with explained(self.path), open(self.path, "rb") as file:
            return file.read(512)

    def note(self) -> Identity | None:
        """Where the bytes come from, or None where nobody knows."""
        try:
            return Identity(**json.loads(self.note_path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, identity: Identity) -> None:
        """Empty the part and note where its bytes are going to come from."""
        with explained(self.path):
            # In this order, so that a crash in between never leaves old bytes under a new note.
            self.path.write_bytes(b"")
            self.note_path.write_text(json.dumps(asdict(identity)), "utf-8")

    @contextlib.contextmanager
    def appending(self) -> Iterator[Callable[[bytes], None]]:
        """Open the part for as long as the block lasts and hand over a function that appends bytes to it."""
        with contextlib.ExitStack() as stack:
            with explained(self.path):
                # Unbuffered: what arrived is on disk even if the process is killed.
                file = stack.enter_context(open(self.path, "ab", buffering=0))

            def append(data: bytes) -> None:
                rest = memoryview(data)
                with explained(self.path):
                    while rest:
                        rest = rest[file.write(rest) :]

            yield append

    def discard(self) -> None:
        """Remove the part and its note."""
        with explained(self.path):
            self.path.unlink(missing_ok=True)
            self.note_path.unlink(missing_ok=True)

    def place(self) -> None:
        """Give the whole file its final name.

        Raises:
            UserError: a file of that name appeared in the meantime.
        """
        with explained(self.target):
            if self.target.exists():
                raise UserError(f"{self.target} appeared while it was being downloaded: remove it, then {AGAIN}")
            with open(self.path, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(self.path, self.target)
            self.note_path.unlink(missing_ok=True)


class Receipts:
    """What was put into a folder, and from where: spares a second run from hashing gigabytes again."""

    NAME = ".igpt-download.json"

    def __init__(self, folder: Path):
        self._path = folder / self.NAME
        self._guard = threading.Lock()
        try:
            entries = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            entries = {}
        self._entries: dict[str, Any] = entries if isinstance(entries, dict) else {}

    def find(self, path: Path) -> dict[str, Any] | None:
        """Return `source` and `md5` of a file that was not touched since, or None."""
        entry = self._entries.get(path.name)
        stat = path.stat()
        if (
            not isinstance(entry, dict)
            or entry.get("bytes") != stat.st_size
            or entry.get("mtime_ns") != stat.st_mtime_ns
        ):
            return None
        return {"source": entry.get("source"), "md5": entry.get("md5")}

    def record(self, path: Path, source: str, md5: str | None) -> None:
        """Remember where `path` came from and, if its bytes were checked, their MD5."""
        stat = path.stat()
        entry = {"source": source, "md5": md5, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        with self._guard, explained(self._path):
            self._entries[path.name] = entry
            # One name for good, so that killed processes do not leave a heap of them.
            new = self._path.with_name(self.NAME + ".new")
            new.write_text(json.dumps(self._entries, indent=1), "utf-8")
            os.replace(new, self._path)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and hold it for one downloader; a killed process holds nothing.

    Raises:
        UserError: another downloader is at work there, or the folder cannot be made or written.
    """
    path = folder / ".igpt-download.lock"
    stack = contextlib.ExitStack()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context(held(path))
    with stack:
        if not lock:
            raise UserError(f"another download into {folder} is running: wait for it, or use another folder")
        yield


def md5_of(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """Return the MD5 of a file in base64; `check` is called every few megabytes and may raise to stop."""
    digest = hashlib.md5(usedforsecurity=False)
    with explained(path), open(path, "rb") as file:
        while block := file.read(1 << 22):
            check()
            digest.update(block)
    return base64.b64encode(digest.digest()).decode()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(_explain(path, error)) from error


def _explain(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full, cannot write {path}: what was fetched is kept, free some space, then {AGAIN}"
    if error.errno == errno.EFBIG:
        return f"{path} grew larger than this file system or a limit (ulimit -f) allows: use another folder"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{path} cannot be a folder, because a file is in the way: use another folder"
    reason = error.strerror or str(error)
    return f"cannot use {path}: {reason}: use another folder, which exists or can be made, and is writable"
