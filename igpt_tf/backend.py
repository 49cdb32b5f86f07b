"""All that differs between TensorFlow and JAX: devices, compilation and arrays that are split over devices.

The only module, beside the reader of TensorFlow's checkpoints, that imports either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from igpt_tf.errors import UsageError


def on_tensorflow() -> bool:
    """Whether Keras runs on TensorFlow."""
    return keras.backend.backend() == "tensorflow"


def list_gpus() -> list[str]:
    """Names of the GPUs that the backend sees, as the backend's own functions take them."""
    if on_tensorflow():
        import tensorflow as tf

        return [device.name for device in tf.config.list_logical_devices("GPU")]
    try:
        return keras.distribution.list_devices("gpu")
    except RuntimeError:  # what JAX says where TensorFlow has an empty list
        return []


def list_cpus() -> list[str]:
    """Likewise the CPU devices: one, unless it was split into several."""
    if on_tensorflow():
        import tensorflow as tf

        return [device.name for device in tf.config.list_logical_devices("CPU")]
    return keras.distribution.list_devices("cpu")


def jit_compile() -> bool | str:
    """Keras' `jit_compile` for training and evaluation: not on TensorFlow's CPUs, where XLA keeps to one core."""
    return False if on_tensorflow() and not list_gpus() else "auto"


def choose_devices(n_gpu: int | None) -> list[str]:
    """The devices for `--n_gpu`: that many GPUs, all of them for None, and the CPU where there is no GPU.

    Raises:
        UsageError: if there are fewer devices than asked for.
    """
    gpus, cpus = list_gpus(), list_cpus()
    if n_gpu is None:
        return gpus or cpus[:1]
    devices = gpus or cpus
    # One is always to be had: a machine without GPUs runs on its CPU, as the README says.
    if not 1 <= n_gpu <= len(devices):
        kind = "GPU" if gpus else "CPU device (there is no GPU)"
        raise UsageError(f"--n_gpu {n_gpu}: found {len(devices)} {kind}; give 1 to {len(devices)} or leave it out")
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
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)


def scope_of(model: keras.Model) -> contextlib.AbstractContextManager:
    """The scope of the devices that `model` is on, in which to wrap, compile and run it."""
    if on_tensorflow():
        return model.distribute_strategy.scope()
    devices = [shard.device for shard in model.variables[0].value.addressable_shards]
    return device_scope([f"{device.platform}:{device.id}" for device in devices])


def count_devices(model: keras.Model) -> int:
    """How many devices hold a copy of the model."""
    if on_tensorflow():
        return model.distribute_strategy.num_replicas_in_sync
    return len(model.variables[0].value.addressable_shards)


class Replica:
    """The copy of a model on one of its devices, and the functions that XLA compiles to run there.

    Weights go into a compiled function as arguments: JAX would bake them into the program as constants, and
    TensorFlow cannot reach variables of another device than the first from XLA's code.

    Args:
        model: the model whose variables the functions read.
        number: of the device, from 0.
    """

    def __init__(self, model: keras.Model, number: int) -> None:
        self.model = model
        self.number = number

    def compile(self, function: Callable) -> Callable:
        """`function` of arrays, over the model's variables as they are at each call, compiled once a shape."""
        variables = self.model.variables

        def stateless(values, *args):
            with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
                return function(*args)

        if on_tensorflow():
            import tensorflow as tf

            compiled = tf.function(stateless, jit_compile=True, autograph=False)
        else:
            import jax

            compiled = jax.jit(stateless)

        def run(*args):
            with self._scope():
                return compiled([self._here(variable.value) for variable in variables], *args)

        return run

    def put(self, array: np.ndarray) -> Any:
        """The array on this device."""
        if on_tensorflow():
            import tensorflow as tf

            with self._scope():
                return tf.constant(array)
        import jax

        device = self.model.variables[0].value.addressable_shards[self.number].device
        return jax.device_put(array, device)

    def _here(self, value: Any) -> Any:
        """This device's copy of a variable's value."""
        if on_tensorflow():
            import tensorflow as tf

            return tf.convert_to_tensor(self.model.distribute_strategy.experimental_local_results(value)[self.number])
        return value.addressable_shards[self.number].data

    def _scope(self) -> contextlib.AbstractContextManager:
        if not on_tensorflow() or count_devices(self.model) == 1:
            return contextlib.nullcontext()
        import tensorflow as tf

        return tf.device(self.model.distribute_strategy.extended.worker_devices[self.number])
