"""Large downloads need a yes: one that was given before, or one that is typed."""

from __future__ import annotations

import sys

from igpt_tf.download.disk import readable
from igpt_tf.progress import is_watched

_allowed = False


def allow_downloads(allowed: bool = True) -> None:
    """Let `from_preset("igpt-s")` and the like download OpenAI's weights without asking.

    Args:
        allowed: False: ask on a terminal, and refuse elsewhere.
    """
    global _allowed
    _allowed = allowed


def may_download(what: str, size: int) -> bool:
    """Whether to download: allowed before, or agreed to on the terminal."""
    if _allowed or not (is_watched() and sys.stdin is not None and sys.stdin.isatty()):
        return _allowed
    sys.stderr.write(f"{what} is not here yet. Download {readable(size)}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
