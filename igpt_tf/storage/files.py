"""Files that are written completely or not at all, and locks between processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import BinaryIO

import filelock

from igpt_tf.errors import UsageError, UserError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Generator[BinaryIO, None, None]:
    """Open a file that gets its name only when the block ends without an error; until then an older one stays.

    Args:
        path: the file; missing folders are created.

    Raises:
        UserError: if the operating system refuses (no permission, disk full, a folder of that name).
    """
    path = Path(path)
    # In the same folder, because a rename is atomic only within one file system. Not `tempfile`, which would leave
    # the final file unreadable for everybody but its owner.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "xb") as file:
            yield file
            # The data reach the disk before the name does: a power cut must not leave an empty file of that name.
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}: choose a place that is writable and has room") from error
    finally:
        # After the rename there is nothing to delete; if this fails too, the error above is the one to report.
        with contextlib.suppress(OSError):
            partial.unlink()


def is_unicode(name: str) -> bool:
    """Whether a name of a file is text, which that of other encodings is not (PEP 383)."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def require_writable(folder: Path) -> None:
    """Create a folder if needed; raise a `UserError` if files cannot be written into it."""
    probe = folder / ".probe.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}: choose a folder that is writable") from error


def check_writable(folder: Path) -> None:
    """As `require_writable`, but no folder that is made for it stays."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    require_writable(folder)
    for path in made:
        path.rmdir()


def check_outputs(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> list[Path]:
    """The files to write that are there already, and would be replaced.

    Args:
        outputs: files that are going to be written.
        inputs: files that are read; paths of other things, such as addresses, are passed over.

    Raises:
        UsageError: if an output is an input, under any path or link, or has the place of another output.
        UserError: if an output is a folder.
    """
    read: dict[tuple[int, int], str | Path] = {}
    for path in inputs:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)
            read.setdefault((status.st_dev, status.st_ino), path)
    places: set[str] = set()
    there: list[Path] = []
    for path in outputs:
        place = os.path.realpath(path)
        if place in places:
            raise UsageError(f"{path}: expected a name for each file to write, got one for two: give another name")
        places.add(place)
        try:
            status = os.stat(path)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            raise UserError(f"{path}: expected the name of a file to write, got a folder: give another name")
        found = read.get((status.st_dev, status.st_ino))
        if found is not None:
            also = "" if str(found) == str(path) else f" ({found})"
            raise UsageError(f"{path}: expected a new file to write, got one that is read{also}: give another place")
        there.append(path)
    return there


@contextlib.contextmanager
def held(path: str | os.PathLike[str]) -> Generator[bool, None, None]:
    """Hold a lock file while the block runs. A process that is killed releases its lock, though the file stays.

    Args:
        path: the lock file, in a folder that exists; it is deleted at the end of the block.

    Yields:
        Whether the lock is ours; False if another process holds it.

    Raises:
        OSError: if the file cannot be made.
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
        # Deleted while it is held; filelock does not take a file that was deleted between its opening and locking.
        with contextlib.suppress(OSError):
            Path(path).unlink()
        lock.release()


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str], busy: str) -> Generator[None, None, None]:
    """`held`, but refuse to run the block where it is not ours.

    Args:
        path: the lock file, in a folder that exists; it is deleted at the end of the block.
        busy: message of the error if another process holds the lock.

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
    """Delete the unfinished files of killed processes that were in `atomic_write`.

    Args:
        folder: where to look; subfolders are left alone.
        name: of the file that was being written; may be a pattern. By default all of them.
    """
    for partial in folder.glob(f".{name}.*.part"):
        with contextlib.suppress(OSError):
            partial.unlink()
