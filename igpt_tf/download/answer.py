"""Answers of a server: the file or a range of it, a delay, a refusal, or something else in its place."""

import base64
import binascii
import email.utils
import time

import requests

from igpt_tf.download.partial import AGAIN, Identity

# A body is checked once this many bytes of it have come.
START_BYTES = 512
HTML_STARTS = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--", b"<script")


class FetchError(Exception):
    """One file cannot be downloaded, however often we try; others may.

    Attributes:
        url: of the file.
        reason: what is wrong and what to do, the same for all files that fail alike.
    """

    def __init__(self, url: str, reason: str):
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason


class PassingError(Exception):
    """A failure that another try may cure; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


class BusyError(PassingError):
    """The server asks for time, whatever the request was."""


def identity_of(response: requests.Response, source: str, url: str) -> Identity:
    """Read size, checksum and validators off the headers of an answer to a request for the whole file or a range."""
    headers = response.headers
    size: int | None
    if response.status_code == 200:
        length = headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else None
    else:
        size = content_range(response)[1]
    # Of a range, Content-MD5 is the checksum of the range alone; Azure tells that of the whole under its own name.
    md5 = headers.get("x-ms-blob-content-md5") or (headers.get("Content-MD5") if response.status_code == 200 else None)
    return Identity(source, url, size, _checked_md5(md5), headers.get("ETag"), headers.get("Last-Modified"))


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return where the range begins and the length of the whole file, in bytes; None where the server does not say."""
    unit, _, rest = response.headers.get("Content-Range", "").strip().partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit.lower() != "bytes":
        return None, None
    return int(first) if first.isdecimal() else None, int(total) if total.isdecimal() else None


def _checked_md5(value: str | None) -> str | None:
    try:
        return value if value and len(base64.b64decode(value, validate=True)) == 16 else None
    except binascii.Error:
        return None


def check_answer(url: str, response: requests.Response) -> None:
    """Refuse an answer that does not bring the file.

    Raises:
        PassingError: the server is busy or broken at the moment.
        FetchError: asking again would not help.
    """
    status = response.status_code
    name = f"HTTP {status} {response.reason or ''}".strip()
    if status in (408, 425, 429, 503):
        raise BusyError(f"the server answers {name}", _retry_after(response.headers.get("Retry-After", "")))
    if status >= 500:
        raise PassingError(f"the server answers {name}", _retry_after(response.headers.get("Retry-After", "")))
    if status in (404, 410):
        raise FetchError(
            url, f"expected the file, got {name}: check whether it was ever published, or use another mirror"
        )
    if status not in (200, 206, 416):
        raise FetchError(url, f"expected the file, got {name}: use another mirror, or check the proxy, if any")
    # A 416 brings no file, only the news that there is nothing beyond what we have.
    if status != 416:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise _web_page(url, f"Content-Type {kind}")
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            advice = "a proxy changes what it passes on: use another network or another mirror"
            raise FetchError(url, f"expected the plain file, got Content-Encoding {encoding}: {advice}")


def refuse_web_page(url: str, start: bytes) -> None:
    """Raise FetchError if a body starts like a web page: none of the files here is text."""
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(HTML_STARTS):
        raise _web_page(url, "it starts like HTML")


def _web_page(url: str, sign: str) -> FetchError:
    advice = "a proxy or a login page of the network is in between: log in or use another network"
    return FetchError(url, f"expected binary data, got a web page ({sign}): {advice}, then {AGAIN}")


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 if there is none."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
