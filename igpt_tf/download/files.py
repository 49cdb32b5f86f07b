"""Files of a server: fetched in parallel, resumed, checked, and named only when they are whole."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

import requests

from igpt_tf.download import RemoteFile, http
from igpt_tf.download.disk import Origins, explained, locked, md5_of, readable, size_of
from igpt_tf.download.http import AGAIN, Connection, FetchError, Identity, PassingError, Patience
from igpt_tf.errors import Notice, UserError
from igpt_tf.progress import ProgressBar

# Once stopped, a thread that waits for the network notices only when something comes or the wait times out.
GRACE_S = 1.0


class Fallible(Protocol):
    """What may fail alone."""

    error: FetchError | None


Task = TypeVar("Task", bound=Fallible)
HELD_BACK = "held back, so that nobody takes this checkpoint, which lacks other files, for a whole one"


class Bar:
    """What counts the bytes of all threads."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        self._guard = threading.Lock()

    def count(self, done: int, total: int = 0) -> None:
        """Count bytes that arrived, or below zero were given up, and bytes that are going to."""
        with self._guard:
            self._bar.total = (self._bar.total or 0) + total
            self._bar.set_postfix_str("", refresh=False)
            self._bar.update(done)

    def wait(self, trouble: str) -> None:
        """Show what is being waited out, until the next bytes come."""
        self._bar.set_postfix_str(f"waiting: {trouble}")


