"""The token store: a folder with tokens, labels and palette, made once and read without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np

from igpt_tf.config import check_rows
from igpt_tf.data.sources.arrays import read_array
from igpt_tf.data.sources.open import STORE, Source
from igpt_tf.data.store.encode import Encoded, Encoder, encode
from igpt_tf.data.store.rows import FileTokens
from igpt_tf.data.store.writer import (
    LABELS,
    PALETTE,
    PROGRESS,
    SKIPPED,
    TOKENS,
    check_request,
    remove_leftovers,
    store_writer,
)
from igpt_tf.data.tokens import sample_rows
from igpt_tf.errors import UserError, naming
from igpt_tf.pictures.palette import MAX_COLORS, Palette
from igpt_tf.pictures.reading import require_some
from igpt_tf.progress import ProgressBar
from igpt_tf.storage.records import RecordError, read_record

FORMAT = 1


@dataclass(frozen=True, eq=False)
class TokenStore:
    """A folder written by `tokenize`; `store[rows]` reads the tokens (n, T) uint16 of those rows alone.

    Attributes:
        folder: the store's folder.
        tokens: the tokens (N, T).
        palette: the V colours that the tokens index.
        labels: (N,) int32, or None.
        classes: names of the classes, or None.
        skipped: number of images of the source that could not be read.
        fingerprint: a short digest of tokens, labels and palette.
    """

    folder: Path
    tokens: FileTokens
    palette: Palette
    labels: np.ndarray | None
    classes: tuple[str, ...] | None
    skipped: int
    fingerprint: str

    @classmethod
    def open(cls, folder: str | Path) -> TokenStore:
        """Open a store and check that it is complete.

        Raises:
            UserError: if it is no store, not finished, or damaged.
        """
        folder = Path(folder)
        about = _read_about(folder)
        palette = Palette.load(folder / PALETTE, ours=True)
        if palette.digest() != about["palette"]:
            raise UserError(
                f"{folder / PALETTE}: expected the palette that this store was made with, got another: tokenize again"
            )
        tokens = FileTokens(folder / TOKENS)
        n_px, count = about["n_px"], about["images"]
        if tokens.dtype != np.uint16 or tokens.shape != (count, n_px**2):
            wanted = f"{tokens.path}: expected uint16 ({count}, {n_px**2})"
            raise UserError(f"{wanted}, got {tokens.dtype} {tokens.shape}: tokenize again")
        # `tokenize` checked every token, and processes that share the work need not all read all of them.
        with naming(tokens.path):
            check_rows(sample_rows(tokens), n_px, len(palette))
        classes = about["classes"] if about["classes"] is None else tuple(about["classes"])
        labels = np.array(read_array(folder / LABELS)) if about["labels"] else None
        if labels is not None:
            n_class = int(labels.max()) + 1 if classes is None else len(classes)
            if labels.shape != (count,) or labels.dtype != np.int32 or labels.min() < 0 or labels.max() >= n_class:
                raise UserError(f"{folder / LABELS}: expected {count} labels of {n_class} classes: tokenize again")
        return cls(folder, tokens, palette, labels, classes, about["skipped"], about["fingerprint"])

    def __len__(self) -> int:
        """N."""
        return len(self.tokens)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """The tokens of one row (T,) or of several (n, T), uint16.

        Raises:
            UserError: if one is outside the palette.
        """
        found = self.tokens[rows]
        highest, last = found.max(initial=0), len(self.palette) - 1
        if highest > last:
            raise UserError(f"{self.tokens.path}: expected tokens from 0 to {last}, got {highest}: tokenize again")
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """(N, T)."""
        return self.tokens.shape

    @property
    def dtype(self) -> np.dtype:
        """uint16."""
        return self.tokens.dtype

    @property
    def name(self) -> str:
        """The folder, for messages."""
        return str(self.folder)

    @property
    def are_tokens(self) -> bool:
        """True, as for a source of tokens."""
        return True

    @property
    def n_px(self) -> int:
        """Height and width of the images."""
        return isqrt(self.shape[1])

    @property
    def n_vocab(self) -> int:
        """Number of colours of the palette."""
        return len(self.palette)

    def require_fitting(self, n_px: int, palette: Palette | None, n_vocab: int | None) -> None:
        """Raise a `UserError` unless the store has this n_px, this palette (None: any) and at most n_vocab colours."""
        if self.n_px != n_px:
            raise UserError(
                f"{self.folder}: expected images of {n_px} pixels, got a store made with n_px {self.n_px}: "
                "use that size, or tokenize again"
            )
        if palette is not None and palette != self.palette:
            raise UserError(
                f"{self.folder}: expected tokens of {palette}, got a store made with another palette ({self.palette}): "
                f"use {self.folder / PALETTE}, or tokenize again"
            )
        if n_vocab is not None and n_vocab < self.n_vocab:
            raise UserError(
                f"{self.folder}: expected tokens from 0 to {n_vocab - 1}, got a store made with {self.n_vocab} colours"
            )


def tokenize(
    source: Source,
    folder: str | Path,
    palette: Palette,
    n_px: int,
    *,
    workers: int | None = None,
    random_crops: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> TokenStore:
    """Turn a source into a token store; a run that was interrupted or killed resumes.

    Images that cannot be read are left out, counted, and listed in `skipped.txt`.

    Args:
        source: images, or tokens of this palette.
        folder: new, empty, or the store of an interrupted run; a finished store is opened.
        palette: saved in the store.
        n_px: height and width of the images.
        workers: number of threads that decode; None: one per core.
        random_crops: number of crops of each image by `random_resized_crop`, in consecutive rows; 0 takes its central
            square.
        seed: draws the random crops.
        progress: show a bar on standard error.

    Raises:
        UserError: if the folder holds something else, was begun with other arguments or cannot be written, tokens do
            not fit, or no image can be read.
    """
    folder = Path(folder)
    if len(palette) > MAX_COLORS:
        raise UserError(f"expected a palette of at most {MAX_COLORS} colours for a store, got {len(palette)}")
    if source.are_tokens and random_crops:
        raise UserError(f"{source.name}: expected images for random crops, got tokens")
    request = {
        "format": FORMAT,
        "source": source.fingerprint(),
        "examples": len(source),
        "palette": palette.digest(),
        "n_vocab": len(palette),
        "n_px": n_px,
        "random_crops": random_crops,
        "seed": seed if random_crops else 0,
    }
    if (folder / STORE).exists():
        check_request(folder, _read_about(folder), request)
        remove_leftovers(folder)
        store = TokenStore.open(folder)
        if store.skipped:
            warn_of_skipped(source, folder, (folder / SKIPPED).read_text(encoding="utf-8").splitlines())
        return store

    def take_tokens(examples: np.ndarray, items: np.ndarray) -> Encoded:
        tokens = items.reshape(len(items), -1)
        with naming(source.name):
            check_rows(tokens, n_px, len(palette))
        return Encoded(tokens.astype(np.uint16), examples, [])

    encoder = take_tokens if source.are_tokens else Encoder(n_px, palette, random_crops, seed)
    with (
        store_writer(folder, request, source.labels is not None, TOKENS, "uint16", (n_px**2,)) as writer,
        ProgressBar(
            total=len(source), initial=writer.done, unit="image", desc="reading", shown=progress, delay=1
        ) as bar,
    ):
        for part in encode(source, np.arange(writer.done, len(source)), encoder, workers):
            done = len(set(part.examples.tolist())) + len(part.problems)
            labels = None if source.labels is None else source.labels[part.examples]
            writer.append(done, part.rows, labels, part.problems)
            bar.update(done)
        problems = writer.problems()
        if not writer.rows:
            writer.discard()
        warn_of_skipped(source, folder, problems)
        writer.save()
        palette.save(folder / PALETTE)
        writer.finish(STORE, "palette", {"name": source.name, "classes": source.classes})
    return TokenStore.open(folder)


def warn_of_skipped(source: Source, folder: Path, problems: list[str]) -> None:
    """As `require_some`; where many are skipped, say where all are listed."""
    where = f", see {folder / SKIPPED}" if len(problems) > 3 else ""
    require_some(f"{source.name}{where}", len(source) - len(problems), problems)


def _read_about(folder: Path) -> dict:
    """The fields of `store.json`, each checked for its type."""
    path = folder / STORE
    fields = {"n_px": int, "images": int, "skipped": int, "palette": str, "fingerprint": str, "labels": bool}
    try:
        about = read_record(path, fields)
    except RecordError as error:
        raise UserError(f"{path}: expected a store's record, got a damaged one ({error}): tokenize again") from error
    if about is None:
        if (folder / PROGRESS).exists():
            raise UserError(f"{folder}: expected a finished token store, got part of one: run tokenize again to resume")
        raise UserError(f"{folder}: expected a token store, got a folder with no {STORE}: make one with tokenize")
    if about.get("format") != FORMAT or not isinstance(about.get("classes", 0), list | None):
        raise UserError(f"{path}: expected a store of version {FORMAT}, got another or a damaged one: tokenize again")
    return about
