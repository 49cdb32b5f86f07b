"""What the command line prints: results on standard output; warnings, remarks and progress on standard error."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from igpt_tf.cli.program import program
from igpt_tf.errors import listed
from igpt_tf.progress import allow_progress, is_watched

_is_quiet = False


def set_quiet(quiet: bool) -> None:
    """Leave out progress and remarks, or show them again."""
    global _is_quiet
    _is_quiet = quiet
    allow_progress(not quiet)


def report(options: argparse.Namespace, result: Any, *lines: str) -> None:
    """Print a command's result: as JSON where --json asks for it, and else as lines of text."""
    print(json.dumps(result) if options.json else "\n".join(lines))


def warn(line: str) -> None:
    """Print a line on standard error, above a progress bar if there is one."""
    tqdm.write(f"{program()}: {one_line(line)}", file=sys.stderr)


def one_line(text: str) -> str:
    """Text whose line breaks and other control characters, such as those of a file's name, are escaped."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: ascii(found[0])[1:-1], text)


def remark(line: str) -> None:
    """`warn`, of what --quiet leaves out."""
    if not _is_quiet:
        warn(line)


def tell_replaced(paths: Sequence[Path]) -> None:
    """Say which files of an earlier run are going to be replaced."""
    if paths:
        remark(f"replacing {listed(paths)} of an earlier run")


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Show on a terminal what takes its time while the block runs."""
    if not is_watched():
        yield
        return
    line = f"{what} ..."
    sys.stderr.write(line)
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write(f"\r{' ' * len(line)}\r")
        sys.stderr.flush()