class Download:
    """A file on its way: what the server says of it, and what is on disk.

    Attributes:
        file: what is fetched, and where to.
        fetched: whether it was; it is also in its place if it was there before.
        error: why it is not in its place.
    """

    def __init__(self, file: RemoteFile, base_url: str, connection: Connection, origins: Origins, bar: Bar) -> None:
        self.file = file
        self.fetched = False
        self.error: FetchError | None = None
        self.part = file.path.with_name(f"{file.path.name}.part")
        self._connection = connection
        self._origins = origins
        self._bar = bar
        self._ranges = True
        self.identity = Identity(f"{base_url.rstrip('/')}/{file.source}")

    def identify(self) -> None:
        """Ask the server."""
        self.identity = self._connection.identify(self.identity.url)

    def is_there(self) -> bool:
        """Whether the file needs no fetching; a `UserError` if something else has its name."""
        path, identity = self.file.path, self.identity
        if not path.exists():
            return False
        if not path.is_file():
            raise _in_the_way(path, "a file", "something else")
        source, before = self._origins.of(path)
        if identity.size not in (None, size_of(path)):
            raise _in_the_way(path, f"{identity.size} bytes as on the server", f"{size_of(path)}")
        if identity.md5:
            known = before and before.md5
            if not known:
                warnings.warn(
                    Notice(f"checking {path}, which was there before, against the server's MD5"), stacklevel=2
                )
            md5 = known or md5_of(path)
            if md5 != identity.md5:
                raise _in_the_way(path, f"MD5 {identity.md5} as on the server", md5)
            if not known:
                self._origins.note(path, self.file.source, identity)
        elif source not in (None, self.file.source):
            raise _in_the_way(path, self.file.source, f"a download of {source}")
        elif source is None and identity.size is None:
            raise _in_the_way(path, "a size or MD5 from the server to compare it with", "neither")
        return True

    def resume(self) -> None:
        """Keep the bytes of an earlier run if they are this file's."""
        source, before = self._origins.of(self.part, touched=True)
        there = size_of(self.part)
        if there and source not in (None, self.file.source):
            raise _in_the_way(self.part, f"part of {self.file.source}", f"part of {source}")
        if there and not (before and self.identity.continues(before)):
            line = f"starting {self.file.path} over: its part cannot be shown to be of the file now on the server"
            warnings.warn(Notice(line), stacklevel=2)
            self.part.unlink()
        self._bar.count(size_of(self.part), self.identity.size or 0)

    def fetch(self) -> None:
        """Fetch what is missing, twice if it is damaged, and give the file its name."""
        path, url = self.file.path, self.identity.url
        for last in (False, True):
            self._connection.persist(url, self._ask, lambda: size_of(self.part))
            damage = self._damage()
            if damage is None:
                break
            self._bar.count(-size_of(self.part))
            self.part.unlink()
            if last or "web page" in damage:
                raise FetchError(url, damage)
        if path.exists():
            raise UserError(f"{path} appeared while it was being downloaded: remove it, then {AGAIN}")
        with explained(path):
            with open(self.part, "rb+") as whole:
                os.fsync(whole.fileno())
            os.replace(self.part, path)
        self._origins.note(self.part)
        self._origins.note(path, self.file.source, self.identity)
        self.fetched = True

    def _damage(self) -> str | None:
        """What shows that the bytes on disk, whichever run they are from, are not those of the file."""
        size, md5 = self.identity.size, self.identity.md5
        advice = "twice: the damage is on the way or on the server: use another network or another mirror"
        with open(self.part, "rb") as file:
            if page := http.web_page(file.read(512)):
                return page
        if size_of(self.part) != size:
            return f"expected {size} bytes, got more, {advice}"
        if md5 and (found := md5_of(self.part, self._connection.check_stop)) != md5:
            return f"expected MD5 {md5}, got {found}, {advice}"
        return None

    def _ask(self) -> None:
        """Append what is missing, or start over where the server cannot continue what is there."""
        url, size, version = self.identity.url, self.identity.size, self.identity.version
        offset = size_of(self.part) if self._ranges and size is not None else 0
        if offset and offset == size:
            return
        offset = 0 if offset > (size or 0) else offset
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and version:
            headers["If-Range"] = version
        with self._connection.request("GET", url, headers) as response:
            now = http.identity_of(response, url)
            if response.status_code == 200:
                return self._start_over(response, now)
            # Some servers do not know If-Range, and send the rest of a file that is another by now.
            is_same = now.version in (None, version) and now.size in (None, size)
            if offset and is_same and http.content_range(response)[0] == offset:
                return self._append(self._connection.body(response), offset)
        if not offset:
            raise PassingError("expected the whole file, got a part of it")
        self._ranges = False
        self._ask()

    def _start_over(self, response: requests.Response, now: Identity) -> None:
        """Put the whole file in place of what is there."""
        before = self.identity
        if before.version and now.version == before.version:
            now = replace(now, size=before.size or now.size, md5=before.md5 or now.md5)
        if now.size is None and now.md5 is None and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
            raise FetchError(now.url, "expected a length or a checksum, got neither: use another mirror")
        chunks = self._connection.body(response)
        start = next(chunks, b"")
        if page := http.web_page(start):
            raise FetchError(now.url, page)
        # Not before now: until then, the bytes and the identity of an earlier answer belong together.
        self._bar.count(-size_of(self.part), (now.size or 0) - (before.size or 0))
        with explained(self.part):
            self.part.write_bytes(b"")
        self._origins.note(self.part, self.file.source, now)
        self.identity = now
        self._append(itertools.chain([start], chunks), 0)

    def _append(self, chunks: Iterable[bytes], offset: int) -> None:
        size = self.identity.size
        # Unbuffered: what arrived is on disk even if the process is killed.
        with explained(self.part), open(self.part, "ab", buffering=0) as file:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
                offset += len(chunk)
                self._bar.count(len(chunk))
                if offset > (size or offset):
                    return
        if size is None:
            self._bar.count(0, offset)
            self.identity = replace(self.identity, size=offset)
        elif offset < size:
            raise PassingError(f"expected {size} bytes, got {offset}")


