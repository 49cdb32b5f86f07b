"""OpenAI's models by name: the weights alone, a third of a checkpoint's bytes, are downloaded as a preset folder."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np

from igpt_tf.download import openai
from igpt_tf.download.disk import explained, waiting_lock
from igpt_tf.download.files import Bar, fetch_all, together
from igpt_tf.download.http import Connection, FetchError, Patience
from igpt_tf.errors import UserError, naming
from igpt_tf.pictures.palette import Palette
from igpt_tf.progress import ProgressBar
from igpt_tf.storage.arrays import read_npy
from igpt_tf.storage.digests import crc32c
from igpt_tf.storage.files import atomic_write
from igpt_tf.storage.tensors import header_of
from igpt_tf.weights.arrays import CONFIG_FILE, WEIGHTS_FILE
from igpt_tf.weights.bundle import FLOAT32, Entry, parse_index
from igpt_tf.weights.folder import PALETTE_FILE
from igpt_tf.weights.names import check_shapes, infer_config, is_weight

_SCOPE = "model/"


class RangesRefusedError(Exception):
    """The server sends whole files alone."""


class Span:
    """An array's bytes: where they lie on the server, and in a file here."""

    def __init__(self, connection: Connection, url: str, entry: Entry, path: Path, place: int, bar: Bar) -> None:
        self.error: FetchError | None = None
        self._connection = connection
        self._url = url
        self._entry = entry
        self._path = path
        self._place = place
        self._bar = bar

    def fetch(self) -> None:
        """Write the bytes to their place, unless those there have the right checksum already."""
        entry = self._entry
        with explained(self._path), open(self._path, "rb+", buffering=0) as file:
            file.seek(self._place)
            there = crc32c(file.read(entry.size)) == entry.crc
            for last in (False, True) if not there else ():
                data = self._connection.read_span(self._url, entry.offset, entry.size)
                if data is None:
                    raise RangesRefusedError
                if crc32c(data) == entry.crc:
                    file.seek(self._place)
                    file.write(data)
                    break
                if last:
                    advice = "the damage is on the way or on the server: use another network or another mirror"
                    raise FetchError(self._url, f"expected CRC-32C {entry.crc:08x}, got another, twice: {advice}")
        self._bar.count(entry.size)


def fetch_official(
    size: str,
    step: int,
    bert: bool,
    folder: Path,
    base_url: str = openai.BASE_URL,
    jobs: int = 4,
    patience: Patience | None = None,
) -> None:
    """Download the weights and the palette of one of OpenAI's models, resuming an interrupted download.

    Where the server does not send parts of files, the whole checkpoint is downloaded instead. A process that finds
    another one at it waits for its end.

    Args:
        size: "s", "m" or "l".
        step: training step of the checkpoint.
        bert: whether it is the model of the BERT objective.
        folder: becomes a preset folder.
        base_url: address that the files' names are relative to.
        jobs: number of arrays fetched at once.
        patience: how often and when to retry; None: the defaults.

    Raises:
        UserError: if it cannot be downloaded or written.
    """
    files = {file.path.name: file for file in openai.checkpoint_files(size, step, bert, folder)}
    patience = patience or Patience()
    with waiting_lock(folder), ProgressBar(unit="B", unit_scale=True, desc=folder.name) as bar:
        if (folder / CONFIG_FILE).is_file():
            return
        stop, counter = threading.Event(), Bar(bar)
        connection = Connection(patience, stop, counter.wait)
        try:
            index = _read(connection, f"{base_url}/{next(file.source for file in files.values() if file.last)}")
            _fetch_arrays(index, size, step, bert, folder, base_url, jobs, connection, counter, stop)
        except RangesRefusedError:
            (folder / f"{WEIGHTS_FILE}.part").unlink(missing_ok=True)
            whole = [*files.values(), openai.palette_file(folder)]
            for one in fetch_all(whole, base_url, jobs, patience, bar):
                if one.error:
                    raise one.error from None


def _fetch_arrays(
    index: bytes,
    size: str,
    step: int,
    bert: bool,
    folder: Path,
    base_url: str,
    jobs: int,
    connection: Connection,
    bar: Bar,
    stop: threading.Event,
) -> None:
    with naming(folder):
        entries = {name.removeprefix(_SCOPE): one for name, one in parse_index(index).items()}
        # OpenAI's own code does not read the head, which is not trained.
        entries = {name: one for name, one in entries.items() if is_weight(name) and not name.startswith("clf/")}
        config = infer_config({name: one.shape for name, one in entries.items()})
        check_shapes({name: one.shape for name, one in entries.items()}, config)
        if any(one.dtype != FLOAT32 for one in entries.values()):
            raise UserError("expected float32 weights, got others: download the whole checkpoint instead")
    header, end = header_of([(name, "float32", one.shape) for name, one in entries.items()])
    part, whole = folder / f"{WEIGHTS_FILE}.part", folder / WEIGHTS_FILE
    with explained(part):
        if whole.exists():  # of a process that was killed before it wrote the rest
            os.replace(whole, part)
        with open(part, "rb+" if part.exists() else "wb") as file:
            file.write(header)
            file.truncate(len(header) + end)
    bar.count(0, end)
    shards = [file.source for file in openai.checkpoint_files(size, step, bert, folder)]
    spans: list[Span] = []
    place = len(header)
    for entry in entries.values():
        spans.append(Span(connection, f"{base_url}/{shards[entry.shard]}", entry, part, place, bar))
        place += entry.size
    together(Span.fetch, spans, jobs, stop)
    for span in spans:
        if span.error:
            raise span.error
    palette = folder / "palette.part"
    with explained(part):
        palette.write_bytes(_read(connection, f"{base_url}/{openai.palette_file(folder).source}"))
    Palette(np.array(read_npy(palette, "OpenAI's palette"))).save(folder / PALETTE_FILE)
    palette.unlink()
    with explained(part):
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, whole)
    with atomic_write(folder / CONFIG_FILE) as file:
        file.write((json.dumps(config.to_dict(), indent=2) + "\n").encode())


def _read(connection: Connection, url: str) -> bytes:
    """The bytes of a small file."""
    size = connection.identify(url).size
    data = None if size is None else connection.read_span(url, 0, size)
    if data is None:
        raise RangesRefusedError
    return data
