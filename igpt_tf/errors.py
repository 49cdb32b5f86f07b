"""Errors for mistakes that the user can correct."""

from __future__ import annotations

import contextlib
import difflib
import operator
import warnings
from collections.abc import Generator, Iterable, Sequence
from typing import Any


class UserError(ValueError):
    """A mistake in what the user gave: one line that says what was expected, what was found and what to do.

    The library knows no flags: a message names arguments in backticks. The command line prints the message without a
    traceback, puts flags in place of these names, and begins with the flag of `argument` if there is one.

    Attributes:
        argument: name of the argument that is wrong, if it is one; a command line has a flag of this name.
    """

    def __init__(self, message: str = "", argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class Notice(UserWarning):
    """What a user should know although nothing failed, in one line; the command line prints it as such."""


class UsageError(UserError):
    """An argument that is invalid or contradicts another; the command line ends with exit code 2."""


class SkippedWarning(UserError, Notice):  # noqa: N818
    """Pictures, files, folders or classes are left out; a filter of `warnings` makes it an error."""


def skipped(name: object, count: int, what: str, things: Sequence[object]) -> None:
    """Warn, in one line, that some things are left out; of none, say nothing.

    Args:
        name: what they belong to, such as a folder.
        count: how many things there are in all.
        what: the things, in the plural.
        things: those that are left out.
    """
    if things:
        line = f"{name}: skipped {len(things)} of {count} {what}: {listed(things, 3)}"
        warnings.warn(SkippedWarning(line), stacklevel=3)


@contextlib.contextmanager
def naming(name: object) -> Generator[None, None, None]:
    """Put a name, such as a path, before the messages of errors in the block."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def meant(name: str, known: Iterable[str]) -> str:
    """For a message: which of the known names was probably meant; nothing if none is like it."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def listed(things: Iterable[object], most: int = 5) -> str:
    """The first `most` of some things for a message, and how many more there are."""
    names = [str(thing) for thing in things]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """An argument as an int: any whole number, also NumPy's.

    Args:
        name: the argument's name, for the error.
        value: the argument's value.
        least: the smallest allowed number; None allows all.

    Raises:
        UsageError: if it is not a whole number, or too small.
    """
    try:
        # A bool would pass as 0 or 1.
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        kind = "a whole number" if least is None else f"a whole number of at least {least}"
        raise UsageError(f"expected `{name}` as {kind}, got {value}")
    return number


def reason_of(error: Exception) -> str:
    """The first line of an error, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
