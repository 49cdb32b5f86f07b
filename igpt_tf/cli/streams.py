"""Standard output and error that never cost a command its result: closed, full, or of an encoding too small."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO


class Output:
    """A text stream on which writing never fails: letters that it lacks are escaped, and what fails is remembered.

    Args:
        stream: the stream to write to.

    Attributes:
        error: why text is lost; None if none is, or if the reader has closed, who wants no more of it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_lost = False
        self.error: OSError | None = None
        with contextlib.suppress(AttributeError, ValueError):
            # Not every stream that a caller puts in place can do this.
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]

    def write(self, text: str) -> int:
        """Write as far as possible; how long the text was."""
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush as far as possible."""
        self._attempt(self._stream.flush)

    def _attempt(self, act: Callable[..., Any], *args: str) -> None:
        if self._is_lost:
            return
        try:
            act(*args)
        except UnicodeEncodeError:
            # A stream that could not be told to escape.
            act(*(ascii(text)[1:-1].replace("\\n", "\n") for text in args))
        except OSError as error:
            self._is_lost = True
            # Windows has another number for a reader that has closed.
            if not isinstance(error, BrokenPipeError) and (os.name != "nt" or error.errno != errno.EINVAL):
                self.error = error
            # What is still in the buffer is written when Python ends, and must not fail again.
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def safe_streams() -> Iterator[Output]:
    """In this block, `sys.stdout` and `sys.stderr` are each an `Output`; yields that of standard output."""
    for descriptor in range(3):
        _fill(descriptor)
    before = sys.stdout, sys.stderr
    output, errors = (Output(stream or _open(number)) for number, stream in enumerate(before, 1))
    sys.stdout, sys.stderr = output, errors  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def _open(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", closefd=False)


def _fill(descriptor: int) -> None:
    """Take the number of a stream that the caller has closed, which a file of ours would get; writing to it fails."""
    try:
        os.fstat(descriptor)
    except OSError:
        number = os.open(os.devnull, os.O_RDONLY)
        if number != descriptor:
            os.dup2(number, descriptor)
            os.close(number)
