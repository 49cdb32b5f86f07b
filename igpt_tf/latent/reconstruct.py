"""An autoencoder on arrays of images, batch by batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from igpt_tf.backend.devices import scope_of
from igpt_tf.errors import UserError
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.layers import Stack
from igpt_tf.progress import BATCHES_A_CHUNK
from igpt_tf.scoring.predict import compiled, predict_padded, whole_batch

BATCH_SIZE = 64


def to_inputs(images: np.ndarray) -> np.ndarray:
    """Images uint8 (N, H, W, 3) as an autoencoder reads them, float32 in [-1, 1]."""
    inputs = images.astype(np.float32)
    inputs /= 127.5  # in place, as a copy takes longer than the sum
    inputs -= 1
    return inputs


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images in [-1, 1] as uint8."""
    return np.round(np.clip(images, -1, 1) * 127.5 + 127.5).astype(np.uint8)


def encode_images(autoencoder: Autoencoder, images: np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """The maps (N, h, w, C) of images, float32.

    Args:
        autoencoder: any.
        images: uint8 (N, H, W, 3).
        batch_size: images per batch.

    Raises:
        UserError: if the autoencoder's stride does not divide the images.
    """
    autoencoder.check_images(images.shape)
    return _predict(autoencoder, autoencoder.encoder, images, batch_size, to_inputs, np.asarray)


def decode_maps(autoencoder: Autoencoder, maps: np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """The images of maps, uint8 (N, H, W, 3).

    Args:
        autoencoder: any.
        maps: (N, h, w, C).
        batch_size: maps per batch.

    Raises:
        UserError: if the maps are not such an autoencoder's.
    """
    autoencoder.check_maps(maps.shape)
    return _predict(autoencoder, autoencoder.decoder, maps, batch_size, np.asarray, to_uint8)


def reconstruct(autoencoder: Autoencoder, images: np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Images through the autoencoder, uint8 (N, H, W, 3).

    Args:
        autoencoder: any.
        images: uint8 (N, H, W, 3).
        batch_size: images per batch.

    Raises:
        UserError: if the autoencoder's stride does not divide the images.
    """
    return decode_maps(autoencoder, encode_images(autoencoder, images, batch_size), batch_size)


Convert = Callable[[np.ndarray], np.ndarray]


def _predict(
    autoencoder: Autoencoder, stack: Stack, arrays: np.ndarray, batch_size: int, before: Convert, after: Convert
) -> np.ndarray:
    """What a stack of the autoencoder makes of arrays (N, ...), converted before and after, a few batches at a time."""
    if not len(arrays):
        raise UserError("expected at least 1 image, got none")
    with scope_of(autoencoder):
        if not stack.compiled:
            compiled(stack)
        batch_size = whole_batch(autoencoder, batch_size, len(arrays))
        chunk = BATCHES_A_CHUNK * batch_size
        parts = [
            after(predict_padded(stack, {"inputs": before(arrays[i : i + chunk])}, batch_size))
            for i in range(0, len(arrays), chunk)
        ]
    return np.concatenate(parts)
