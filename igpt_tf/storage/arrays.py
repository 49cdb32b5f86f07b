"""NumPy's .npy files, read so that nothing in them can run code."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from igpt_tf.errors import UserError


def read_npy(path: str | Path, wanted: str) -> np.memmap:
    """Memory-map the array of an .npy file.

    Args:
        path: the file.
        wanted: what it should hold, for the message of the error.

    Raises:
        UserError: if there is no such file, or it is of another kind, damaged, or would need pickle.
    """
    wanted = f"{path}: expected {wanted}"
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except FileNotFoundError as error:
        raise UserError(f"{wanted}, got nothing: check the path") from error
    except OSError as error:
        raise UserError(f"{wanted}, got one that cannot be read ({error.strerror or error})") from error
    if not start.startswith(b"\x93NUMPY"):
        kind = "a web page" if start.lstrip().startswith(b"<") else "another kind of file" if start else "an empty file"
        raise UserError(f"{wanted}, got {kind}: get it again")
    try:
        # Mapped, because then a header that promises more than the file holds is refused before memory is taken.
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if "object" in str(error).lower():
            raise UserError(
                f"{wanted}, got pickled Python objects, which are never loaded because they can run code: "
                "save it again without them"
            ) from error
        raise UserError(f"{wanted}, got a damaged one: get it again") from error