def fetch_all(
    files: Sequence[RemoteFile],
    base_url: str,
    jobs: int = 4,
    patience: Patience | None = None,
    bar: ProgressBar | None = None,
) -> list[Download]:
    """Fetch files that are not there yet, resuming an interrupted run; returns what became of each.

    A file appears under its name only when it is whole and, where the server tells, has the right length and MD5;
    until then it is `NAME.part`.

    Args:
        files: what to fetch, and where to put it.
        base_url: address that the sources are relative to.
        jobs: number of files fetched at once.
        patience: how often and when to retry; None: the defaults.
        bar: counts the bytes; None: one that is shown for what takes longer than a second.

    Raises:
        UserError: if no file at all can be fetched: a file of another checkpoint is in the way, the disk is full, the
            server cannot be reached, or another download is running in the same folder.
    """
    with contextlib.ExitStack() as stack:
        for folder in sorted({file.path.parent for file in files}):
            stack.enter_context(locked(folder))
        bar = bar if bar is not None else stack.enter_context(ProgressBar(unit="B", unit_scale=True, delay=1))
        count, stop = Bar(bar), threading.Event()
        connection = Connection(patience or Patience(), stop, count.wait)
        origins = {folder: Origins(folder) for folder in {file.path.parent for file in files}}
        downloads = [Download(file, base_url, connection, origins[file.path.parent], count) for file in files]

        together(Download.identify, downloads, jobs, stop)
        # All of them before the first byte is fetched: a folder with two checkpoints mixed up is worth nothing.
        missing = [one for one in downloads if not one.error and not one.is_there()]
        for one in missing:
            one.resume()
        check_space(missing)
        together(Download.fetch, [one for one in missing if not one.file.last], jobs, stop)
        failed = {PurePosixPath(one.file.source).parent for one in downloads if one.error}
        for one in missing:
            if one.file.last and PurePosixPath(one.file.source).parent in failed:
                one.error = FetchError(one.identity.url, HELD_BACK)
        together(Download.fetch, [one for one in missing if one.file.last and not one.error], jobs, stop)
        return downloads


def fetch_file(url: str, path: Path) -> None:
    """Download a file to a path; a `UserError` if it cannot be, or there is such a file."""
    base_url, _, name = url.rpartition("/")
    (download,) = fetch_all([RemoteFile(name, path)], base_url)
    if download.error:
        raise download.error


def together(work: Callable[[Task], None], tasks: Sequence[Task], jobs: int, stop: threading.Event) -> None:
    """Call `work` for all, `jobs` at a time; any exception but a `FetchError` sets `stop` and is raised here."""
    slots = threading.Semaphore(jobs)
    broken: list[BaseException] = []

    def run(one: Task) -> None:
        try:
            with slots:
                if not stop.is_set():
                    work(one)
        except FetchError as error:
            one.error = error
        except BaseException as error:
            broken.append(error)
            stop.set()

    # Daemons: the interpreter joins any other thread, and the threads of an executor, before it ends.
    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in tasks]
    try:
        for thread in threads:
            thread.start()
        while not stop.is_set() and any(thread.is_alive() for thread in threads):
            stop.wait(0.05)
    finally:
        if any(thread.is_alive() for thread in threads):
            stop.set()
        deadline = time.monotonic() + GRACE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    if broken:
        raise broken[0]


def check_space(missing: Sequence[Download]) -> None:
    """Raise a `UserError` unless every disk has room for what is going to be written to it."""
    wanted: dict[int, int] = {}
    for one in missing:
        folder, size = one.part.parent, one.identity.size or 0
        disk = os.stat(folder).st_dev
        wanted[disk] = wanted.get(disk, 0) + max(0, size - size_of(one.part))
    for folder in {one.part.parent for one in missing}:
        count, free = wanted[os.stat(folder).st_dev], shutil.disk_usage(folder).free
        if count > free:
            raise UserError(
                f"{folder}: expected room for {readable(count)} still to fetch, got {readable(free)}: "
                f"free some space or use another folder, then {AGAIN}"
            )


def _in_the_way(path: Path, expected: str, found: str) -> UserError:
    return UserError(
        f"{path} is in the way, perhaps from another checkpoint: expected {expected}, got {found}: "
        "use another folder, or remove it"
    )
