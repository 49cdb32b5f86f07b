"""A web server on 127.0.0.1 that misbehaves as told."""

import base64
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock


@dataclass
class Remote:
    """A file on the server and the server's manners with it."""

    data: bytes
    etag: str | None = "auto"
    last_modified: str | None = None
    md5: str | None = None
    ranges: bool = True
    head_status: int = 200
    lengths: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    # Each answers one GET in place of the usual answer, in this order.
    faults: list[Callable[["Handler", "Remote"], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.etag == "auto":
            self.etag = f'"{hashlib.md5(self.data).hexdigest()}"'
        if self.md5 == "auto":
            self.md5 = md5(self.data)

    def tags(self) -> dict[str, str]:
        """The headers that tell one version of the file from another."""
        tags = {"ETag": self.etag, "Last-Modified": self.last_modified}
        return {name: value for name, value in tags.items() if value} | self.headers


def md5(data: bytes) -> str:
    """As in Content-MD5."""
    return base64.b64encode(hashlib.md5(data).digest()).decode()


class Handler(BaseHTTPRequestHandler):
    """Knows HEAD, GET, Range and If-Range."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        remote = self._remote()
        if remote is None or remote.head_status != 200:
            self.reply(404 if remote is None else remote.head_status)
        else:
            checksum = {"Content-MD5": remote.md5} if remote.md5 else {}
            length = len(remote.data) if remote.lengths else None
            self.reply(200, remote.tags() | checksum, length=length, close=length is None)

    def do_GET(self) -> None:
        """Answer with the file, a part of it, or the next fault."""
        remote = self._remote()
        if remote is None:
            self.reply(404)
        elif remote.faults and self.headers.get("Range") != "bytes=0-0":
            remote.faults.pop(0)(self, remote)
        else:
            self.serve(remote)

    def _remote(self) -> Remote | None:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        return self.server.files.get(self.path)

    def offset(self, remote: Remote) -> int:
        """Where the requested range begins, 0 where there is none or it does not count."""
        span = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if not span or not remote.ranges or (condition and condition not in (remote.etag, remote.last_modified)):
            return 0
        return int(span.removeprefix("bytes=").partition("-")[0])

    def serve(self, remote: Remote, stop: int | None = None) -> None:
        """The right answer, the connection being cut after `stop` bytes of its body."""
        size = len(remote.data)
        offset = self.offset(remote)
        end = self.limit(remote)
        if offset >= size:
            self.reply(416, {"Content-Range": f"bytes */{size}"})
        elif offset or end < size or (remote.ranges and (self.headers.get("Range") or "").startswith("bytes=0-")):
            headers = remote.tags() | {"Content-Range": f"bytes {offset}-{end - 1}/{size}"}
            self.reply(206, headers, remote.data[offset:end], stop)
        else:
            checksum = {"Content-MD5": remote.md5} if remote.md5 else {}
            if remote.lengths:
                self.reply(200, remote.tags() | checksum, remote.data, stop)
            else:
                self.chunked(remote.data, remote.tags() | checksum, stop)

    def limit(self, remote: Remote) -> int:
        """The byte behind the last one of the requested range."""
        last = (self.headers.get("Range") or "").partition("-")[2]
        return min(int(last) + 1, len(remote.data)) if last and remote.ranges else len(remote.data)

    def reply(
        self,
        status: int,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        stop: int | None = None,
        length: int | None = -1,
        close: bool = False,
    ) -> None:
        """Send an answer; `length` is what Content-Length says, if not the truth, None to leave it out."""
        self.send_response(status)
        for name, value in ({"Content-Type": "application/octet-stream"} | (headers or {})).items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[:stop])
        self.server.sent += len(body[:stop])
        self.close_connection = self.close_connection or close or stop is not None

    def chunked(self, body: bytes, headers: dict[str, str], stop: int | None = None) -> None:
        """Send a body of untold length in two chunks, cut after `stop` bytes."""
        self.reply(200, headers | {"Transfer-Encoding": "chunked"}, length=None)
        half = len(body) // 2
        whole = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (half, body[:half], len(body) - half, body[half:])
        self.wfile.write(whole[:stop])
        self.close_connection = True


def cut(count: int) -> Callable[[Handler, Remote], None]:
    """End the connection after so many bytes of the body."""
    return lambda handler, remote: handler.serve(remote, stop=count)


def answer(status: int, headers: dict[str, str] | None = None, body: bytes = b"", length: int = -1):
    """Give this answer, whatever was asked."""
    return lambda handler, remote: handler.reply(status, headers, body, length=length, close=length >= 0)


def stall(count: int) -> Callable[[Handler, Remote], None]:
    """Send so many bytes, then keep the client waiting until the test is over."""

    def fault(handler: Handler, remote: Remote) -> None:
        handler.serve(remote, stop=count)
        handler.wfile.flush()
        handler.server.over.wait(30)

    return fault


class Server(ThreadingHTTPServer):
    """Serves `files`, a path for each, and remembers all `requests`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Remote] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.over = threading.Event()
        self.sent = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *arguments: object) -> None:
        """A client that hangs up is nothing to talk about."""

    def gets(self, path: str | None = None) -> list[dict[str, str]]:
        """The headers of the GET requests so far, for one path or all."""
        return [headers for method, asked, headers in self.requests if method == "GET" and path in (None, asked)]

    def ranges(self, path: str) -> list[str | None]:
        """The ranges asked for."""
        return [headers.get("Range") for headers in self.gets(path)]


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run a server for as long as the block lasts, reached directly whatever proxy the machine is set up for."""
    with mock.patch.dict(os.environ, NO_PROXY="*"), Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
