"""Where images and tokens come from: folders of pictures and `.npy` arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.imaging import find_images, load_images, to_grey
from igpt_tf.palette import Palette

# Decoded and quantised this many at a time, so that a folder of any size needs little more than its tokens.
CHUNK = 4096


def read_array(path: str | Path) -> np.ndarray:
    """Memory-map an `.npy` file; one that is missing, damaged or would need pickle is a `UserError`."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: expected a NumPy .npy array of numbers, found {error}") from error


def load_pixels(source: str | Path, n_px: int) -> np.ndarray:
    """Images as uint8 (N, n_px, n_px, 3) from a folder, a picture or an `.npy` of (N, H, W[, C]) uint8.

    Raises:
        UserError: if there are no images or the array is not one of images of n_px pixels.
    """
    source = Path(source)
    if source.suffix != ".npy":
        return load_images(find_images(source), n_px)
    images = read_array(source)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[1:3] != (n_px, n_px):
        raise UserError(
            f"{source}: expected images, uint8 (N, {n_px}, {n_px}[, channels]) for n_px {n_px}, "
            f"found {images.dtype} {images.shape}"
        )
    return images


def holds_pictures(array: np.ndarray) -> bool:
    """Whether an array is of pictures, uint8 (N, H, W[, C]), and not of tokens, integers (N, T) or (N, H, W)."""
    return array.ndim == 4 or (array.ndim == 3 and array.dtype == np.uint8)


def draw_pixels(source: str | Path, n_px: int, most: int, seed: int = 0) -> np.ndarray:
    """At most so many images of a source, drawn at random and in the source's order; as `load_pixels` otherwise."""

    def draw(count: int) -> np.ndarray:
        return np.sort(np.random.default_rng(seed).permutation(count)[:most])

    if Path(source).suffix == ".npy":
        images = load_pixels(source, n_px)
        return images[draw(len(images))]
    files = find_images(source)
    return load_images([files[i] for i in draw(len(files))], n_px)


def load_tokens(source: str | Path, n_px: int, palette: Palette | None, n_vocab: int | None = None) -> np.ndarray:
    """Tokens (N, T) from an `.npy` of tokens or images, or from a folder of pictures.

    Args:
        source: an `.npy` of integers (N, T) or (N, n_px, n_px), which stays memory-mapped; an `.npy` of uint8
            images with channels; a picture; or a folder of pictures, read recursively.
        n_px: height and width of the images, T = n_px * n_px.
        palette: turns pictures into tokens; needed for those alone.
        n_vocab: number of colours that the tokens may use, if not the palette's.

    Returns:
        (N, T) integers.

    Raises:
        UserError: if the source is missing, empty or of another shape, or a token is outside the vocabulary.
    """
    source = Path(source)
    if source.suffix == ".npy":
        array = read_array(source)
        if not holds_pictures(array):
            return _checked_tokens(source, array, n_px, n_vocab if palette is None else len(palette))
    if palette is None:
        raise UserError(f"{source}: pictures need a palette to become tokens; give one with --palette")
    if source.suffix == ".npy":
        images = load_pixels(source, n_px)
        chunks = (images[i : i + CHUNK] for i in range(0, len(images), CHUNK))
    else:
        files = find_images(source)
        chunks = (load_images(files[i : i + CHUNK], n_px) for i in range(0, len(files), CHUNK))
    tokens = [quantize(palette, chunk).astype(np.uint16) for chunk in chunks]
    if not tokens:
        raise UserError(f"{source}: expected at least one image, found none")
    return np.concatenate(tokens)


def quantize(palette: Palette, images: np.ndarray) -> np.ndarray:
    """Pictures to tokens (N, T), with colours turned to grey where the palette is grey."""
    if palette.n_channels == 1 and images.ndim == 4 and images.shape[-1] == 3:
        images = to_grey(images)
    elif palette.n_channels == 3 and images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    return palette.quantize(images)


def _checked_tokens(source: Path, array: np.ndarray, n_px: int, n_vocab: int | None) -> np.ndarray:
    tokens = array.reshape(len(array), -1)
    if not np.issubdtype(tokens.dtype, np.integer) or tokens.shape[1:] != (n_px**2,) or not len(tokens):
        raise UserError(
            f"{source}: expected tokens, integers of shape (N, {n_px**2}) for images of {n_px} pixels, "
            f"found {array.dtype} {array.shape}"
        )
    for start in range(0, len(tokens), CHUNK):
        chunk = tokens[start : start + CHUNK]
        low, high = int(chunk.min()), int(chunk.max())
        if low < 0 or (n_vocab is not None and high >= n_vocab):
            raise UserError(
                f"{source}: expected tokens from 0 to {n_vocab - 1 if n_vocab else 'n_vocab - 1'}, "
                f"found {low if low < 0 else high}; were they made with another palette?"
            )
    return tokens
