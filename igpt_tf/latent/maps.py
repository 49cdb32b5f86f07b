"""Stores of maps: what an autoencoder makes of a source, encoded once and read without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from igpt_tf.data.image_rows import image_size, require_images
from igpt_tf.data.sources.arrays import read_array
from igpt_tf.data.sources.open import Source
from igpt_tf.data.store.encode import Encoder, encode
from igpt_tf.data.store.store import warn_of_skipped
from igpt_tf.data.store.writer import (
    LABELS,
    MAP_STORE,
    MAPS,
    PROGRESS,
    SKIPPED,
    check_request,
    remove_leftovers,
    store_writer,
)
from igpt_tf.errors import UserError
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.reconstruct import BATCH_SIZE, encode_images
from igpt_tf.progress import ProgressBar
from igpt_tf.storage.records import RecordError, read_record

FORMAT = 1
FIELDS = {"shape": list, "images": int, "skipped": int, "autoencoder": str, "fingerprint": str, "labels": bool}


@dataclass(frozen=True, eq=False)
class MapStore:
    """A folder written by `encode_source`; `store[rows]` reads the maps (n, h, w, C) float32 of those rows alone.

    Attributes:
        folder: the store's folder.
        maps: (N, h, w, C) float16, memory-mapped.
        labels: (N,) int32, or None.
        classes: names of the classes, or None.
        autoencoder: digest of the autoencoder that made them.
        skipped: number of images of the source that could not be read.
        fingerprint: a short digest of maps and labels.
    """

    folder: Path
    maps: np.memmap
    labels: np.ndarray | None
    classes: tuple[str, ...] | None
    autoencoder: str
    skipped: int
    fingerprint: str

    @classmethod
    def open(cls, folder: str | Path) -> MapStore:
        """Open a store and check that it is complete.

        Args:
            folder: the store's folder.

        Raises:
            UserError: if it is no store, not finished, or damaged.
        """
        folder = Path(folder)
        about = _read_about(folder)
        maps, shape = read_array(folder / MAPS), (about["images"], *about["shape"])
        if maps.dtype != np.float16 or maps.shape != shape:
            raise UserError(f"{folder / MAPS}: expected float16 {shape}, got {maps.dtype} {maps.shape}: encode again")
        labels = np.array(read_array(folder / LABELS)) if about["labels"] else None
        if labels is not None and (labels.shape != shape[:1] or labels.dtype != np.int32):
            raise UserError(f"{folder / LABELS}: expected {shape[0]} labels, got {labels.shape}: encode again")
        classes = None if about.get("classes") is None else tuple(about["classes"])
        return cls(folder, maps, labels, classes, about["autoencoder"], about["skipped"], about["fingerprint"])

    def __len__(self) -> int:
        """N."""
        return len(self.maps)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """The map of one row (h, w, C) or of several (n, h, w, C), float32."""
        return np.asarray(self.maps[rows], np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, h, w, C)."""
        return self.maps.shape

    @property
    def name(self) -> str:
        """The folder, for messages."""
        return str(self.folder)

    def require_autoencoder(self, autoencoder: Autoencoder) -> None:
        """Raise a `UserError` unless this autoencoder made the maps."""
        require_made_by(self.name, self.autoencoder, autoencoder)


def require_made_by(name: str, found: str, autoencoder: Autoencoder) -> None:
    """Raise a `UserError` unless a digest is the autoencoder's.

    Args:
        name: what was made, for the message.
        found: the digest that it recorded.
        autoencoder: the one to use.
    """
    expected = autoencoder.digest()
    if found != expected:
        raise UserError(
            f"{name}: expected it to be made with this autoencoder ({expected}), got another's ({found}): "
            "use that one, or make it again"
        )


def encode_source(
    autoencoder: Autoencoder,
    images: Source | np.ndarray,
    folder: str | Path,
    n_px: int | None = None,
    *,
    flip: bool = False,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    progress: bool = False,
) -> MapStore:
    """Turn images into a store of their maps; a run that was interrupted or killed resumes.

    Images that cannot be read are left out, counted, and listed in `skipped.txt`.

    Args:
        autoencoder: encodes.
        images: a source, or an array, uint8 (N, height, width[, 1 or 3]).
        folder: new, empty, or the store of an interrupted run; a finished store is opened.
        n_px: height and width that pictures are resized and cropped to; None: they are arrays and stay as they are.
        flip: mirror every image left to right.
        batch_size: images per batch.
        workers: number of threads that decode; None: one per core.
        progress: show a bar on standard error.

    Raises:
        UserError: if the folder holds something else, was begun with other arguments or cannot be written, the
            images do not fit, or none can be read.
    """
    folder, source = Path(folder), require_images(images, n_px)
    height, width = image_size(source, n_px)
    shape = (*autoencoder.config.map_size(height, width), autoencoder.config.latent_channel)
    request = {
        "format": FORMAT,
        "source": source.fingerprint(),
        "examples": len(source),
        "autoencoder": autoencoder.digest(),
        "image": [height, width],
        "shape": list(shape),
        "flip": flip,
    }
    if (folder / MAP_STORE).exists():
        check_request(folder, _read_about(folder), request)
        remove_leftovers(folder)
        store = MapStore.open(folder)
        if store.skipped:
            warn_of_skipped(source, folder, (folder / SKIPPED).read_text(encoding="utf-8").splitlines())
        return store
    with (
        store_writer(folder, request, source.labels is not None, MAPS, "float16", shape) as writer,
        ProgressBar(
            total=len(source), initial=writer.done, unit="image", desc="encoding", shown=progress, delay=1
        ) as bar,
    ):
        for part in encode(source, np.arange(writer.done, len(source)), Encoder(n_px or 0), workers):
            maps = np.empty((0, *shape), np.float16)
            if len(part.rows):
                maps = _finite(autoencoder, part.rows[:, :, ::-1] if flip else part.rows, batch_size)
            labels = None if source.labels is None else source.labels[part.examples]
            done = len(part.examples) + len(part.problems)
            writer.append(done, maps, labels, part.problems)
            bar.update(done)
        problems = writer.problems()
        if not writer.rows:
            writer.discard()
        warn_of_skipped(source, folder, problems)
        writer.finish(MAP_STORE, "autoencoder", {"name": source.name, "classes": source.classes})
    return MapStore.open(folder)


def _finite(autoencoder: Autoencoder, images: np.ndarray, batch_size: int) -> np.ndarray:
    """The maps of images, float16."""
    with np.errstate(over="ignore"):
        maps = encode_images(autoencoder, images, batch_size).astype(np.float16)
    if not np.isfinite(maps).all():
        raise UserError("expected finite maps that float16 holds, got others: use an autoencoder that was trained")
    return maps


def _read_about(folder: Path) -> dict:
    """The fields of `maps.json`, each checked for its type."""
    path = folder / MAP_STORE
    try:
        about = read_record(path, FIELDS)
    except RecordError as error:
        raise UserError(f"{path}: expected a store's record, got a damaged one ({error}): encode again") from error
    if about is None:
        found = (
            "part of one: encode again to resume" if (folder / PROGRESS).exists() else f"a folder with no {MAP_STORE}"
        )
        raise UserError(f"{folder}: expected a finished store of maps, got {found}")
    if about.get("format") != FORMAT or not isinstance(about.get("classes", 0), list | None):
        raise UserError(f"{path}: expected a store of version {FORMAT}, got another or a damaged one: encode again")
    return about
