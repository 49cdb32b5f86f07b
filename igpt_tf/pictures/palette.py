"""The palette: pixels to tokens and back."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from igpt_tf.errors import Notice, UserError, naming
from igpt_tf.pictures.imaging import to_grey
from igpt_tf.pictures.kmeans import choose_colors
from igpt_tf.pictures.nearest import nearest, pack
from igpt_tf.storage.arrays import read_npy
from igpt_tf.storage.files import atomic_write

# Pixels worked on at once: the largest temporary array is a few times 4 MB.
BLOCK_PIXELS = 1 << 20
# Tokens are stored in 16 bits.
MAX_COLORS = 1 << 16
# k-means centres may leave [-1, 1] by rounding.
RANGE_TOLERANCE = 1e-3
# A palette of bright colours alone is taken for one in [0, 1], whose 0 is black, if it has a smaller value than this.
LEAST_BRIGHT = 0.1


class Palette:
    """The V colours that tokens index.

    Args:
        colors: (V, 3) for RGB or (V, 1) for grey, in [-1, 1]: the 8-bit value v is v / 127.5 - 1.

    Attributes:
        colors: the same as a read-only float32 array.

    Raises:
        UserError: if colors has another shape, or a value that is not finite or outside [-1, 1].

    Source: section 3.2 of the paper (512 colours found by k-means).
    """

    def __init__(self, colors: ArrayLike):
        self.colors = _check_colors(colors)
        # The token of every 8-bit colour met so far, plus one; 0 means "not met yet". Zero pages cost nothing until
        # they are written, and after a few batches of a data set nearly every colour is in the table.
        self._found = np.zeros(256**self.n_channels, np.int32)

    @property
    def n_channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return self.colors.shape[1]

    def __len__(self) -> int:
        return len(self.colors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Palette) and np.array_equal(self.colors, other.colors)

    def __hash__(self) -> int:
        return hash((self.colors.shape, self.colors.tobytes()))

    def __repr__(self) -> str:
        return f"Palette({len(self)} {'RGB colours' if self.n_channels == 3 else 'grey levels'})"

    def __reduce__(self):
        # Another process need not be sent the table of colours met.
        return Palette, (self.colors,)

    @classmethod
    def load(cls, path: str | os.PathLike[str], ours: bool = False) -> Palette:
        """Read a palette from a .npy file, such as OpenAI's kmeans_centers.npy.

        Args:
            path: the file.
            ours: whether it is known to be in [-1, 1], however bright.

        Raises:
            UserError: if there is no such file, or it is not a plain array of the right shape and range.
        """
        array = np.array(read_npy(Path(path), "a palette, an .npy file of (V, 3) or (V, 1) float32"))
        with naming(path):
            palette = cls(array)
            if not ours and palette.colors.min() >= -RANGE_TOLERANCE:
                _doubt_range(path, palette.colors)
            return palette

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the colours to a float32 .npy file, whole or not at all.

        Args:
            path: the file; missing folders are created.
        """
        with atomic_write(path) as file:
            np.save(file, self.colors, allow_pickle=False)

    @classmethod
    def fit(
        cls, images: np.ndarray, n_colors: int, seed: int = 0, max_pixels: int = 500_000, progress: bool = False
    ) -> Palette:
        """Choose `n_colors` colours by k-means on a random sample of the pixels.

        Args:
            images: (N, height, width, 3) or, for a grey palette, (N, height, width), uint8; may be memory-mapped.
            n_colors: V, at most 65,536.
            seed: of the sample and of k-means; the same seed, images and library versions give the same palette.
            max_pixels: number of pixels to sample, but at least 32 per colour.
            progress: show a bar on standard error.

        Returns:
            The palette, from dark to bright.

        Raises:
            UserError: for images of another dtype or shape, or with fewer distinct colours than `n_colors`.
        """
        images = np.asarray(images)
        # Three dimensions ending in 3 are far more likely one RGB image than grey ones, 3 pixels wide.
        looks_grey = images.shape[3] == 1 if images.ndim == 4 else images.ndim == 3 and images.shape[2] != 3
        images = _with_channels(images, 1 if looks_grey else 3)
        if not 1 <= n_colors <= MAX_COLORS:
            raise UserError(f"expected 1 to {MAX_COLORS} colours, because tokens have 16 bits, got n_colors={n_colors}")
        return cls(choose_colors(images, n_colors, seed, max_pixels, progress))

    def quantize(self, images: np.ndarray) -> np.ndarray:
        """Replace every pixel by the index of the nearest colour.

        Nearest is by Euclidean distance; of equally near colours the lowest index wins.

        Args:
            images: (N, n_px, n_px, 3) uint8; for a grey palette (N, n_px, n_px) or (N, n_px, n_px, 1).
                May be memory-mapped.

        Returns:
            (N, n_px * n_px) int32 tokens, row by row.

        Raises:
            UserError: if the images have another dtype or shape.

        Source: `color_quantize` in OpenAI's src/utils.py.
        """
        images = _with_channels(images, self.n_channels)
        n, height, width, _ = images.shape
        if height != width:
            raise UserError(f"expected square images, got {height} x {width} pixels: crop or resize them first")
        return self._nearest(images).reshape(n, height * width)

    def _nearest(self, images: np.ndarray) -> np.ndarray:
        """`quantize` of images of any size, (N, height, width) int32."""
        n, height, width, _ = images.shape
        tokens = np.empty((n, height, width), np.int32)
        for block in _blocks(n, height, width):
            codes = pack(images[block])
            found = self._found[codes]
            missing = codes[found == 0]
            if missing.size:
                missing = _distinct(missing)
                self._found[missing] = nearest(missing, self.colors) + 1
                found = self._found[codes]
            tokens[block] = found - 1
        return tokens

    def dequantize(self, tokens: ArrayLike) -> np.ndarray:
        """Replace every token by its colour.

        Args:
            tokens: (N, T) integers with T a square, or (N, height, width).

        Returns:
            (N, height, width, 3) uint8, rounded to nearest; (N, height, width, 1) for a grey palette.

        Raises:
            UserError: if T is not a square, or a token is not an index of this palette.

        Source: `sample` in OpenAI's src/run.py: rint(127.5 * (colour + 1)).
        """
        tokens = np.asarray(tokens)
        if not np.issubdtype(tokens.dtype, np.integer):
            raise UserError(f"expected integer tokens, got dtype {tokens.dtype}: cast them to int32")
        if tokens.ndim == 2:
            side = isqrt(tokens.shape[1])
            if side * side != tokens.shape[1]:
                raise UserError(
                    f"expected n_px * n_px tokens per image, got {tokens.shape[1]}, which is no square: "
                    "give images that are not square as (N, height, width)"
                )
            tokens = tokens.reshape(len(tokens), side, side)
        if tokens.ndim != 3:
            raise UserError(
                f"expected tokens of shape (N, T) or (N, height, width), got {tokens.shape}: "
                "give one image as tokens[None]"
            )
        low, high = tokens.min(initial=0), tokens.max(initial=0)
        if low < 0 or high >= len(self):
            raise UserError(
                f"expected tokens from 0 to {len(self) - 1}, got {low if low < 0 else high}: "
                "is this the palette that the tokens were made with?"
            )
        return self._bytes()[tokens]

    def digest(self) -> str:
        """16 hexadecimal digits for these colours; stores and drawn series record them: keep the result as it is."""
        return hashlib.sha256(repr(self.colors.shape).encode() + self.colors.tobytes()).hexdigest()[:16]

    def rmse(self, images: np.ndarray) -> float:
        """The root mean square error of `dequantize(quantize(images))`, in 8-bit levels (0 to 255).

        Args:
            images: (N, height, width, 3) uint8; for a grey palette (N, height, width) or (N, height, width, 1).

        Raises:
            UserError: if the images have another dtype or shape, or no pixel.
        """
        images = _with_channels(images, self.n_channels)
        if images.size == 0:
            raise UserError(f"expected at least one pixel, got images of shape {images.shape}")
        total = 0.0
        for block in _blocks(*images.shape[:3]):
            pixels = images[block]
            tokens = self._nearest(pixels)
            error = pixels.astype(np.float32) - self._bytes()[tokens]
            total += float(np.square(error, out=error).sum(dtype=np.float64))
        return (total / images.size) ** 0.5

    def _bytes(self) -> np.ndarray:
        """Return the colours as (V, n_channels) uint8."""
        return np.clip(np.rint(127.5 * (self.colors + 1)), 0, 255).astype(np.uint8)


