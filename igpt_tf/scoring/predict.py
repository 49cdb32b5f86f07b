"""Predicting in full batches that every device has an equal part of."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from igpt_tf.backend.devices import count_devices, jit_compile
from igpt_tf.errors import whole_number
from igpt_tf.progress import ProgressBar


def compiled(wrapper: keras.Model) -> keras.Model:
    """The wrapper, compiled for `predict`."""
    wrapper.compile(jit_compile=jit_compile())
    return wrapper


class _Counting(keras.callbacks.Callback):
    """Counts predicted images on a bar."""

    def __init__(self, bar: ProgressBar, batch_size: int) -> None:
        super().__init__()
        self._bar = bar
        self._batch_size = batch_size

    def on_predict_batch_end(self, batch, logs=None) -> None:
        """Count a batch."""
        self._bar.update(min(self._batch_size, self._bar.total - self._bar.n))


def predict_padded(wrapper: keras.Model, inputs: dict[str, np.ndarray], batch_size: int, progress: bool = False) -> Any:
    """Keras' `predict` with full batches only: a device that gets an empty part would fail.

    Args:
        wrapper: a compiled model of `inputs`.
        inputs: tokens (N, T) and perhaps masks, or other arrays of N rows.
        batch_size: images per batch; a multiple of the number of devices.
        progress: show a progress bar on standard error.
    """
    n_images = len(next(iter(inputs.values())))
    padding = -n_images % batch_size
    padded = {name: np.concatenate([array, array[:1].repeat(padding, 0)]) for name, array in inputs.items()}
    given = padded if len(padded) > 1 else next(iter(padded.values()))
    with ProgressBar(total=n_images, unit="image", first="compiling", desc="predicting", shown=progress) as bar:
        callbacks = [] if bar.disable else [_Counting(bar, batch_size)]
        outputs = wrapper.predict(
            given,  # pyright: ignore[reportArgumentType]
            batch_size=batch_size,
            verbose=0,  # pyright: ignore[reportArgumentType]
            callbacks=callbacks,
        )
    return keras.tree.map_structure(lambda array: array[:n_images], outputs)


def whole_batch(model: keras.Model, batch_size: int, n_images: int) -> int:
    """A batch size, no larger than needed, that the devices divide."""
    n_devices = count_devices(model)
    return -(-min(whole_number("batch_size", batch_size, 1), n_images) // n_devices) * n_devices
