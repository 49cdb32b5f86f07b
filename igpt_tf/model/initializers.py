"""Initial weights: the original's normal distributions, or placeholders where weights are about to be loaded."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import keras

from igpt_tf.backend import on_torch

# In `placeholder_weights`, the array of every shape and dtype; None outside.
_placeholders: contextvars.ContextVar[dict | None] = contextvars.ContextVar("placeholders", default=None)


@keras.saving.register_keras_serializable(package="igpt_tf")
class InitialNormal(keras.initializers.RandomNormal):
    """Normal distribution of mean 0; within `placeholder_weights`, zeros."""

    def __call__(self, shape, dtype=None):
        """An array of a shape."""
        placeholders = _placeholders.get()
        if placeholders is None:
            return super().__call__(shape, dtype)
        if on_torch() or keras.distribution.distribution() is not None:
            # Torch writes into the array that a variable has. Split over devices, large weights come into being there,
            # each in a traced function of its own: nothing to share.
            return keras.ops.zeros(shape, dtype)
        key = tuple(shape), dtype
        if key not in placeholders:
            placeholders[key] = keras.ops.zeros(shape, dtype)
        return placeholders[key]


@contextlib.contextmanager
def placeholder_weights() -> Iterator[None]:
    """Create in this scope models whose every weight is assigned next.

    To draw their random numbers would take longer than to read the weights. And because weights of one shape share
    one array until they are assigned, the model takes no memory before, and leaves no holes in it.
    """
    token = _placeholders.set({})
    try:
        yield
    finally:
        _placeholders.reset(token)
