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

# Images on which a training is evaluated after each save interval, at most.
HELD = 1024


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
        source = require_images(images, n_px)
        self.source = source
        self.n_px = n_px
        self.examples = np.arange(len(source))
        if not isinstance(source.items, np.ndarray):
            self.examples = _readable(source, Encoder(n_px or 0), progress)
        self.labels = None if source.labels is None else source.labels[self.examples]
        self.classes = source.classes

    def __len__(self) -> int:
        """N."""
        return len(self.examples)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The images of these rows, uint8 (n, height, width, 3)."""
        examples = self.examples[rows]
        found = Encoder(self.n_px or 0)(examples, self.source.part(examples))
        if found.problems:
            raise UserError(found.problems[0])
        return found.rows

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return image_size(self.source, self.n_px)

    @property
    def fingerprint(self) -> str:
        """A short digest of source and size."""
        return digest(f"{self.source.fingerprint()} {self.size}")


def require_images(images: Source | np.ndarray, n_px: int | None) -> Source:
    """A source of images.

    Args:
        images: a source, or an array, uint8 (N, height, width[, 1 or 3]).
        n_px: height and width that pictures are resized and cropped to; None: they are arrays and stay as they are.

    Raises:
        UserError: if there are no images, or picture files are to stay as they are.
    """
    source = images if isinstance(images, Source) else Source("images", images)
    items, wanted = source.items, f"{source.name}: expected images, uint8 (N, height, width, 3), got"
    if not len(items):
        raise UserError(f"{wanted} none")
    if not isinstance(items, np.ndarray):
        if n_px is None:
            raise UserError(f"{source.name}: expected a size for pictures, got none", "n_px")
    elif items.dtype != np.uint8 or items.ndim not in (3, 4) or items.shape[3:] not in ((), (1,), (3,)):
        raise UserError(f"{wanted} {items.dtype} {items.shape}")
    return source


def image_size(source: Source, n_px: int | None) -> tuple[int, int]:
    """Height and width of the images of a source, as in `require_images`."""
    if n_px is not None:
        return n_px, n_px
    height, width = cast("np.ndarray", source.items).shape[1:3]
    return height, width


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


def held_images(images: Source | np.ndarray, n_px: int | None, most: int = HELD) -> np.ndarray:
    """At most this many images, always the same at random, uint8 (n, height, width, 3), to evaluate on.

    Args:
        images: as for `ImageRows`.
        n_px: as for `ImageRows`.
        most: how many.
    """
    rows = ImageRows(images, n_px)
    return rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:most])]
