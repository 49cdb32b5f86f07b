"""Many files at once: ask for sizes, check what is there already, fetch the bytes, give the names."""

import contextlib
import dataclasses
import math
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from igpt_tf.download.answer import FetchError
from igpt_tf.download.connection import Connection, Patience
from igpt_tf.download.crew import run_all
from igpt_tf.download.partial import AGAIN, Identity, Part, Receipts, explained, locked, md5_of
from igpt_tf.download.remote import RemoteFile
from igpt_tf.download.transfer import Meter, Transfer
from igpt_tf.errors import UserError


@dataclass(frozen=True)
class Arrival:
    """A file that is whole and in its place; `fetched` is False where it was there before."""

    path: Path
    bytes: int
    fetched: bool


@dataclass(frozen=True)
class Outcome:
    """What a download achieved: the files in place, in the order asked for, and what went wrong with the others."""

    arrivals: list[Arrival]
    failures: list[FetchError]


def fetch_all(
    files: Iterable[RemoteFile],
    base_url: str,
    *,
    jobs: int = 4,
    patience: Patience | None = None,
    progress: Callable[[Meter], None] = lambda meter: None,
    notify: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Fetch files that are not there yet, resuming an interrupted run.

    A file appears under its name only when it is whole and, where the server tells, has the right length and MD5;
    until then it is `NAME.part`.

    Args:
        files: what to fetch, and where to put it.
        base_url: address that the sources are relative to.
        jobs: number of files fetched at once.
        patience: how often and when to retry; None: the defaults.
        progress: called from this thread about twenty times per second.
        notify: called from this thread with lines that the user may want to read.

    Raises:
        UserError: if no file at all can be fetched: a file of another checkpoint is in the way, the disk is full, the
            server cannot be reached, or another download is running in the same folder.
    """
    files = list(files)
    with contextlib.ExitStack() as stack:
        receipts = {}
        for folder in sorted({file.path.parent for file in files}):
            stack.enter_context(locked(folder))
            receipts[folder] = Receipts(folder)
        batch = _Batch(base_url, jobs, patience or Patience(), progress, notify, receipts)
        stack.callback(batch.connection.close)
        return batch.run(files)


class _Batch:
    """One call of `fetch_all`, in folders that are held and writable."""

    def __init__(
        self,
        base_url: str,
        jobs: int,
        patience: Patience,
        progress: Callable[[Meter], None],
        notify: Callable[[str], None],
        receipts: dict[Path, Receipts],
    ):
        self._base_url = base_url.rstrip("/")
        self._jobs = jobs
        self._progress = progress
        self._notify = notify
        self._receipts = receipts
        self._stop = threading.Event()
        self._meter = Meter()
        self.connection = Connection(patience, self._stop, self._meter.report)

    def run(self, files: list[RemoteFile]) -> Outcome:
        """Ask for all sizes, refuse what cannot end well, fetch the rest."""

        def identify(file: RemoteFile) -> Identity:
            return self.connection.identify(file.source, self._url(file))

        identities = run_all(files, identify, self._jobs, self._stop, self._tick)
        known = {
            file: identity for file, identity in zip(files, identities, strict=True) if isinstance(identity, Identity)
        }
        results: dict[RemoteFile, Arrival | FetchError] = {
            file: error for file, error in zip(files, identities, strict=True) if isinstance(error, FetchError)
        }
        # All of them before the first byte is fetched: a folder with two checkpoints mixed up is worth nothing.
        there = {file for file, identity in known.items() if self._is_there(file, identity)}
        results |= {file: Arrival(file.path, file.path.stat().st_size, fetched=False) for file in there}
        missing = {file: self._resume(file, identity) for file, identity in known.items() if file not in there}
        self._check_space(missing)
        for last in (False, True):
            batch = [file for file in missing if file.last == last]
            held = "held back, so that nobody takes this checkpoint, which lacks other files, for a whole one"
            results |= {file: FetchError(self._url(file), held) for file in batch if self._lacks(file, results)}
            batch = [file for file in batch if file not in results]
            fetched = run_all(batch, lambda file: self._fetch(file, missing[file]), self._jobs, self._stop, self._tick)
            results |= dict(zip(batch, fetched, strict=True))
        ordered = [results[file] for file in files]
        return Outcome(
            [result for result in ordered if isinstance(result, Arrival)],
            [result for result in ordered if isinstance(result, FetchError)],
        )

    def _url(self, file: RemoteFile) -> str:
        return f"{self._base_url}/{file.source}"

    def _tick(self) -> None:
        self._progress(self._meter)

    def _is_there(self, file: RemoteFile, identity: Identity) -> bool:
        """Whether the file needs no fetching.

        Raises:
            UserError: something else has its name.
        """
        path = file.path
        if not path.exists():
            return False
        receipts = self._receipts[path.parent]
        if not path.is_file():
            raise _in_the_way(path, "a file", "something else")
        size = path.stat().st_size
        if identity.size is not None and size != identity.size:
            raise _in_the_way(path, f"{identity.size} bytes as on the server", f"{size}")
        receipt = receipts.find(path) or {"source": None, "md5": None}
        md5 = receipt["md5"]
        if identity.md5:
            if not md5:
                self._notify(f"Checking {path}, which was there before, against the MD5 on the server.")
                md5 = md5_of(path)
            if md5 != identity.md5:
                raise _in_the_way(path, f"MD5 {identity.md5} as on the server", md5)
        elif receipt["source"] not in (None, file.source):
            raise _in_the_way(path, file.source, f"a download of {receipt['source']}")
        elif identity.size is None and receipt["source"] is None:
            raise _in_the_way(path, "a size or MD5 from the server to compare it with", "neither")
        if receipt["source"] is None or receipt["md5"] != md5:
            receipts.record(path, file.source, md5)
        return True

    def _resume(self, file: RemoteFile, identity: Identity) -> Identity:
        """Keep the bytes of an earlier run if they are this file's, and return all that is known of it.

        Raises:
            UserError: they are those of a file of the same name from another checkpoint.
        """
        part = Part(file.path)
        note = part.note()
        if note and part.size and note.source != file.source:
            raise _in_the_way(part.path, f"part of {file.source}", f"part of {note.source}")
        if note and identity.continues(note):
            # An earlier answer may have told more than this one.
            return dataclasses.replace(identity, size=identity.size or note.size, md5=identity.md5 or note.md5)
        if part.size:
            self._notify(f"Starting {file.path} over: its part cannot be shown to be of the file now on the server.")
        part.discard()
        return identity

    def _check_space(self, missing: dict[RemoteFile, Identity]) -> None:
        """Raise UserError unless every disk has room for what is going to be written to it."""
        wanted: dict[int, int] = {}
        places: dict[int, Path] = {}
        for file, identity in missing.items():
            there = Part(file.path).size
            self._meter.add(there)
            self._meter.expect(identity.size or 0)
            with explained(file.path.parent):
                device = os.stat(file.path.parent).st_dev
            wanted[device] = wanted.get(device, 0) + max(0, (identity.size or 0) - there)
            places[device] = file.path.parent
        for device, count in wanted.items():
            free = shutil.disk_usage(places[device]).free
            if count > free:
                raise UserError(
                    f"{places[device]}: expected room for {readable(count)} still to fetch, got {readable(free)}: "
                    f"free some space or use another folder, then {AGAIN}"
                )

    def _lacks(self, file: RemoteFile, results: dict[RemoteFile, Arrival | FetchError]) -> bool:
        folder = PurePosixPath(file.source).parent
        failed = [other for other, result in results.items() if isinstance(result, FetchError)]
        return file.last and any(PurePosixPath(other.source).parent == folder for other in failed)

    def _fetch(self, file: RemoteFile, identity: Identity) -> Arrival:
        part = Part(file.path)
        transfer = Transfer(self.connection, part, identity, self._meter)
        transfer.run()
        part.place()
        self._receipts[file.path.parent].record(file.path, file.source, transfer.identity.md5)
        return Arrival(file.path, file.path.stat().st_size, fetched=True)


def _in_the_way(path: Path, expected: str, found: str) -> UserError:
    return UserError(
        f"{path} is in the way, perhaps from another checkpoint: expected {expected}, got {found}: "
        "use another folder, or remove it"
    )


def readable(count: float) -> str:
    """Return a number of bytes as people say it: 16.5 GB."""
    if count < 1000:
        return f"{count:.0f} bytes"
    power = min(4, int(math.log10(count)) // 3)
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def summarize(failures: Sequence[FetchError]) -> list[str]:
    """Return one line for each way in which files failed, however many did."""
    groups: dict[str, list[FetchError]] = {}
    for failure in failures:
        groups.setdefault(failure.reason, []).append(failure)
    lines = []
    for reason, group in groups.items():
        others = f" (and {len(group) - 1} more files)" if len(group) > 1 else ""
        lines.append(f"{group[0].url}{others}: {reason}.")
    return lines
