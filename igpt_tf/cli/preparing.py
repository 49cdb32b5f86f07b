"""From pictures to a palette of their own and a token store, step by step; an interrupted command resumes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.console import remark
from igpt_tf.cli.palette import draw_images
from igpt_tf.errors import SkippedWarning

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.data.sources.open import Source
    from igpt_tf.data.store.store import TokenStore
    from igpt_tf.pictures.palette import Palette

# Pictures whose pixels the palette is made of.
MOST_IMAGES = 50_000
# Of images with fewer colours than this many per palette colour, every pixel counts.
FEW = 10


def prepare(source: Source, folder: Path, n_px: int, n_colors: int) -> TokenStore:
    """A token store of pictures, with a palette of their own; what an earlier command has made is used.

    Args:
        source: the pictures.
        folder: where `palette.npy` and the store `tokens` go.
        n_px: height and width of the images.
        n_colors: number of colours; fewer if the pictures have fewer.

    Raises:
        UserError: if the pictures cannot be read, or the folder holds the tokens of others.
    """
    from igpt_tf.data.sources.open import STORE
    from igpt_tf.data.store.store import tokenize
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.weights.folder import PALETTE_FILE

    path = folder / PALETTE_FILE
    if path.exists():
        palette = Palette.load(path, ours=True)
    else:
        n_images = min(len(source), MOST_IMAGES)
        remark(f"{source.name}: choosing colours from {n_images} pictures (--palette gives others)")
        with warnings.catch_warnings():
            # `tokenize` names them.
            warnings.simplefilter("ignore", SkippedWarning)
            images, _ = draw_images(source, n_px, MOST_IMAGES)
        palette = _fit(images, n_colors)
        palette.save(path)
    kind = f"{len(palette)} {'grey levels' if palette.n_channels == 1 else 'colours'}"
    tokens = folder / "tokens"
    what = "using the tokens" if (tokens / STORE).exists() else f"turning {len(source)} pictures into tokens"
    remark(f"{source.name}: {what} of {kind}, in {tokens}")
    return tokenize(source, tokens, palette, n_px, progress=True)


def _fit(images: np.ndarray, n_colors: int) -> Palette:
    """At most this many colours of images (N, n_px, n_px, 3); grey levels if all pixels are grey."""
    import numpy as np

    from igpt_tf.pictures.nearest import pack
    from igpt_tf.pictures.palette import Palette

    is_grey = bool((images == images[..., :1]).all())
    if is_grey:
        images = images[..., :1]
    there = np.zeros(256 ** images.shape[-1], bool)
    for image in images:
        there[pack(image)] = True
    n_distinct = int(there.sum())
    n_pixels = images.size // images.shape[-1]
    few = {"max_pixels": n_pixels} if n_distinct < FEW * n_colors else {}
    return Palette.fit(images, min(n_colors, n_distinct), progress=True, **few)
