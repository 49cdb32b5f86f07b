"""Single files and pictures by their address, with the client that fetches checkpoints."""

from __future__ import annotations

import threading
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from igpt_tf.download.answer import FetchError
from igpt_tf.download.batch import RemoteFile, fetch_all
from igpt_tf.download.connection import Connection, Patience
from igpt_tf.download.transfer import Meter
from igpt_tf.errors import UserError
from igpt_tf.progress import ProgressBar

# Larger pictures are refused.
LIMIT = 64 * 2**20


def fetch_file(url: str, path: Path) -> None:
    """Download a file to a path, resuming an interrupted download; what takes longer than a second shows a bar.

    Raises:
        UserError: if it cannot be downloaded, or there is such a file.
    """
    base_url, _, name = url.rpartition("/")
    with ProgressBar(unit="B", unit_scale=True, delay=1, desc=name) as bar:

        def show(meter: Meter) -> None:
            bar.total = meter.total or None
            bar.update(meter.done - bar.n)

        outcome = fetch_all([RemoteFile(name, path)], base_url, progress=show)
    if outcome.failures:
        raise UserError(str(outcome.failures[0]))


def read_url(url: str) -> bytes:
    """The bytes of a picture at an http(s) address.

    Raises:
        UserError: if it cannot be reached, answers with an error or a web page, or is larger than 64 MiB.
    """
    connection = Connection(Patience(retries=0), threading.Event())
    try:
        return connection.persist(url, lambda: _read(connection, url))
    except FetchError as error:
        raise UserError(str(error)) from error
    # Some malformed addresses are a ValueError of a library below requests.
    except (UserError, requests.RequestException, HTTPError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(reason if url in reason else f"{url}: {reason}") from error
    finally:
        connection.close()


def _read(connection: Connection, url: str) -> bytes:
    data = bytearray()
    with connection.request("GET", url, {"User-Agent": "igpt_tf"}) as response:
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if kind.startswith("text/"):
            raise FetchError(url, f"expected a picture, got {kind}: give the picture's own address")
        for chunk in connection.body(response):
            data += chunk
            if len(data) > LIMIT:
                raise FetchError(url, f"expected at most {LIMIT // 2**20} MiB, got more: download it and give the file")
    return bytes(data)
