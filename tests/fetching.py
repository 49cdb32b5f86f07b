"""What the tests of the downloader share: the package used in-process, and as a command."""

import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

from http_server import Remote, cut

from igpt_tf.cli.download import summarize
from igpt_tf.download import RemoteFile
from igpt_tf.download.files import fetch_all
from igpt_tf.download.http import Patience
from igpt_tf.download.openai import checkpoint_files

ROOT = Path(__file__).parents[1]
HASTY = Patience(retries=3, connect_s=2.0, read_s=2.0, backoff_s=0.0)
DATA = random.Random(0).randbytes(200_000)
PALETTE = "/color-clusters/kmeans_centers.npy"
PAGE = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
NEW = bytes(reversed(DATA))


def offer(server, data=DATA, path="/x", **manners):
    """Put a file on the server."""
    server.files[path] = Remote(data, **manners)
    return server.files[path]


def fetch(server, tmp_path, *names, patience=HASTY, **options):
    """Fetch `/x`, or the paths given, into tmp_path."""
    files = [RemoteFile(name, tmp_path / name) for name in names or ("x",)]
    return fetch_all(files, server.url, patience=patience, **options)


def fails(server, tmp_path, **options):
    """Fetch `/x`, which must fail alone, and return the one line about it."""
    (download,) = fetch(server, tmp_path, **options)
    assert not (tmp_path / "x").exists()
    (line,) = summarize([download.error])
    assert "\n" not in line
    return line


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def offer_checkpoint(server, size="s", seed=0, **manners):
    """Put a whole checkpoint of a few kB on the server, shaped as the official ones, and return its files."""
    generator = random.Random(seed)
    files = checkpoint_files(size)
    for index, file in enumerate(files):
        data = bytes(8) if index == 0 else generator.randbytes(1000 + 50 * index + seed)
        offer(server, data, f"/{file.source}", **manners)
    return files


def command(server, *arguments, prefix=()):
    return [*prefix, sys.executable, str(ROOT / "download.py"), "--base_url", server.url, *arguments]


def run(server, folder, *arguments, **options):
    """Run the command in `folder` to its end."""
    return subprocess.run(
        command(server, *arguments), cwd=folder, capture_output=True, text=True, timeout=30, check=False, **options
    )


@contextlib.contextmanager
def running(server, folder, *arguments):
    """Start the command in `folder`, and see to it that it ends."""
    process = subprocess.Popen(
        command(server, *arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition):
    """Wait until the condition holds, 10 s at most."""
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.01)


def half_done(server, tmp_path, **manners):
    """Leave 70000 bytes of `/x` behind and forget what was asked."""
    offer(server, **manners).faults = [cut(70_000)] + [cut(0)] * 3
    fails(server, tmp_path)
    assert (tmp_path / "x.part").stat().st_size == 70_000
    del server.requests[:]


NEW = bytes(reversed(DATA))
