"""Files that are written whole or not at all, and locks between processes."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import filelock

from igpt_tf.errors import UserError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file that gets its name only when the block ends without an error.

    Missing parent folders are created. Whatever goes wrong, an older file of that name stays as it was.

    Raises:
        UserError: the operating system refuses (no permission, disk full, a folder of that name).
    """
    path = Path(path)
    # In the same folder, because a rename is atomic only within one file system. Not `tempfile`, which would leave
    # the final file unreadable for everybody but its owner.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "xb") as file:
            yield file
            # The data first: after a power cut, the name must not stand for a file that is empty.
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}: choose a place that is writable and has room") from error
    finally:
        # Gone already after a rename; if even this fails, the error above is the one worth reading.
        with contextlib.suppress(OSError):
            partial.unlink()


def require_writable(folder: Path) -> None:
    """Create a folder if needed and prove that files can be written into it.

    Raises:
        UserError: if they cannot.
    """
    probe = folder / ".probe.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}: choose a folder that is writable") from error


@contextlib.contextmanager
def held(path: str | os.PathLike) -> Iterator[bool]:
    """Hold a lock file for as long as the block lasts; the lock of a killed process is free.

    Yields:
        Whether the lock is ours; False where another process holds it.

    Raises:
        OSError: the file cannot be made.
    """
    lock = filelock.FileLock(path, blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        # Removed while it is held: whoever waits for it notices that the name is gone and makes a new file.
        with contextlib.suppress(OSError):
            Path(path).unlink()
        lock.release()


@contextlib.contextmanager
def exclusive(path: str | os.PathLike, busy: str) -> Iterator[None]:
    """Run the block while no other process holds this lock file.

    Args:
        path: the lock file, in a folder that exists.
        busy: the error where another process holds it.

    Raises:
        UserError: if another process holds the lock, or the file cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            ours = stack.enter_context(held(path))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
        if not ours:
            raise UserError(busy)
        yield


def remove_partials(folder: Path, name: str = "*") -> None:
    """Delete what killed processes left of files that `atomic_write` was writing; `name` may be a pattern."""
    for partial in folder.glob(f".{name}.*.part"):
        with contextlib.suppress(OSError):
            partial.unlink()
