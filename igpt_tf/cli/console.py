"""What the command line prints: results on standard output; warnings, remarks and progress on standard error."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from igpt_tf.cli.program import program
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
    tqdm.write(f"{program()}: {line}", file=sys.stderr)


def remark(line: str) -> None:
    """`warn`, of what --quiet leaves out."""
    if not _is_quiet:
        warn(line)


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
