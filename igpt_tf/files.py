"""Writing a file whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from igpt_tf.errors import UserError


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
