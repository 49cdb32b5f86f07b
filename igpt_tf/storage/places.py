"""Where models, palettes and data sets are kept: in the working directory, beside the package, or for the user."""

from __future__ import annotations

import os
from pathlib import Path

CHECKPOINTS = Path("checkpoints")
PHOTOS = Path("examples/photos")
_PACKAGE = Path(__file__).parents[1]


def checkpoint_folders() -> list[Path]:
    """Where names are looked up, in this order.

    `checkpoints/` here, beside the package, and inside it when installed; the folder of the environment variable
    IGPT_HOME; the user's cache, $XDG_CACHE_HOME/igpt or ~/.cache/igpt.
    """
    folders = [CHECKPOINTS, _PACKAGE.parent / CHECKPOINTS, _PACKAGE / CHECKPOINTS, _home(), cache_folder()]
    return [folder for folder in folders if folder is not None]


def named_folder(name: str | Path, file: str) -> Path | None:
    """The folder of a name that has a file, here or where names are looked up; None if there is none."""
    places = [Path(name).expanduser(), *(folder / name for folder in checkpoint_folders())]
    return next((place for place in places if (place / file).is_file()), None)


def photo_folder() -> Path:
    """The folder of photographs to try: `examples/photos` beside the package, or inside it when installed."""
    return next((folder for folder in (_PACKAGE.parent / PHOTOS, _PACKAGE / PHOTOS) if folder.is_dir()), PHOTOS)


def download_folder() -> Path:
    """Where downloads go that have no other place: IGPT_HOME, `checkpoints/` if there is one here, or the cache."""
    return _home() or (CHECKPOINTS if CHECKPOINTS.is_dir() else cache_folder() or CHECKPOINTS)


def _home() -> Path | None:
    return _expanded(os.environ.get("IGPT_HOME", ""))


def cache_folder() -> Path | None:
    """The user's cache: $XDG_CACHE_HOME/igpt or ~/.cache/igpt; None where the user has no home."""
    # The convention for this variable is that a relative path is ignored.
    place = os.environ.get("XDG_CACHE_HOME", "")
    return _expanded(str(Path(place if Path(place).is_absolute() else "~/.cache") / "igpt"))


def _expanded(place: str) -> Path | None:
    """A path with the user's home for ~; None for nothing, or where the user has no home."""
    try:
        return Path(place).expanduser() if place else None
    except RuntimeError:
        return None
