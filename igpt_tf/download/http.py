"""The one HTTP client: a request is tried again where that may help, and else fails in one line."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, NameResolutionError, ReadTimeoutError
from urllib3.util import Retry

from igpt_tf.errors import UserError

T = TypeVar("T")

AGAIN = "run the same command again to continue"
# A server that asks for more than this is not waited for: the user decides.
LONGEST_WAIT_S = 120.0
# Retries before the first answer of any server: without a network, say so soon.
RETRIES_IN_SILENCE = 2
PICTURE_MIB = 64
HTML_STARTS = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--", b"<script")


class FetchError(UserError):
    """The file of a `url` cannot be downloaded for a `reason`, however often we try; others may."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason


class PassingError(Exception):
    """A failure that another try may cure; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class UnreachableError(PassingError):
    """Nobody answers: a matter of the network, not of one file."""


class StoppedError(Exception):
    """The run was stopped from outside."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        retries: failures in a row, without a single new byte, after the first one.
        connect_s, read_s: seconds to wait for a connection, and for the next bytes.
        backoff_s: half the seconds to wait after the second failure in a row; they double up to half a minute.
    """

    retries: int = 5
    connect_s: float = 10.0
    read_s: float = 30.0
    backoff_s: float = 1.0

    def begin(self) -> Retry:
        """What counts the failures and says how long to wait."""
        return Retry(self.retries, backoff_factor=self.backoff_s, backoff_max=30, backoff_jitter=self.backoff_s / 5)


@dataclass(frozen=True)
class Identity:
    """What a server says of a file: its address, bytes, MD5 in base64, and what changes when it does."""

    url: str
    size: int | None = None
    md5: str | None = None
    version: str | None = None

    def continues(self, earlier: Identity) -> bool:
        """Whether bytes fetched under `earlier` are the first bytes of this file, by all that the server tells."""
        if self.md5 and earlier.md5:
            return self.md5 == earlier.md5
        # Versions of two servers have nothing to do with each other; where there are none, lengths must do.
        return (self.url, self.version, self.size) == (earlier.url, earlier.version, earlier.size)


class Connection:
    """Requests of one run, from any thread.

    Args:
        patience: how often and when to try again.
        stop: once set, every call ends with `StoppedError` as soon as it can.
        report: called with one short phrase whenever a failure is waited out.
    """

    def __init__(
        self, patience: Patience, stop: threading.Event | None = None, report: Callable[[str], None] | None = None
    ) -> None:
        self._patience = patience
        self._stop = stop or threading.Event()
        self._report = report or (lambda phrase: None)
        self._heard = False
        self._session = requests.Session()

    def check_stop(self) -> None:
        """Raise `StoppedError` if the run was stopped."""
        if self._stop.is_set():
            raise StoppedError

    def persist(self, url: str, attempt: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
        """Call `attempt` until it succeeds; failures count only as long as `reached()`, in bytes, does not grow.

        Raises:
            FetchError: if this file cannot be downloaded.
            UserError: if the server cannot be reached at all.
        """
        retry, best = self._patience.begin(), reached()
        while True:
            self.check_stop()
            try:
                return attempt()
            except PassingError as error:
                problem = error
            if reached() > best:
                retry, best = self._patience.begin(), reached()
            gives_up = not self._heard and len(retry.history) >= RETRIES_IN_SILENCE
            try:
                retry = retry.increment("GET", url, error=problem)
            except MaxRetryError:
                gives_up = True
            # Nothing heard so far: other files would fare no better, and each would have to be waited for.
            if gives_up and (isinstance(problem, UnreachableError) or not self._heard):
                advice = f"check the network or a proxy (HTTPS_PROXY), or use another mirror, then {AGAIN}"
                raise UserError(f"cannot reach {urlsplit(url).netloc}: {problem}: {advice}") from problem
            if gives_up:
                raise FetchError(url, f"{problem}, {len(retry.history) + 1} times in a row; {AGAIN}") from problem
            if problem.wait > LONGEST_WAIT_S:
                raise FetchError(url, f"{problem}, the server asks to wait {problem.wait:.0f} s; then {AGAIN}")
            self._report(str(problem))
            self._stop.wait(max(problem.wait, retry.get_backoff_time()))

    @contextlib.contextmanager
    def request(self, method: str, url: str, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
        """Send one request and yield the answer, of status 200, 206 or 416, its body still to be read."""
        # Identity: a compressed body has another length and another MD5 than the file.
        headers = {"Accept-Encoding": "identity", "User-Agent": "igpt_tf", **(headers or {})}
        timeout = (self._patience.connect_s, self._patience.read_s)
        try:
            response = self._session.request(method, url, headers=headers, stream=True, timeout=timeout)
        except OSError as error:  # those of requests are some
            raise self._problem(url, error) from error
        with response:
            self._heard = True
            _check(url, response)
            yield response

    def body(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the bytes of an answer as they come, not decoded; then `PassingError` if the connection was cut."""
        try:
            # Not iter_content, which waits for a full chunk and drops what it has of it when the connection is cut.
            while chunk := response.raw.read1(1 << 16, decode_content=False):
                self.check_stop()
                yield chunk
        except ReadTimeoutError as error:
            raise PassingError(f"nothing came for {self._patience.read_s:g} s") from error
        except HTTPError as error:
            raise PassingError("the connection was cut") from error

    def identify(self, url: str) -> Identity:
        """Ask for the size and the checksum of a file without fetching it."""

        def attempt() -> Identity:
            # A HEAD, or where that is refused or says no size, a GET of the first byte alone.
            with contextlib.suppress(PassingError, FetchError), self.request("HEAD", url) as response:
                identity = identity_of(response, url)
                if response.status_code == 200 and identity.size:
                    return identity
            with self.request("GET", url, {"Range": "bytes=0-0"}) as response:
                identity = identity_of(response, url)
            if identity.size == 0:
                raise FetchError(url, "expected data, got an empty file: use another mirror, or tell its owner")
            return identity

        return self.persist(url, attempt)

    def read_span(self, url: str, first: int, count: int) -> bytes | None:
        """The bytes from `first` on, `count` of them; None if the server does not send parts of files."""

        def attempt() -> bytes | None:
            with self.request("GET", url, {"Range": f"bytes={first}-{first + count - 1}"}) as response:
                if response.status_code != 206 or content_range(response)[0] != first:
                    return None
                data = b"".join(self.body(response))
            if len(data) != count:
                raise PassingError(f"expected {count} bytes, got {len(data)}")
            return data

        return self.persist(url, attempt)

    def read_picture(self, url: str) -> bytes:
        """The bytes of a file that is no text and not too large for a picture."""
        data = bytearray()
        with self.request("GET", url) as response:
            kind = response.headers.get("Content-Type", "").partition(";")[0]
            if kind.startswith("text/"):
                raise FetchError(url, f"expected a picture, got {kind}: give the picture's own address")
            for chunk in self.body(response):
                data += chunk
                if len(data) > PICTURE_MIB << 20:
                    raise FetchError(url, f"expected at most {PICTURE_MIB} MiB, got more: download it, give the file")
        return bytes(data)

    def _problem(self, url: str, error: OSError) -> PassingError:
        """What may pass; what will not is raised."""
        cause = error.args[0] if error.args else None
        reason = cause.reason if isinstance(cause, MaxRetryError) else cause
        if not isinstance(error, requests.RequestException) or "NO_CERTIFICATE" in str(error):
            raise UserError(f"REQUESTS_CA_BUNDLE: expected a file of certificates, got another ({error}): correct it")
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            advice = "a proxy may be in between, or the clock is wrong; REQUESTS_CA_BUNDLE names your own certificates"
            raise UserError(f"cannot trust the certificate of {urlsplit(url).netloc}: {advice}")
        if isinstance(error, requests.exceptions.ProxyError):
            return UnreachableError("the proxy does not let us through")
        if isinstance(reason, NameResolutionError):
            return UnreachableError("its name cannot be resolved")
        if isinstance(error, requests.ConnectTimeout):
            return UnreachableError(f"no answer within {self._patience.connect_s:g} s")
        if isinstance(error, requests.exceptions.SSLError):
            return UnreachableError("it does not speak TLS (https) as it should")
        if isinstance(cause, MaxRetryError):  # there never was a connection
            return UnreachableError(getattr(getattr(reason, "__cause__", None), "strerror", None) or "no connection")
        if isinstance(error, requests.Timeout):
            return PassingError(f"nothing came for {self._patience.read_s:g} s")
        if isinstance(error, requests.ConnectionError):
            return PassingError("the connection was cut")
        raise FetchError(url, f"{type(error).__name__}: {error}: check the address")


