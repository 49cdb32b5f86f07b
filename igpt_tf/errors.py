"""The errors for mistakes that the user can put right."""

import operator


class UserError(ValueError):
    """A mistake in what the user gave: one line that says what was expected, what was found and what to do.

    The command line prints the message alone, without a traceback.
    """


class UsageError(UserError):
    """An argument that means nothing or contradicts another; the command line ends with exit code 2."""


def whole_number(name: str, value: object, least: int | None = None) -> int:
    """An argument as an int: any whole number, NumPy's too.

    Args:
        name: of the argument, for the error.
        value: what was given.
        least: the smallest number that is allowed; None allows all.

    Raises:
        UsageError: if it is something else or too small.
    """
    try:
        # A truth value would pass for 0 or 1.
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        kind = "a whole number" if least is None else f"a whole number of at least {least}"
        raise UsageError(f"expected {name} as {kind}, got {value}")
    return number
