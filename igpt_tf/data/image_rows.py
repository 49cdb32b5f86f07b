"""Images that are read when they are asked for, all of one size."""

from __future__ import annotations

from typing import cast

import numpy as np

from igpt_tf.data.sources.open import Source
from igpt_tf.data.store.encode import Encoder, encode
from igpt_tf.errors import UserError
from igpt_tf.pictures.reading import require_some
from igpt_tf.progress import ProgressBar
from igpt_tf.storage.digests import digest


class ImageRows:
    """The images of a source: `rows[numbers]`, a slice or an array (n,), reads uint8 (n, height, width, 3).

    Picture files that cannot be read are left out; a warning names them.

    Args:
        images: a source, or an array, uint8 (N, height, width[, 1 or 3]).
        n_px: height and width that pictures are resized and cropped to; None: they are arrays and stay as they are.
        progress: show a bar on standard error while picture files are checked.

    Attributes:
        source: where they are.
        n_px: as given.
        examples: (N,) number of each image in the source.
        labels: (N,) int32, or None.
        classes: names of the classes, or None.

    Raises:
        UserError: if there are no images, or picture files are to stay as they are.
    """

    def __init__(self, images: Source | np.ndarray, n_px: int | None = None, progress: bool = False) -> None:
        source = images if isinstance(images, Source) else Source("images", images)
        if not len(source) or source.are_tokens:
            kind = "tokens" if len(source) else "none"
            raise UserError(f"{source.name}: expected images, uint8 (N, height, width, 3), got {kind}")
        self.source = source
        self.n_px = n_px
        self.examples = np.arange(len(source))
        if not isinstance(source.items, np.ndarray):
            if n_px is None:
                raise UserError(f"{source.name}: expected a size for pictures, got none", "n_px")
            self.examples = _readable(source, Encoder(n_px), progress)
        elif source.items.dtype != np.uint8 or source.items.shape[3:] not in ((), (1,), (3,)):
            found = f"{source.items.dtype} {source.items.shape}"
            raise UserError(f"{source.name}: expected images, uint8 (N, height, width, 3), got {found}")
        self.labels = None if source.labels is None else source.labels[self.examples]
        self.classes = source.classes

    def __len__(self) -> int:
        """N."""
        return len(self.examples)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The images of these rows, uint8 (n, height, width, 3)."""
        examples = self.examples[rows]
        items = self.source.part(examples)
        if self.n_px is None and isinstance(items, np.ndarray):
            items = items.reshape(*items.shape[:3], -1)  # (n, height, width, 1 or 3)
            return np.broadcast_to(items, (*items.shape[:3], 3))
        found = Encoder(self.n_px or 0)(examples, items)
        if found.problems:
            raise UserError(found.problems[0])
        return found.rows

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        if self.n_px is not None:
            return self.n_px, self.n_px
        _, height, width, *_ = cast("np.ndarray", self.source.items).shape
        return height, width

    @property
    def fingerprint(self) -> str:
        """A short digest of source and size."""
        return digest(f"{self.source.fingerprint()} {self.size}")


def _readable(source: Source, encoder: Encoder, progress: bool) -> np.ndarray:
    """Numbers of the picture files that can be read."""
    examples, problems = [], []
    with ProgressBar(total=len(source), unit="image", desc="checking", shown=progress, delay=1) as bar:
        for part in encode(source, np.arange(len(source)), encoder):
            examples.append(part.examples)
            problems += part.problems
            bar.update(len(part.examples) + len(part.problems))
    readable = np.concatenate(examples)
    require_some(source.name, len(readable), problems)
    return readable