def read_url(url: str) -> bytes:
    """The bytes of a picture at an http(s) address.

    Raises:
        UserError: if it cannot be reached, answers with an error or a web page, or is larger than 64 MiB.
    """
    connection = Connection(Patience(retries=0))
    try:
        return connection.persist(url, lambda: connection.read_picture(url))
    # Some malformed addresses are a ValueError of a library below requests.
    except (UserError, HTTPError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(reason if url in reason else f"{url}: {reason}") from error


def identity_of(response: requests.Response, url: str) -> Identity:
    """Size, checksum and version in the headers of an answer to a request for the whole file or a range."""
    headers, is_whole = response.headers, response.status_code == 200
    length = headers.get("Content-Length", "")
    size = (int(length) if length.isdecimal() else None) if is_whole else content_range(response)[1]
    # Of a range, Content-MD5 is the checksum of the range alone; Azure tells that of the whole under its own name.
    md5 = headers.get("x-ms-blob-content-md5") or (headers.get("Content-MD5") if is_whole else None)
    etag = headers.get("ETag", "W/")
    version = headers.get("Last-Modified") if etag.startswith("W/") else etag
    return Identity(url, size, md5 if re.fullmatch(r"[A-Za-z0-9+/]{22}==", md5 or "") else None, version)


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Where the range begins and the length of the whole file, in bytes; None where the server does not say."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", "").strip())
    first, total = found.groups() if found else (None, None)
    return int(first) if first else None, int(total) if total else None


