"""Training an autoencoder on images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from igpt_tf.data.augment import generators_of
from igpt_tf.data.batches import TrainingBatches
from igpt_tf.data.image_rows import ImageRows
from igpt_tf.data.order import ExampleOrder, Examples
from igpt_tf.data.sources.open import Source
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.quality import quality_metrics
from igpt_tf.latent.reconstruct import to_inputs
from igpt_tf.latent.settings import AutoencoderSettings
from igpt_tf.training.best import Logs
from igpt_tf.training.checkpoint import RunFolder
from igpt_tf.training.run import Run, Share, Validation

LOSSES = {"mse": ops.square, "l1": ops.abs}


class PixelLoss(keras.losses.Loss):
    """The mean error of each image's pixels.

    Args:
        kind: one of `LOSSES`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(name=kind)
        self.kind = kind

    def call(self, y_true, y_pred):
        """Images (B, H, W, 3) to their losses (B,)."""
        return ops.mean(LOSSES[self.kind](y_true - y_pred), axis=(1, 2, 3))


def train_autoencoder(
    model: Autoencoder,
    images: np.ndarray | Source | ImageRows,
    settings: AutoencoderSettings,
    folder: RunFolder | str | Path,
    validation: np.ndarray | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    *,
    n_px: int | None = None,
) -> list[Logs]:
    """Train an autoencoder, or resume the run that `folder` holds.

    The model ends with the weights that `Run.train` describes.

    Args:
        model: built under the `tf.distribute` strategy it is to train under.
        images: uint8 (N, H, W, 3), or a source of images, which are read batch by batch.
        settings: of the run.
        folder: where the run keeps its checkpoints and `log.csv`.
        validation: images (M, H, W, 3) uint8, reconstructed after every save interval.
        callbacks: more Keras callbacks, called before a checkpoint is written.
        n_px: height and width that the images of a source are resized and cropped to.

    Returns:
        The logs of every save interval: `loss`; `psnr` in decibels and `ssim`, means over the images; with validation
        the same with `val_` before them; `learning_rate`.

    Raises:
        UserError: if the images do not fit the model, `folder` cannot be written, holds another run or one that another
            process is training, or the loss becomes NaN.
        UsageError: if the settings do not fit each other or the devices.
    """
    return train_on_images(model, model, images, settings, folder, validation, callbacks, n_px, {})


def train_on_images(
    model: keras.Model,
    autoencoder: Autoencoder,
    images: np.ndarray | Source | ImageRows,
    settings: AutoencoderSettings,
    folder: RunFolder | str | Path,
    validation: np.ndarray | None,
    callbacks: list[keras.callbacks.Callback] | None,
    n_px: int | None,
    begun: dict[str, str],
) -> list[Logs]:
    """`train_autoencoder` of a model that has the autoencoder in it; `begun` says what it begins with."""
    rows = images if isinstance(images, ImageRows) else ImageRows(images, n_px)
    autoencoder.check_images((None, *rows.size, 3))
    held: Validation | None = None
    config = autoencoder.config
    identity = {**config.to_dict(), "n_images": len(rows), "data": rows.fingerprint, "validation": None, **begun}
    if validation is not None:
        checked = ImageRows(validation)
        autoencoder.check_images((None, *checked.size, 3))
        inputs = to_inputs(checked[:])
        held = inputs, inputs, np.ones(len(inputs), "float32")
        identity["validation"] = checked.fingerprint
    map_shape = (*config.map_size(*rows.size), config.latent_channel)

    def prepare(examples: Examples) -> tuple[Any, np.ndarray]:
        batch = to_inputs(rows[examples.rows])
        # Of each example and epoch alone, whatever batch and process it is in.
        places = zip(examples.epochs, examples.rows, strict=True)
        generators = [generators_of(settings.seed, int(epoch), [row])[0] for epoch, row in places]
        if settings.flip:
            flipped = [generator.integers(2) == 1 for generator in generators]
            batch[flipped] = batch[flipped, :, ::-1]
        if not settings.noise:
            return batch, batch
        levels = [np.float32(settings.noise * generator.random()) for generator in generators]
        noise = [
            level * one.standard_normal(map_shape, np.float32) for level, one in zip(levels, generators, strict=True)
        ]
        return {"images": batch, "noise": np.stack(noise)}, batch

    def batches(first: int, share: Share) -> TrainingBatches:
        order = ExampleOrder(len(rows), settings.micro_batch_size, settings.seed, share)
        return TrainingBatches(order, prepare, first)

    loss = PixelLoss(settings.loss)
    run = Run(model, settings, len(rows), batches, loss, identity, held, quality_metrics)
    return run.train(folder, callbacks)
