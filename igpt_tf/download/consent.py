"""Large downloads need a yes: one that was given before, or one that is typed."""

from __future__ import annotations

import sys
import warnings

from igpt_tf.download.disk import readable
from igpt_tf.errors import Notice, UserError
from igpt_tf.progress import is_watched

_allowed = False


def allow_downloads(allowed: bool = True) -> None:
    """Let `from_preset("igpt-s")` download OpenAI's weights, and `hf:NAME` a data set, without asking.

    Args:
        allowed: False: ask on a terminal, and refuse elsewhere.
    """
    global _allowed
    _allowed = allowed


def may_download(what: str, size: int | None) -> bool:
    """Whether to download: allowed before, or agreed to on the terminal."""
    if _allowed or not (is_watched() and sys.stdin is not None and sys.stdin.isatty()):
        return _allowed
    sys.stderr.write(f"{what} is not here yet. Download {'it' if size is None else readable(size)}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def require_consent(name: str, size: int | None, examples: int | None, licence: str | None) -> None:
    """Say in a notice what a data set is like, and ask whether it may be downloaded.

    Args:
        name: of the data set.
        size: of the download, in bytes; None: unknown.
        examples: number of its examples, of all splits; None: unknown.
        licence: its name; None: none is named.

    Raises:
        UserError: if it may not be downloaded.
    """
    facts = (
        "a number of examples that is not said" if examples is None else f"{examples:,} examples",
        "of a size that is not said" if size is None else f"{readable(size)} to download",
        f"licence {licence}" if licence else "no licence named",
    )
    warnings.warn(Notice(f"{name}: {', '.join(facts)}"), stacklevel=2)
    if not may_download(name, size):
        raise UserError(f"{name}: expected a data set that was downloaded before, got none: download it with `yes`")