def web_page(start: bytes, kind: str = "") -> str | None:
    """Why a body is refused that starts like a web page, or is of this kind: none of the files here is text."""
    starts = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(HTML_STARTS)
    if not starts and kind not in ("text/html", "application/xhtml+xml"):
        return None
    sign = "it starts like HTML" if starts else f"Content-Type {kind}"
    advice = "a proxy or a login page of the network is in between: log in or use another network"
    return f"expected binary data, got a web page ({sign}): {advice}, then {AGAIN}"


def _check(url: str, response: requests.Response) -> None:
    """Refuse an answer that does not bring the file."""
    status, headers = response.status_code, response.headers
    name = f"HTTP {status} {response.reason or ''}".strip()
    if status in (408, 425, 429) or status >= 500:
        wait = 0.0
        with contextlib.suppress(InvalidHeader):
            wait = Retry().parse_retry_after(headers.get("Retry-After", "0"))
        raise PassingError(f"the server answers {name}", wait)
    if status not in (200, 206, 416):
        gone = "check whether it was ever published, or use another mirror"
        advice = gone if status in (404, 410) else "use another mirror, or check the proxy, if any"
        raise FetchError(url, f"expected the file, got {name}: {advice}")
    # A 416 brings no file, only the news that there is nothing beyond what we have.
    if status != 416:
        if page := web_page(b"", headers.get("Content-Type", "").partition(";")[0].strip().lower()):
            raise FetchError(url, page)
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            advice = "a proxy changes what it passes on: use another network or another mirror"
            raise FetchError(url, f"expected the plain file, got Content-Encoding {encoding}: {advice}")
