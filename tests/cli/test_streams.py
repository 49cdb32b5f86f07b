"""Streams that are closed, full, or cannot show a letter cost no command its result, and give no traceback."""

import io
import os
import subprocess
import sys

import pytest

from examples import ROOT, run
from igpt_tf.cli import eval as eval_command
from igpt_tf.cli.main import main
from igpt_tf.cli.program import command, program
from igpt_tf.errors import UserError

ODD = "caf\udce9-é-象.png"


def shell(line, **environment):
    """Exit code, output and error of a shell's line; `$IGPT` is the program."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IGPT": f"{sys.executable} -m igpt_tf", **environment}
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=environment, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    "line, code, words",
    [
        ("$IGPT eval --help > /dev/full", 1, "cannot write to standard output (No space left on device)"),
        ("$IGPT eval --help >&-", 1, "cannot write to standard output (Bad file descriptor)"),
        ("set -o pipefail; $IGPT eval --help | :", 0, None),
        ("$IGPT eval --help 2>&- > /dev/null", 0, None),
        ("$IGPT eval --wrong 2>&-", 2, None),
        ("$IGPT eval --wrong 2> /dev/full", 2, None),
        ("$IGPT eval --help >&- 2>&-", 1, None),
        ("$IGPT eval --help <&- > /dev/null", 0, None),
    ],
)
def test_a_stream_that_fails_is_one_line(line, code, words):
    found, out, err = shell(line)
    assert (found, out) == (code, "")
    assert (words in err and len(err.splitlines()) == 1) if words else not err


def test_without_docstrings_the_help_is_the_same():
    assert shell("$IGPT eval --help") == shell(f"{sys.executable} -OO -m igpt_tf eval --help")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_letters_that_an_output_lacks_are_escaped(monkeypatch, encoding):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)

    def work(options):
        print(ODD)
        print(ODD, file=sys.stderr)

    monkeypatch.setattr(eval_command, "run", work)
    assert main(["eval", "--data", "x"]) == 0
    expected = ODD.encode(encoding, "backslashreplace")
    assert b"\\udce9" in expected
    assert [stream.buffer.getvalue() for stream in streams] == [expected + b"\n"] * 2


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(28, "No space left on device", "a/b"), "a/b: No space left on device"),
        (OSError("read\nfailed"), "read failed"),
        (MemoryError(), "expected more memory"),
        # JAX's, of the memory of a GPU.
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nwhile trying to allocate"), "expected more memory"),
        (UserError("a\nb.png: expected\x1b an image"), "a\\nb.png: expected\\x1b an image"),
    ],
)
def test_what_the_system_refuses_is_one_line(capsys, monkeypatch, error, words):
    def work(options):
        raise error

    monkeypatch.setattr(eval_command, "run", work)
    code, _, err = run(capsys, "eval", "--data", "x")
    assert (code, len(err.splitlines())) == (1, 1) and words in err


@pytest.mark.parametrize(
    "called, name, line, download",
    [
        ("/usr/bin/igpt", "igpt", "igpt sample", "igpt download -q"),
        ("/usr/bin/igpt-download", "igpt-download", "igpt sample", "igpt download -q"),
        ("run.py", "run.py", "python run.py sample", "python download.py -q"),
        ("/x/download.py", "download.py", "python run.py sample", "python download.py -q"),
        ("/x/igpt_tf/__main__.py", "python -m igpt_tf", "python -m igpt_tf sample", "python -m igpt_tf download -q"),
    ],
)
def test_the_program_names_itself_as_it_was_called(monkeypatch, called, name, line, download):
    monkeypatch.setattr(sys, "argv", [called])
    assert (program(), command("sample"), command("download -q")) == (name, line, download)
