"""The token store: a folder of tokens, labels, palette and what they are, read without loading it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
from tqdm import tqdm

from igpt_tf.data.sources.arrays import holds_pictures, read_array
from igpt_tf.data.sources.open import Source, load_tokens
from igpt_tf.data.store.encode import Encoder, TokenEncoder, encode
from igpt_tf.data.store.rows import FileTokens
from igpt_tf.data.store.writer import (
    LABELS,
    PALETTE,
    PROGRESS,
    STORE,
    TOKENS,
    check_request,
    digest_of,
    store_writer,
    tidy,
)
from igpt_tf.errors import UserError
from igpt_tf.pictures.palette import MAX_COLORS, Palette

FORMAT = 1


@dataclass(frozen=True, eq=False)
class TokenStore:
    """A folder of tokens as `tokenize` makes it; `store[rows]` is (n, T) uint16 in memory, and no more is.

    Attributes:
        folder: where it is.
        tokens: the tokens (N, T).
        palette: what their colours are.
        labels: (N,) int32, or None.
        classes: what the labels count, or None.
        skipped: images of the source that could not be read.
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
        """Open a store and check that it is whole.

        Raises:
            UserError: it is none, not finished, or damaged: a file is missing or of another shape, a token is outside
                the palette, or the palette is not the one that it was made with.
        """
        folder = Path(folder)
        about = _read_about(folder)
        palette = Palette.load(folder / PALETTE)
        if digest_of(palette) != about["palette"]:
            raise UserError(f"{folder / PALETTE}: not the palette that this store was made with; tokenize again")
        tokens = FileTokens(folder / TOKENS)
        n_px, count = about["n_px"], about["images"]
        if tokens.dtype != np.uint16 or tokens.shape != (count, n_px**2):
            raise UserError(
                f"{tokens.path}: expected uint16 ({count}, {n_px**2}), found {tokens.dtype} {tokens.shape}; "
                "tokenize again"
            )
        # `tokenize` lets nothing else in, and processes that share the work need not all read all.
        tokens.spot_check(n_px, len(palette))
        classes = about["classes"] if about["classes"] is None else tuple(about["classes"])
        labels = np.array(read_array(folder / LABELS)) if about["labels"] else None
        if labels is not None:
            most = int(labels.max()) + 1 if classes is None else len(classes)
            if labels.shape != (count,) or labels.dtype != np.int32 or labels.min() < 0 or labels.max() >= most:
                raise UserError(f"{folder / LABELS}: expected {count} labels of {most} classes; tokenize again")
        return cls(folder, tokens, palette, labels, classes, about["skipped"], about["fingerprint"])

    def __len__(self) -> int:
        """N."""
        return len(self.tokens)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """The tokens of one row (T,) or of several (n, T), uint16.

        Raises:
            UserError: one is outside the palette.
        """
        found = self.tokens[rows]
        if found.max(initial=0) >= len(self.palette):
            raise UserError(f"{self.tokens.path}: damaged: a token is outside the palette; tokenize again")
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
        """What messages call it."""
        return str(self.folder)

    @property
    def are_tokens(self) -> bool:
        """True, as of a source of tokens."""
        return True

    @property
    def n_px(self) -> int:
        """Height and width of the images."""
        return isqrt(self.shape[1])

    @property
    def n_vocab(self) -> int:
        """Colours of the palette."""
        return len(self.palette)


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
    """Turn a source into a token store; a run that was stopped, killed even, goes on where it was.

    Images that cannot be read are passed over, counted, and named in `skipped.txt`.

    Args:
        source: pictures, or tokens of this palette.
        folder: new, empty, or the store of a run that was stopped; one that is finished is opened.
        palette: the colours; goes into the store.
        n_px: height and width of the images.
        workers: processes that decode; None: one a core. See `encode`.
        random_crops: instead of its middle, so many random crops of each picture, in rows that follow each other; see
            `random_resized_crop`. They are drawn here and not in training, because they are resized and tokens
            cannot be.
        seed: decides the random crops.
        progress: show a bar on standard error.

    Raises:
        UserError: a folder of something else or of another request, a source of tokens that do not fit, no image that
            could be read, or a disk that refuses.
    """
    folder = Path(folder)
    if len(palette) > MAX_COLORS:
        raise UserError(f"a store holds palettes of at most {MAX_COLORS} colours, found {len(palette)}")
    if source.are_tokens and random_crops:
        raise UserError(f"{source.name}: random crops need pictures, found tokens")
    request = {
        "format": FORMAT,
        "source": source.fingerprint(),
        "examples": len(source),
        "palette": digest_of(palette),
        "n_vocab": len(palette),
        "n_px": n_px,
        "random_crops": random_crops,
        "seed": seed if random_crops else 0,
    }
    if (folder / STORE).exists():
        check_request(folder, _read_about(folder), request)
        tidy(folder)
        return TokenStore.open(folder)
    encoder = Encoder(n_px, palette, random_crops, seed)
    if source.are_tokens:
        encoder = TokenEncoder(source.name, n_px, len(palette))
    with (
        store_writer(folder, request, source.labels is not None) as writer,
        tqdm(total=len(source), initial=writer.done, unit="image", disable=not progress, leave=False, delay=1) as bar,
    ):
        for part in encode(source, np.arange(writer.done, len(source)), encoder, workers):
            done = len(set(part.examples.tolist())) + len(part.problems)
            labels = None if source.labels is None else source.labels[part.examples]
            writer.append(done, part.rows, labels, [reason for _, reason in part.problems])
            bar.update(done)
        if not writer.rows:
            first = writer.problems()[0]
            writer.discard()
            raise UserError(f"{source.name}: none of {len(source)} images could be read; the first: {first}")
        writer.finish(palette, {"name": source.name, "classes": source.classes})
    return TokenStore.open(folder)


