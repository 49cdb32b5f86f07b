"""What the program is called: `igpt` where it is installed, `run.py` in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path


def is_installed() -> bool:
    """Whether the installed command was called, and not the script of a checkout."""
    return Path(sys.argv[0]).stem in ("igpt", "igpt-download")


def program() -> str:
    """How messages name the program: `igpt` or `run.py`."""
    return "igpt" if is_installed() else "run.py"


def command(words: str) -> str:
    """A line to type: `igpt WORDS` or `python run.py WORDS`."""
    return f"igpt {words}" if is_installed() else f"python run.py {words}"


def download_command(words: str) -> str:
    """A line to type: `igpt-download WORDS` or `python download.py WORDS`."""
    return f"igpt-download {words}" if is_installed() else f"python download.py {words}"
