"""Pictures sample_0.png, sample_1.png ... in a folder: which are there, which are missing, whose they are."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from igpt_tf.cli.pictures import SHOWN
from igpt_tf.errors import UserError
from igpt_tf.storage.files import atomic_write, held

RECORD_FILE = "sample.json"
LOCK_FILE = ".sample.lock"
_NAME = re.compile(r"sample_(0|[1-9][0-9]*)\.png")


@contextlib.contextmanager
def open_series(folder: Path, settings: dict, n: int, overwrite: bool) -> Iterator[Series]:
    """A `Series` that no other process touches meanwhile.

    Raises:
        UserError: as `Series`, and if another process draws into the folder.
    """
    with contextlib.ExitStack() as stack:
        try:
            ours = stack.enter_context(held(folder / LOCK_FILE))
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror or error}); choose another folder"
            ) from error
        if not ours:
            raise UserError(f"{folder}: another run is drawing into it: wait for its end, or give another --out")
        yield Series(folder, settings, n, overwrite)


class Series:
    """The first n pictures of one model, palette, seed and controls, drawn in as many runs as it takes.

    `sample.json` holds the settings, how many pictures were asked for and whether all were drawn. Pictures below that
    number are the record's, because all others of such names were removed before it was written; so a run that is
    killed at any moment is gone on with, and pictures of two runs never stand side by side under the record's number.

    Args:
        folder: which exists.
        settings: all that decides the pictures; values that JSON holds exactly.
        n: pictures that are asked for.
        overwrite: throw away all pictures of such names that are there, whose-ever they are.

    Attributes:
        missing: numbers of the pictures that are to be drawn.
        n_beyond: pictures with higher numbers than were asked for, which are left alone.

    Raises:
        UserError: if work would be lost: the folder holds an unfinished run of other settings, or a finished one of
            more pictures than a grid shows; or the record is damaged.
    """

    def __init__(self, folder: Path, settings: dict, n: int, overwrite: bool = False) -> None:
        self.folder = folder
        self.n = n
        self._settings = settings
        there = {int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))}
        found = None if overwrite else _read_record(folder)
        same = found is not None and all(found.get(name) == value for name, value in settings.items())
        if found is not None and not same:
            self._refuse_to_lose(found, sum(number < found["n"] for number in there))
        self._n_trusted = found["n"] if same else 0
        n_replaced = max(there, default=0) + 1 if overwrite else max(n, found["n"]) if found else n
        self._stale = {number for number in there if self._n_trusted <= number < n_replaced}
        kept = there - self._stale
        self.missing = [number for number in range(n) if number not in kept]
        self.n_beyond = sum(number >= n for number in kept)

    def path(self, number: int) -> Path:
        """Where a picture is."""
        return self.folder / f"sample_{number}.png"

    def has_name(self, path: Path) -> bool:
        """Whether a path is one of a picture of the series, drawn or not."""
        return _NAME.fullmatch(path.name) is not None and path.parent.resolve() == self.folder.resolve()

    def begin(self) -> None:
        """Remove what is not of this series and write the record: from here on, pictures may be written."""
        try:
            for number in self._stale:
                self.path(number).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror or error})") from error
        if self.n > self._n_trusted:
            self._write_record(finished=False)

    def finish(self) -> None:
        """Note that all pictures are there, and remove what a process that was killed had begun to write."""
        for name in ("sample_*.png", RECORD_FILE, "grid.png", "drawing.gif"):
            for partial in self.folder.glob(f".{name}.*.part"):
                with contextlib.suppress(OSError):
                    partial.unlink()
        if self.n >= self._n_trusted:
            self._write_record(finished=True)

    def _write_record(self, finished: bool) -> None:
        record = {**self._settings, "n": self.n, "finished": finished}
        with atomic_write(self.folder / RECORD_FILE) as file:
            file.write(json.dumps(record, indent=2).encode() + b"\n")

    def _refuse_to_lose(self, found: dict, n_drawn: int) -> None:
        if not n_drawn or (found["finished"] and n_drawn <= SHOWN):
            return
        differing = [
            f"another {name}" if name in ("model", "palette") else f"{name} {found.get(name)} there, {value} here"
            for name, value in self._settings.items()
            if found.get(name) != value
        ]
        holds = (
            f"{n_drawn} pictures" if found["finished"] else f"{n_drawn} of {found['n']} pictures of an unfinished run"
        )
        raise UserError(
            f"{self.folder} holds {holds} with other settings ({'; '.join(differing)}): give the same to go on, "
            "another --out, or --overwrite to throw them away"
        )


def refuse_series_names(paths: Iterable[Path]) -> None:
    """Refuse names of pictures that would pass for those of a series that `sample` has recorded.

    Raises:
        UserError: if a path is that of a picture of a series, drawn or not, in a folder with a record.
    """
    for path in paths:
        if _NAME.fullmatch(path.name) and (path.parent / RECORD_FILE).exists():
            raise UserError(
                f"{path} would be taken for a picture of the series that {path.parent / RECORD_FILE} records: "
                "give another name or place, such as another --out"
            )


def _read_record(folder: Path) -> dict | None:
    """What `Series` has written, None where there is nothing."""
    path = folder / RECORD_FILE
    try:
        record = json.loads(path.read_bytes())
        if type(record["n"]) is not int or type(record["finished"]) is not bool:
            raise TypeError
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path}: expected the record of a run of sample, found something else: give another --out, or "
            "--overwrite to begin anew"
        ) from None
    return record
