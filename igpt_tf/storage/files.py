"""Writing a file whole or not at all, and keeping others away meanwhile."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from igpt_tf.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only once the block has ended well.

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
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"Cannot write {path}: {reason}. Choose a place that is writable and has room.") from error
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
        raise UserError(f"Cannot write {folder}: {error.strerror}. Choose a folder that is writable.") from error


@contextlib.contextmanager
def held(path: str | os.PathLike) -> Iterator[bool]:
    """Hold a lock file for as long as the block lasts; a killed process holds nothing.

    Yields:
        Whether it is ours; False where another process holds it.

    Raises:
        OSError: the file cannot be made.
    """
    path = Path(path)
    descriptor = _acquire(path)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        # Removed while held; whoever opened it before sees in _acquire that the name is gone, and starts anew.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _try_lock(descriptor):
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        # Some network file systems know no locks: better to work unguarded than not at all.
        return True
    return True
