"""The devices of a backend, and the scopes that put models on them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import keras

from igpt_tf.backend import on_jax, on_tensorflow, on_torch
from igpt_tf.backend.processes import process_share
from igpt_tf.errors import UsageError


def list_gpus() -> list[str]:
    """Names of the GPUs that the backend sees, as its own functions take them; none on torch, which chooses itself."""
    if on_tensorflow():
        import tensorflow as tf

        return [device.name for device in tf.config.list_logical_devices("GPU")]
    try:
        return keras.distribution.list_devices("gpu") if on_jax() else []
    except RuntimeError:  # JAX raises where TensorFlow has an empty list
        return []


def list_cpus() -> list[str]:
    """Names of the CPU devices: one, unless it was split into several."""
    if on_tensorflow():
        import tensorflow as tf

        return [device.name for device in tf.config.list_logical_devices("CPU")]
    return keras.distribution.list_devices("cpu") if on_jax() else ["cpu:0"]


# Any, because the type that Keras infers for its argument is text alone.
def jit_compile() -> Any:
    """Keras' `jit_compile` for training and evaluation: off on TensorFlow's CPUs, where XLA uses one core only."""
    return False if on_tensorflow() and not list_gpus() else "auto"


def computes_bfloat16() -> bool:
    """Whether the backend computes on processors that have instructions for bfloat16, and uses them.

    Only TensorFlow does, without GPUs; JAX computes in float32 on a processor whatever the policy.
    """
    if not on_tensorflow() or list_gpus():
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def fuses_attention(dtype: Any) -> bool:
    """Whether `keras.ops.dot_product_attention` is one fused kernel, which never stores the weights of attention.

    It is on JAX with NVIDIA's GPUs from Ampere on (2020), in half precision.
    """
    if not on_jax() or keras.backend.standardize_dtype(dtype) not in ("bfloat16", "float16") or not list_gpus():
        return False
    import jax

    # AMD's have names in its place.
    capability = getattr(jax.devices()[0], "compute_capability", "")
    return capability.replace(".", "").isdigit() and float(capability) >= 8.0


def limit_threads(n_threads: int) -> None:
    """Compute on this many processor cores; call it before anything is computed."""
    if on_tensorflow():
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(n_threads)
        tf.config.threading.set_inter_op_parallelism_threads(n_threads)
    else:
        # Read by JAX when it starts its threads.
        os.environ["NPROC"] = str(n_threads)


def choose_devices(n_gpu: int | None) -> list[str]:
    """This many GPUs, all of them for None, and the CPU where there is no GPU.

    Several processes use the devices of all of them, GPUs or not.

    Raises:
        UsageError: if there are fewer devices than asked for.
    """
    gpus, cpus = list_gpus(), list_cpus()
    if n_gpu is None:
        return gpus or (cpus if process_share().n_processes > 1 else cpus[:1])
    devices = gpus or cpus
    # One is always to be had: a machine without GPUs runs on its CPU, as the README says.
    if not 1 <= n_gpu <= len(devices):
        kind = "GPUs" if gpus else "CPU devices and no GPU"
        raise UsageError(f"expected 1 to {len(devices)}, as there are {len(devices)} {kind}, got {n_gpu}", "n_gpu")
    return devices[:n_gpu]


@contextlib.contextmanager
def device_scope(devices: list[str]) -> Iterator[None]:
    """Create models in this scope to have them on all of `devices`, each batch split between them.

    `tf.distribute.MirroredStrategy` on TensorFlow, `keras.distribution.DataParallel` on JAX.
    """
    if len(devices) == 1:
        yield
    elif on_tensorflow():
        import tensorflow as tf

        # Without GPUs the default are collectives, and those of two strategies in one process get mixed up.
        reduction = None if list_gpus() else tf.distribute.ReductionToOneDevice()
        with tf.distribute.MirroredStrategy(devices, reduction).scope():
            yield
    else:
        # Every process reads its own share of the data, so there is nothing left to shard.
        with distribution_scope(keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)):
            yield


@contextlib.contextmanager
def distribution_scope(
    distribution: keras.distribution.DataParallel | keras.distribution.ModelParallel,
) -> Iterator[None]:
    """Create models in this scope to have them distributed in Keras' own way, which JAX understands."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(distribution)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def scope_of(model: keras.Model) -> contextlib.AbstractContextManager:
    """The scope of the devices that `model` is on, in which to wrap, compile and run it."""
    if on_tensorflow():
        return model.distribute_strategy.scope()
    if on_torch():
        return contextlib.nullcontext()
    import jax

    sharding = model.variables[0].value.sharding
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return contextlib.nullcontext()
    devices = cast("Any", sharding.mesh.devices)
    names = [f"{device.platform}:{device.id}" for device in devices.flat]
    mesh = keras.distribution.DeviceMesh(devices.shape, sharding.mesh.axis_names, names)
    if len(mesh.shape) == 1:
        return distribution_scope(keras.distribution.DataParallel(mesh, auto_shard_dataset=False))
    # Where each variable lies was decided when the model was made.
    layout = keras.distribution.LayoutMap(mesh)
    return distribution_scope(keras.distribution.ModelParallel(layout_map=layout, auto_shard_dataset=False))


def count_devices(model: keras.Model) -> int:
    """How many copies of the model this process has, each with its part of every batch."""
    if on_tensorflow():
        return model.distribute_strategy.num_replicas_in_sync
    if on_torch():
        return 1
    sharding = model.variables[0].value.sharding
    mesh = getattr(sharding, "mesh", None)
    # Copies along the first axis of a mesh, the devices that share one along the second.
    devices_a_copy = mesh.devices.shape[1] if mesh is not None and mesh.devices.ndim > 1 else 1
    return len(sharding.addressable_devices) // devices_a_copy
