"""The numbered pictures of `sample` in a folder: which are there, which are missing, and with what settings."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from igpt_tf.errors import UserError
from igpt_tf.storage.files import exclusive, remove_partials, require_writable
from igpt_tf.storage.records import RecordError, read_record, write_record

RECORD_FILE = "sample.json"
LOCK_FILE = ".sample.lock"
# Figures of a series that lie beside it.
FIGURES = ("grid.png", "drawing.gif")
# What series were drawn with that were begun before these were settings.
BEFORE = {"guidance": 1.0, "classes": None, "scale": 1, "dtype": "float32"}
# Settings whose values say nothing to a reader.
OTHERS = {"model": "another model", "palette": "another palette", "classes": "other classes"}
_NAME = re.compile(r"sample_(0|[1-9][0-9]*)\.png")


class Share(NamedTuple):
    """One of `count` shares of a series: the numbers that leave `number` - 1 when divided by `count`.

    Attributes:
        number: of the share, from 1.
        count: shares.
    """

    number: int
    count: int

    def has(self, number: int) -> bool:
        """Whether the picture of a number belongs to this share."""
        return number % self.count == self.number - 1


WHOLE = Share(1, 1)


@contextlib.contextmanager
def open_series(
    folder: Path,
    settings: dict,
    n: int,
    overwrite: bool,
    scale: int = 1,
    share: Share = WHOLE,
) -> Iterator[Series]:
    """A `Series` that no other process draws meanwhile; leftovers of killed processes are removed at the end."""
    require_writable(folder)
    busy = f"{folder}: expected no other run there, got another run that draws: wait for it, or give another --out"
    with exclusive(folder / LOCK_FILE, busy):
        yield Series(folder, settings, n, overwrite, scale, share)
        for name in ("sample_*.png", RECORD_FILE, *FIGURES):
            remove_partials(folder, name)


class Series:
    """The first n pictures of one model, palette, seed and controls, drawn in as many runs as it takes.

    The record `sample.json` holds the settings and n. All others of such names are removed before it is written, so
    a run that is killed at any moment can be resumed, and pictures of two settings never mix.

    Args:
        folder: a folder that exists.
        settings: all that decides the pictures; values that JSON holds exactly.
        n: pictures that are asked for.
        overwrite: replace all pictures of such names, whatever their settings.
        scale: times that pictures are enlarged, unless some are there already.
        share: of the pictures, to be drawn here.

    Attributes:
        scale: times that the pictures are enlarged.
        is_new: whether no picture of these settings is there.
        stale: files that are going to be removed: pictures that are not of this series, and their figures.
        n_here: how many of the n belong to the share.
        missing: numbers of the pictures of the share to draw.
        n_beyond: how many pictures with higher numbers there are; they stay.

    Raises:
        UserError: if the folder has pictures of other settings, or the record is damaged.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict,
        n: int,
        overwrite: bool = False,
        scale: int = 1,
        share: Share = WHOLE,
    ) -> None:
        self.folder = folder
        self.n = n
        self._settings = settings
        there = {number for path in folder.iterdir() if (number := number_of(path)) is not None}
        found = None if overwrite else read_series(folder)
        differing = [] if found is None else _differences(found, settings)
        self._n_recorded = 0 if found is None else found["n"]
        kept = {number for number in there if number < self._n_recorded}
        if differing and kept:
            raise UserError(
                f"{folder}: expected pictures of these settings, got {len(kept)} of {self._n_recorded} pictures with "
                f"other settings ({'; '.join(differing)}): give the same settings, another --out, or --overwrite"
            )
        if differing:
            self._n_recorded = 0
        self.is_new = not kept
        self.scale = scale if found is None or self.is_new else found["scale"]
        stale = {number for number in there - kept if overwrite or number < n}
        self.n_here = sum(map(share.has, range(n)))
        self.missing = [number for number in range(n) if number not in kept and share.has(number)]
        self.n_beyond = sum(number >= n for number in there - stale)
        # `complete` may have written figures of these names where no series is recorded.
        had_figures = self.is_new and (folder / RECORD_FILE).exists()
        figures = [folder / name for name in FIGURES if had_figures and (folder / name).exists()]
        self.stale = [*map(self.path, sorted(stale)), *figures]

    def path(self, number: int) -> Path:
        """Where a picture is."""
        return self.folder / f"sample_{number}.png"

    def has_name(self, path: Path) -> bool:
        """Whether a path is that of a picture of the series, drawn or not."""
        return _NAME.fullmatch(path.name) is not None and path.parent.resolve() == self.folder.resolve()

    def begin(self) -> None:
        """Remove files of other series and write the record, before the first image is drawn."""
        try:
            for path in self.stale:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror or error})") from error
        if self.n > self._n_recorded or self.is_new:
            n = max(self.n, self._n_recorded)
            write_record(self.folder / RECORD_FILE, {**self._settings, "scale": self.scale, "n": n})


def refuse_series_names(paths: Iterable[Path]) -> None:
    """Raise a `UserError` for a path that `sample` would take for a picture of a series recorded in its folder."""
    for path in paths:
        if _NAME.fullmatch(path.name) and (path.parent / RECORD_FILE).exists():
            raise UserError(
                f"{path}: expected another name, got that of a picture of the series in {path.parent / RECORD_FILE}: "
                "give another name or place, such as another --out"
            )


def number_of(path: Path) -> int | None:
    """The number of a picture of a series; None for another name."""
    match = _NAME.fullmatch(path.name)
    return None if match is None else int(match[1])


def read_series(folder: Path) -> dict | None:
    """The record of a folder: the settings, `scale` and `n`; None where there is none."""
    try:
        found = read_record(folder / RECORD_FILE, {"n": int})
        if found is None:
            return None
        found = {**BEFORE, **found}
        if type(found["scale"]) is not int or found["scale"] < 1:
            raise RecordError(f"scale {found['scale']}")
        return found
    except RecordError as error:
        raise UserError(
            f"{folder / RECORD_FILE}: expected the record of a run of sample, got {error}: give "
            "another --out, or --overwrite to begin anew"
        ) from None


def _differences(found: dict, settings: dict) -> list[str]:
    """What differs between a record's settings and these."""
    return [
        OTHERS.get(name) or f"{name} {found.get(name)} there, {value} here"
        for name, value in settings.items()
        if found.get(name) != value
    ]
