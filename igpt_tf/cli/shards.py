"""Many pictures on many machines: each draws a share of a series, and the shares are copied together."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from igpt_tf.cli.series import RECORD_FILE, Share, number_of, read_series
from igpt_tf.errors import UserError

# Missing numbers that are listed.
LISTED = 8


def shard(text: str) -> Share:
    """A share such as 3/16."""
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"expected a share such as 3/16, the third of sixteen, got {text!r}")
    return Share(int(found[1]), int(found[2]))


def check_merged(folders: Sequence[Path]) -> int:
    """Check that the pictures of several folders are one whole series; returns how many there are.

    Args:
        folders: of one series each, or of a part of it; one, where all were copied together.

    Raises:
        UserError: if a folder has no series, two are of different settings, or pictures are missing.
    """
    first, n, there = None, 0, set[int]()
    for folder in folders:
        record = read_series(folder)
        if record is None:
            raise UserError(f"{folder / RECORD_FILE}: expected the record of a run of sample, got none")
        n = max(n, record.pop("n"))
        if first is not None and record != first:
            names = sorted(name for name in {*record, *first} if record.get(name) != first.get(name))
            raise UserError(
                f"{folder}: expected pictures of the settings of {folders[0]}, got another {', '.join(names)}: draw "
                "all shares with the same settings"
            )
        first = record
        there |= {number for path in folder.iterdir() if (number := number_of(path)) is not None}
    missing = sorted(set(range(n)) - there)
    if missing:
        shown = ", ".join(map(str, missing[:LISTED])) + (", ..." if len(missing) > LISTED else "")
        raise UserError(
            f"expected {n} pictures, got {n - len(missing)}: {shown} missing; the command of their share draws them"
        )
    return n