def open_tokens(
    path: str | Path, n_px: int, palette: Palette | None, n_vocab: int | None = None
) -> TokenStore | FileTokens | np.ndarray:
    """Tokens to train on or to judge by: a store, an .npy of tokens, or any source of pictures.

    Args:
        path: a store's folder, or a source as in `open_source`.
        n_px: height and width of the images.
        palette: turns pictures into tokens, and must be the store's own; None: the store's.
        n_vocab: number of colours that the tokens may use, if there is no palette.

    Returns:
        Something with a length, a `shape` (N, T) and `[rows]`. Stores and .npy files stay on disk.

    Raises:
        UserError: there is no such data, it is damaged or does not fit n_px, palette or n_vocab, or an image cannot
            be read; `tokenize` passes over those.
    """
    text, path = str(path), Path(path)
    if (path / STORE).exists() or (path / PROGRESS).exists():
        return require_fitting(TokenStore.open(path), n_px, palette, n_vocab)
    if path.suffix == ".npy" and not holds_pictures(read_array(path)):
        tokens = FileTokens(path)
        tokens.check(n_px, n_vocab if palette is None else len(palette))
        return tokens
    return load_tokens(text, n_px, palette, n_vocab)


def require_fitting(store: TokenStore, n_px: int, palette: Palette | None, n_vocab: int | None) -> TokenStore:
    """The store, or a `UserError` if it is not of this palette (None: of any), n_px and at most n_vocab colours."""
    if store.n_px != n_px:
        raise UserError(
            f"{store.folder}: expected images of {n_px} pixels, this store was made with n_px {store.n_px}; "
            "give that, or tokenize again"
        )
    if palette is not None and palette != store.palette:
        raise UserError(
            f"{store.folder}: this store was made with another palette ({store.palette}, given {palette}); "
            f"give {store.folder / PALETTE}, or tokenize again"
        )
    if n_vocab is not None and n_vocab < store.n_vocab:
        raise UserError(
            f"{store.folder}: expected tokens from 0 to {n_vocab - 1}, this store was made with {store.n_vocab} colours"
        )
    return store


def _read_about(folder: Path) -> dict:
    """What `store.json` says, with every field of the right type."""
    path = folder / STORE
    if not path.exists():
        if (folder / PROGRESS).exists():
            raise UserError(f"{folder}: this token store is not finished; give the same tokenize command again")
        raise UserError(f"{folder}: expected a token store, found no {STORE}; make one with run.py tokenize")
    kinds = {"n_px": int, "images": int, "skipped": int, "palette": str, "fingerprint": str, "labels": bool}
    try:
        about = json.loads(path.read_bytes())
        good = all(type(about[name]) is kind for name, kind in kinds.items())
        good = good and (about["classes"] is None or isinstance(about["classes"], list))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged; tokenize again") from error
    if not good or about.get("format") != FORMAT:
        raise UserError(f"{path}: damaged, or of another version than {FORMAT}; tokenize again")
    return about
