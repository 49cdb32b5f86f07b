"""Transfer one file from a server into its part, in as many requests as it takes."""

import dataclasses
import itertools
import threading
from collections.abc import Iterable, Iterator

import requests

from igpt_tf.download.answer import START_BYTES, FetchError, PassingError, content_range, identity_of, refuse_web_page
from igpt_tf.download.connection import Connection
from igpt_tf.download.partial import Identity, Part, md5_of


class Meter:
    """Bytes there and bytes wanted, counted by many threads, and what they are waiting for if nothing comes."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.done = 0
        self.total = 0
        self.trouble = ""

    def add(self, count: int) -> None:
        """Count bytes that arrived, or, below zero, bytes that were given up."""
        with self._guard:
            self.done += count
            self.trouble = ""

    def report(self, trouble: str) -> None:
        """Say what is being waited out; forgotten when the next bytes come."""
        self.trouble = trouble

    def expect(self, count: int) -> None:
        """Count bytes that are going to arrive."""
        with self._guard:
            self.total += count


class DamagedError(Exception):
    """The bytes that arrived are not those of the file."""


class MisplacedError(PassingError):
    """What the server sends cannot be joined to the bytes that are there."""


class Transfer:
    """The way of one file into its part.

    Args:
        connection: to ask through.
        part: empty, or with bytes that `identity` is known to continue.
        identity: what the server said of the file so far; follows what its answers tell.
        meter: counts the bytes.
    """

    def __init__(self, connection: Connection, part: Part, identity: Identity, meter: Meter):
        self._connection = connection
        self._part = part
        self._meter = meter
        self._ranges = True
        self.identity = identity

    def run(self) -> None:
        """Fetch what is missing and check the whole, which is then ready to be placed.

        Raises:
            FetchError: if this file cannot be downloaded.
            UserError: if the network or the disk fails for all files.
        """
        url = self.identity.url
        for last in (False, True):
            try:
                self._connection.persist(url, self._advance, reached=lambda: self._part.size)
                self._check_start()
                self._check_md5()
                return
            except DamagedError as error:
                self._meter.add(-self._part.size)
                self._part.discard()
                if last:
                    advice = "the damage is on the way or on the server: use another network or another mirror"
                    raise FetchError(url, f"{error}, twice: {advice}") from None

    def _check_start(self) -> None:
        """Refuse a web page even where it came in pieces too small to tell."""
        try:
            refuse_web_page(self.identity.url, self._part.start())
        except FetchError:
            self._meter.add(-self._part.size)
            self._part.discard()
            raise

    def _check_md5(self) -> None:
        expected = self.identity.md5
        # Read back, so that it is the bytes on disk which are checked, whichever run they are from.
        if expected and (found := md5_of(self._part.path, self._connection.check_stop)) != expected:
            raise DamagedError(f"expected MD5 {expected}, got {found}")

    def _advance(self) -> None:
        """Append what is missing, or start over where the server cannot continue what is there."""
        try:
            self._ask()
        except MisplacedError:
            self._ranges = False
            self._ask()

    def _ask(self) -> None:
        offset = self._offset()
        if offset and offset == self.identity.size:
            return
        with self._connection.request("GET", self.identity.url, self._range(offset)) as response:
            if response.status_code == 416:
                self._accept_end(response, offset)
            elif response.status_code == 206:
                self._check_range(response, offset)
                self._append(self._connection.body(response), offset)
            else:
                self._start_over(response)

    def _offset(self) -> int:
        """Where to go on; 0 where the bytes there might be those of another file."""
        size = self._part.size
        known = self.identity.validator or self.identity.md5 or self.identity.size
        too_long = self.identity.size is not None and size > self.identity.size
        return size if self._ranges and known and not too_long else 0

    def _range(self, offset: int) -> dict[str, str]:
        if not offset:
            return {}
        headers = {"Range": f"bytes={offset}-"}
        if self.identity.validator:
            headers["If-Range"] = self.identity.validator
        return headers

    def _accept_end(self, response: requests.Response, offset: int) -> None:
        """The server has nothing beyond what is there: either that is the whole, or it is not this file's."""
        total = content_range(response)[1]
        if not offset or total != offset or self.identity.differs(self._answered(response)):
            raise MisplacedError(f"the server has nothing beyond byte {offset}")
        self.identity = dataclasses.replace(self.identity, size=offset)

    def _check_range(self, response: requests.Response, offset: int) -> None:
        start, total = content_range(response)
        if start is None or start != offset or not offset:
            raise MisplacedError(f"expected bytes from {offset} on, got them from {start}")
        # Some servers do not know If-Range, and send the rest of a file that is another by now.
        if self.identity.differs(self._answered(response)) or (total and self.identity.size not in (None, total)):
            raise MisplacedError("the file changed on the server")

    def _answered(self, response: requests.Response) -> Identity:
        return identity_of(response, self.identity.source, self.identity.url)

    def _start_over(self, response: requests.Response) -> None:
        """Put the whole file in place of what is there."""
        identity = self._updated(response)
        chunks = _start_in_one_piece(self._connection.body(response))
        start = next(chunks, b"")
        refuse_web_page(identity.url, start)
        # Not before now: until then, the bytes and the identity of an earlier answer belong together.
        self._meter.add(-self._part.size)
        self._meter.expect((identity.size or 0) - (self.identity.size or 0))
        self._part.begin(identity)
        self.identity = identity
        self._append(itertools.chain([start], chunks), 0)

    def _updated(self, response: requests.Response) -> Identity:
        """Return what is known of the file after an answer that brings all of it."""
        before, now = self.identity, self._answered(response)
        if not before.differs(now):
            if before.size and now.size and before.size != now.size:
                raise PassingError(f"expected {before.size} bytes, got {now.size} announced")
            told = {name: value for name, value in dataclasses.asdict(now).items() if value is not None}
            now = dataclasses.replace(before, **told)
        if now.size is None and now.md5 is None and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
            advice = "so a cut would go unseen: use another mirror"
            raise FetchError(now.url, f"expected a length or a checksum, got neither, {advice}")
        return now

    def _append(self, chunks: Iterable[bytes], offset: int) -> None:
        size = self.identity.size
        with self._part.appending() as append:
            for chunk in chunks:
                if size is not None and offset + len(chunk) > size:
                    raise DamagedError(f"expected {size} bytes, got more")
                append(chunk)
                offset += len(chunk)
                self._meter.add(len(chunk))
        if size is None:
            self._meter.expect(offset)
            self.identity = dataclasses.replace(self.identity, size=offset)
        elif offset < size:
            raise PassingError(f"expected {size} bytes, got {offset}")


def _start_in_one_piece(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, but the first few together, as far as they come."""
    start = b""
    try:
        while len(start) < START_BYTES and (chunk := next(chunks, b"")):
            start += chunk
    except PassingError:
        if start:
            yield start
        raise
    yield start
    yield from chunks
