"""Splitting a model that is too large for one device between several; only on JAX."""

from __future__ import annotations

import contextlib

import keras

from igpt_tf.backend import backend_name, on_jax
from igpt_tf.backend.devices import distribution_scope
from igpt_tf.errors import UsageError

BATCH, MODEL = "batch", "model"

# Attention is split by heads and the MLP by its hidden units, so that a block needs one sum over the devices after
# each of its two halves (Shoeybi et al., 2019). All else is small, and whole on every device.
SHARDED = {
    r".*/attn/[qkvc]_proj/kernel": (MODEL, None, None),
    r".*/mlp/c_fc/kernel": (None, MODEL),
    r".*/mlp/c_proj/kernel": (MODEL, None),
}


def layout_map(devices: list[str], n_parts: int) -> keras.distribution.LayoutMap:
    """Where each variable of an `ImageGPT` lies when every copy of the model is split into `n_parts`.

    Args:
        devices: names as `keras.distribution.list_devices` gives them; copies take neighbours.
        n_parts: devices per copy; divides the number of devices and the number of heads.

    Raises:
        UsageError: if it does not divide the number of devices.
    """
    if n_parts < 1 or len(devices) % n_parts:
        raise UsageError(f"expected a number of parts that divides the {len(devices)} devices, got {n_parts}")
    mesh = keras.distribution.DeviceMesh((len(devices) // n_parts, n_parts), (BATCH, MODEL), devices)
    layout = keras.distribution.LayoutMap(mesh)
    for path, axes in SHARDED.items():
        layout[path] = keras.distribution.TensorLayout(axes, mesh)
    return layout


def model_parallel_scope(devices: list[str], n_parts: int, n_head: int) -> contextlib.AbstractContextManager:
    """Create a model in this scope to have each copy of it split between `n_parts` devices, and batches between copies.

    Args:
        devices: names as `keras.distribution.list_devices` gives them; copies take neighbours.
        n_parts: devices per copy; divides the number of devices and of heads.
        n_head: attention heads of the model.

    Raises:
        UsageError: on another backend than JAX, or if `n_parts` does not divide the devices or the heads.
    """
    if not on_jax():
        raise UsageError(
            f"expected the JAX backend to split a model between devices, got {backend_name()}: set KERAS_BACKEND=jax",
            "backend",
        )
    if n_head % n_parts:
        raise UsageError(f"expected a number of parts that divides the model's {n_head} heads, got {n_parts}")
    layout = layout_map(devices, n_parts)
    return distribution_scope(keras.distribution.ModelParallel(layout_map=layout, auto_shard_dataset=False))
