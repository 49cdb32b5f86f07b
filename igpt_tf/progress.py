"""Progress bars: on a terminal or in a notebook, and nothing in a file or pipe."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

_allowed = True


def allow_progress(allowed: bool) -> None:
    """Allow progress bars, or hide them all."""
    global _allowed
    _allowed = allowed


def is_watched() -> bool:
    """Whether somebody sees standard error as it is written."""
    stream = sys.stderr
    return _allowed and stream is not None and (stream.isatty() or type(stream).__module__.startswith("ipykernel"))


# Images between two updates of a bar, in batches; what is kept of them is a few numbers each.
BATCHES_A_CHUNK = 8


class ProgressBar(tqdm):
    """A bar on standard error, if somebody sees it.

    Args:
        shown: show the bar at all.
        first: what happens until the first update, instead of `desc`, such as compiling.
        how: arguments of `tqdm`.
    """

    def __init__(self, *, shown: bool = True, first: str = "", **how: Any) -> None:
        self._then = how.pop("desc", None) if first else None
        how = {"leave": False, "dynamic_ncols": True, "desc": first or None, **how}
        super().__init__(disable=not (shown and is_watched()), **how)

    def update(self, n: float | None = 1) -> bool | None:
        """Count n more; what happened first has ended."""
        if self._then is not None and n:
            self.set_description(self._then, refresh=False)
            self._then = None
        return super().update(n)
