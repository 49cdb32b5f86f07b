"""Training an autoencoder together with its finest codebook, so that each suits the other."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from igpt_tf.data.image_rows import ImageRows
from igpt_tf.data.sources.open import Source
from igpt_tf.errors import UsageError, UserError
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.codebook import Codebook
from igpt_tf.latent.settings import AutoencoderSettings
from igpt_tf.latent.train import train_on_images
from igpt_tf.training.best import Logs
from igpt_tf.training.checkpoint import RunFolder

# How much the encoder is drawn to the units: van den Oord et al., "Neural discrete representation learning" (2017).
COMMITMENT = 0.25


class CodedAutoencoder(keras.Model):
    """An autoencoder of which every position of a map is replaced by the nearest unit.

    The gradients of the images' error pass from the units to the maps unchanged. What the model adds to that error
    moves the units towards the positions that they stand for, and, more slowly, those towards the units.

    Args:
        autoencoder: any.
        units: (K, C), to begin with.
        kwargs: Keras' `name`.
    """

    def __init__(self, autoencoder: Autoencoder, units: np.ndarray, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.autoencoder = autoencoder
        self.units = self.add_weight(shape=units.shape, initializer="zeros", name="units")
        self.units.assign(units)
        self.built = True

    def call(self, inputs, training=None):
        """Images (B, H, W, 3) to their reconstructions, float32."""
        maps, units = self.autoencoder.encode(inputs), ops.convert_to_tensor(self.units)
        # The greatest, where the distance is least: see `nearest_units`.
        scores: Any = ops.matmul(maps, ops.transpose(units)) - ops.sum(ops.square(units), axis=1) / 2  # (B, h, w, K)
        chosen: Any = ops.take(units, ops.argmax(scores, axis=-1), axis=0)  # (B, h, w, C)
        pulled = ops.mean(ops.square(ops.stop_gradient(maps) - chosen))
        drawn = ops.mean(ops.square(maps - ops.stop_gradient(chosen)))
        self.add_loss(pulled + COMMITMENT * drawn)
        return self.autoencoder.decode(maps + ops.stop_gradient(chosen - maps))


def adapt(
    autoencoder: Autoencoder,
    codebook: Codebook,
    images: np.ndarray | Source | ImageRows,
    settings: AutoencoderSettings,
    folder: RunFolder | str | Path,
    validation: np.ndarray | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    *,
    n_px: int | None = None,
) -> tuple[Codebook, list[Logs]]:
    """Train an autoencoder and a codebook of single positions of its maps together, or resume the run of `folder`.

    The autoencoder ends with the weights that `Run.train` describes. Maps and codebooks made before are not its own
    any more.

    Args:
        autoencoder: a trained one, built under the `tf.distribute` strategy it is to train under.
        codebook: of its maps.
        images: as in `train_autoencoder`.
        settings: of the run; without noise.
        folder: where the run keeps its checkpoints and `log.csv`.
        validation: as in `train_autoencoder`.
        callbacks: more Keras callbacks, called before a checkpoint is written.
        n_px: height and width that the images of a source are resized and cropped to.

    Returns:
        The codebook, and the logs as of `train_autoencoder`; images go through the codebook, and `loss` is with the
        distances to the units.

    Raises:
        UserError: as `train_autoencoder`; if the codebook is another autoencoder's, or has larger patches.
        UsageError: if the settings do not fit each other or the devices, or there is noise.

    Source: van den Oord et al., "Neural discrete representation learning" (2017).
    """
    if settings.noise:
        raise UsageError(f"expected no noise beside a codebook, got {settings.noise}", "noise")
    codebook.require_autoencoder(autoencoder)
    if codebook.scalar is not None or (codebook.patch_H, codebook.patch_W) != (1, 1):
        size = "fsq" if codebook.scalar is not None else f"patches of {codebook.patch_H} x {codebook.patch_W}"
        raise UserError(f"expected a codebook of single positions with units that can move, got {size}")
    model = CodedAutoencoder(autoencoder, codebook.units)
    begun = {"autoencoder": autoencoder.digest(), "codebook": codebook.digest()}
    logs = train_on_images(model, autoencoder, images, settings, folder, validation, callbacks, n_px, begun)
    units = np.array(ops.convert_to_numpy(model.units))
    return dataclasses.replace(codebook, units=units, autoencoder=autoencoder.digest()), logs
