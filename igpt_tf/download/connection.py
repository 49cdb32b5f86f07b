"""Requests to a server: failures that may pass are retried, others are one clear line."""

import contextlib
import os
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, MaxRetryError, NameResolutionError, ReadTimeoutError

from igpt_tf.download.answer import BusyError, FetchError, PassingError, check_answer, identity_of
from igpt_tf.download.partial import AGAIN, Identity
from igpt_tf.errors import UserError

T = TypeVar("T")

# Most bytes read at once; they are yielded at once, so nothing is lost when a connection is cut.
CHUNK_BYTES = 1 << 16
# A server that asks for more than this is not waited for: the user decides.
LONGEST_WAIT_S = 120.0
# Retries before the first answer of any server: without a network, say so soon.
RETRIES_IN_SILENCE = 2


class UnreachableError(PassingError):
    """Nobody answers: a matter of the network, not of one file."""


class StoppedError(Exception):
    """The run was stopped from outside."""


def backoff(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: 1, 2, 4 ... 30, give or take a fifth."""
    return min(30.0, 2.0 ** (failures - 1)) * random.uniform(0.8, 1.2)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        retries: failures in a row, without a single new byte, after the first one.
        connect_s, read_s: seconds to wait for a connection, and for the next bytes.
        delay: number of failures in a row -> seconds to wait.
    """

    retries: int = 5
    connect_s: float = 10.0
    read_s: float = 30.0
    delay: Callable[[int], float] = backoff


class Connection:
    """Requests of one run, from any thread.

    Args:
        patience: how often and when to try again.
        stop: once set, every call ends with `StoppedError` as soon as it can.
        report: gets one short phrase whenever a failure is waited out.
    """

    def __init__(self, patience: Patience, stop: threading.Event, report: Callable[[str], None] = lambda phrase: None):
        self.patience = patience
        self.stop = stop
        self._report = report
        self._heard = False
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    def close(self) -> None:
        """Hang up."""
        for session in self._sessions:
            session.close()

    def check_stop(self) -> None:
        """Raise `StoppedError` if the run was stopped."""
        if self.stop.is_set():
            raise StoppedError

    def persist(self, url: str, attempt: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
        """Call `attempt` until it succeeds; failures count only as long as `reached()`, in bytes, does not grow.

        Raises:
            FetchError: if this file cannot be downloaded.
            UserError: if the server cannot be reached at all.
            StoppedError: if the run was stopped.
        """
        failures, best = 0, reached()
        while True:
            self.check_stop()
            try:
                return attempt()
            except requests.RequestException as error:
                problem = _understand(url, error, self.patience)
            except PassingError as error:
                problem = error
            if reached() > best:
                failures, best = 0, reached()
            failures += 1
            self._give_up_or_wait(url, problem, failures)

    def _give_up_or_wait(self, url: str, problem: PassingError, failures: int) -> None:
        retries = self.patience.retries
        if failures > (retries if self._heard else min(retries, RETRIES_IN_SILENCE)):
            # Nothing heard so far: other files would fare no better, and each would have to be waited for.
            if isinstance(problem, UnreachableError) or not self._heard:
                advice = f"check the network or a proxy (HTTPS_PROXY), or use another mirror, then {AGAIN}"
                raise UserError(f"cannot reach {urlsplit(url).netloc}: {problem.reason}: {advice}")
            times = f", {failures} times in a row" if failures > 1 else ""
            raise FetchError(url, f"{problem.reason}{times}; {AGAIN}")
        if problem.wait > LONGEST_WAIT_S:
            raise FetchError(url, f"{problem.reason}, the server asks to wait {problem.wait:.0f} s; then {AGAIN}")
        self._report(problem.reason)
        if self.stop.wait(max(problem.wait, self.patience.delay(failures))):
            raise StoppedError

    @contextlib.contextmanager
    def request(self, method: str, url: str, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
        """Send one request and yield the answer, its body still to be read (nothing of it decoded).

        The status is 200, 206 or 416, and the body is no web page as far as the headers tell.
        """
        if not hasattr(self._local, "session"):
            # One for each thread, because a Session is not made to be shared.
            self._local.session = requests.Session()
            self._sessions.append(self._local.session)
        # Identity: a compressed body has another length and another MD5 than the file.
        headers = {"Accept-Encoding": "identity", **(headers or {})}
        timeout = (self.patience.connect_s, self.patience.read_s)
        if url.startswith("https:"):
            _check_certificates()
        with self._local.session.request(
            method, url, headers=headers, stream=True, timeout=timeout, allow_redirects=True
        ) as response:
            self._heard = True
            check_answer(url, response)
            yield response

    def body(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the bytes of an answer as they come, not decoded.

        Raises:
            PassingError: if the connection was cut; all bytes before that have been yielded.
            StoppedError: if the run was stopped.
        """
        try:
            # Not iter_content, which waits for a full chunk and drops what it has of it when the connection is cut.
            read = getattr(response.raw, "read1", response.raw.read)  # urllib3 before 2.2 has no read1
            while chunk := read(CHUNK_BYTES, decode_content=False):
                self.check_stop()
                yield chunk
        except ReadTimeoutError as error:
            raise PassingError(f"nothing came for {self.patience.read_s:g} s") from error
        except HTTPError as error:
            raise PassingError("the connection was cut") from error

    def identify(self, source: str, url: str) -> Identity:
        """Ask for the size and the checksum of a file without fetching it."""
        return self.persist(url, lambda: self._identify(source, url))

    def _identify(self, source: str, url: str) -> Identity:
        """HEAD, or where that is refused or says no size, a GET of the first byte alone."""
        try:
            with self.request("HEAD", url) as response:
                identity = identity_of(response, source, url)
            if response.status_code == 200 and identity.size:
                return identity
        except BusyError:
            raise
        except (PassingError, FetchError, requests.ReadTimeout):
            pass
        except requests.ConnectionError as error:
            if _never_connected(error):
                raise
        with self.request("GET", url, {"Range": "bytes=0-0"}) as response:
            identity = identity_of(response, source, url)
        if identity.size == 0:
            raise FetchError(url, "expected data, got an empty file: use another mirror, or tell its owner")
        return identity


def _check_certificates() -> None:
    """Refuse a file of certificates that the user names and that is not there or holds none."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        place = os.environ.get(name)
        if not place:
            continue
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if not os.path.isdir(place):
                context.load_verify_locations(place)
        except OSError as error:
            reason = "no certificates" if isinstance(error, ssl.SSLError) else error.strerror
            raise UserError(f"{name}: expected a file of certificates, got {place} ({reason}): correct it") from error
        return


def _understand(url: str, error: requests.RequestException, patience: Patience) -> PassingError:
    """Return what may pass, raise what will not."""
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        advice = "a proxy may be in between, or the clock is wrong; REQUESTS_CA_BUNDLE names your own certificates"
        raise UserError(f"cannot trust the certificate of {urlsplit(url).netloc}: {advice}") from error
    if isinstance(error, requests.exceptions.ProxyError):
        return UnreachableError("the proxy does not let us through")
    if isinstance(reason, NameResolutionError):
        return UnreachableError("its name cannot be resolved")
    if isinstance(error, requests.ConnectTimeout):
        return UnreachableError(f"no answer within {patience.connect_s:g} s")
    if isinstance(error, requests.exceptions.SSLError):
        return UnreachableError("it does not speak TLS (https) as it should")
    if _never_connected(error):
        return UnreachableError(getattr(getattr(reason, "__cause__", None), "strerror", None) or "no connection")
    if isinstance(error, requests.Timeout):
        return PassingError(f"nothing came for {patience.read_s:g} s")
    if isinstance(error, requests.ConnectionError):
        return PassingError("the connection was cut")
    raise FetchError(url, f"{type(error).__name__}: {error}: check the address") from error


def _never_connected(error: requests.RequestException) -> bool:
    """Whether an error came before there was a connection; urllib3 wraps exactly those when told not to retry."""
    return bool(error.args) and isinstance(error.args[0], MaxRetryError)