def _distinct(codes: np.ndarray) -> np.ndarray:
    """Return the distinct values of (n,) codes; sorting takes a tenth of the time of np.unique's hash table."""
    codes = np.sort(codes)
    return codes[np.diff(codes, prepend=-1) != 0]


def _blocks(n: int, height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Cut N images into (images, rows) slices of about BLOCK_PIXELS pixels; one image can be many blocks."""
    rows = min(height, max(1, BLOCK_PIXELS // max(1, width)))
    count = max(1, BLOCK_PIXELS // max(1, rows * width))
    for start in range(0, n, count):
        for top in range(0, height, max(1, rows)):
            yield slice(start, start + count), slice(top, top + rows)


def _with_channels(images: np.ndarray, n_channels: int) -> np.ndarray:
    """Return uint8 images as (N, height, width, n_channels), or say what is wrong with them."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise UserError(f"expected images of dtype uint8 (0 to 255), got {images.dtype}: convert them first")
    if n_channels == 1 and images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and images.shape[3] == n_channels:
        return images
    if n_channels == 3:
        expected, hint = "RGB images of shape (N, height, width, 3)", "give one image as image[None]"
    else:
        expected, hint = "grey images of shape (N, height, width)", "imaging.to_grey makes RGB images grey"
    raise UserError(f"expected {expected}, got {images.shape}: {hint}")


def _check_colors(colors: ArrayLike) -> np.ndarray:
    """Return a read-only float32 copy of the colours, or say what is wrong with them."""
    array = np.asarray(colors)
    if array.ndim != 2 or array.shape[1] not in (1, 3) or len(array) == 0:
        raise UserError(f"expected palette colours of shape (V, 3) or (V, 1), got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise UserError(f"expected palette colours as numbers in [-1, 1], got dtype {array.dtype}")
    if not np.isfinite(array).all():
        raise UserError("expected finite palette colours, got NaN or infinity: was the k-means run cut short?")
    low, high = array.min(), array.max()
    if array.dtype == np.uint8 or low < -1 - RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise UserError(
            f"expected palette colours in [-1, 1], got {array.dtype} from {low:g} to {high:g}: "
            "turn 8-bit colours into colours / 127.5 - 1"
        )
    array = array.astype(np.float32, order="C")
    array.flags.writeable = False
    return array


def _doubt_range(path: str | os.PathLike[str], colors: np.ndarray) -> None:
    """Refuse colours of which none is dark, because they are in [0, 1]; warn if they may be."""
    got = f"colours from {colors.min():.3g} to {colors.max():.3g}"
    if colors.min() < LEAST_BRIGHT:
        raise UserError(
            f"expected palette colours in [-1, 1], got {got}, as if in [0, 1]: turn them into 2 * colours - 1"
        )
    hint = "if they are in [0, 1], turn them into 2 * colours - 1"
    warnings.warn(Notice(f"{path}: {got} are brighter than a mid grey, which is 0: {hint}"), stacklevel=3)


def quantize(palette: Palette, images: np.ndarray) -> np.ndarray:
    """Images to tokens (N, T), as `Palette.quantize`, with RGB and grey converted to what the palette has."""
    if palette.n_channels == 1 and images.ndim == 4 and images.shape[-1] == 3:
        images = to_grey(images)
    elif palette.n_channels == 3 and images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    return palette.quantize(images)
