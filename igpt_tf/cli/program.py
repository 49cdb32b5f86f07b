"""What the program is called: `igpt` where it is installed, `run.py` in a checkout, or `python -m igpt_tf`."""

from __future__ import annotations

import sys
from pathlib import Path


def is_installed() -> bool:
    """Whether the installed command was called, and not the script of a checkout."""
    return Path(sys.argv[0]).stem in ("igpt", "igpt-download")


def program() -> str:
    """How messages name the program, such as `igpt` or `run.py`."""
    called = Path(sys.argv[0])
    if is_installed():
        return called.stem
    if called.name == "__main__.py" and called.parent.name == "igpt_tf":
        return "python -m igpt_tf"
    return "download.py" if called.name == "download.py" else "run.py"


def typed(name: str) -> str:
    """How to type a program's name: the file of a script needs Python before it."""
    return f"python {name}" if ".py" in name else name


def command(words: str) -> str:
    """A line to type, such as `igpt WORDS` or `python run.py WORDS`."""
    name = program()
    main = {"igpt-download": "igpt", "download.py": "run.py"}.get(name, name)
    if main == "run.py" and words.split()[:1] == ["download"]:
        return f"python {words.replace('download', 'download.py', 1)}"
    return f"{typed(main)} {words}"
