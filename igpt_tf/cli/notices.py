"""Notices of the library as lines on standard error."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from igpt_tf.cli.console import warn
from igpt_tf.errors import Notice, SkippedWarning


@contextlib.contextmanager
def printed_notices(strict: bool) -> Iterator[None]:
    """Print notices in this scope; if `strict`, what is left out is an error."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def print_notice(message, category, *place, **more) -> None:
            if issubclass(category, Notice):
                warn(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = print_notice
        warnings.filterwarnings("always", category=Notice)
        if strict:
            warnings.filterwarnings("error", category=SkippedWarning)
        yield
