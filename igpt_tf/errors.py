"""The errors for mistakes that the user can put right."""


class UserError(ValueError):
    """A mistake in what the user gave: one line that says what was expected, what was found and what to do.

    The command line prints the message alone, without a traceback.
    """


class UsageError(UserError):
    """An argument that means nothing or contradicts another; the command line ends with exit code 2."""
