"""Functions compiled by XLA that run on one device's copy of a model."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from igpt_tf.backend import on_jax, on_tensorflow, on_torch
from igpt_tf.backend.devices import count_devices
from igpt_tf.errors import UserError

# Threads that draw with one model make its programs once. Making one thing may need another.
_MAKING = threading.RLock()


class Snapshot:
    """The values that variables had, shared and not copied; equal to a later one only if none has changed since.

    JAX's arrays never change. TensorFlow gives a variable new memory when it changes while a snapshot holds the old:
    the same address means the same value. What it copies whenever it is read is compared value by value.

    Args:
        values: one array per variable.
    """

    def __init__(self, values: list) -> None:
        self.values = values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot) or len(self.values) != len(other.values):
            return False
        return all(_unchanged(*pair) for pair in zip(self.values, other.values, strict=True))

    __hash__ = None  # type: ignore[assignment]


class Replica:
    """The copy of a model on one of its devices, and the functions that XLA compiles to run there.

    Weights go into a compiled function as arguments: JAX would bake them into the program as constants, and
    TensorFlow cannot reach variables of another device than the first from XLA's code.

    Args:
        model: the model whose variables the functions read.
        number: of the device, from 0.

    Raises:
        UserError: if the model is split between its devices, or Keras runs on torch.
    """

    def __init__(self, model: keras.Model, number: int) -> None:
        if on_torch():
            raise UserError("expected TensorFlow or JAX to draw, got torch: set KERAS_BACKEND=jax")
        if on_jax() and not all(variable.value.is_fully_replicated for variable in model.variables):
            raise UserError(
                "expected a model that is whole on each device, got one split between several: save it and load it "
                "without model parallelism to draw from it"
            )
        self.model = model
        self.number = number

    def compile(self, function: Callable) -> Callable:
        """`function` of arrays, compiled once per shape."""
        if on_tensorflow():
            import tensorflow as tf

            compiled = tf.function(function, jit_compile=True, autograph=False)
        else:
            import jax

            compiled = jax.jit(function)

        def run(*args):
            with self._scope():
                return compiled(*args)

        return run

    def compile_with_variables(self, function: Callable) -> Callable:
        """`function` of arrays and of the model's variables as they are at each call, compiled once per shape."""

        def stateless(values, *args):
            # Traced anew where LoRA or quantisation have added variables.
            with keras.StatelessScope(state_mapping=zip(self.model.variables, values, strict=True)):
                return function(*args)

        compiled = self.compile(stateless)
        return lambda *args: compiled([self._here(variable.value) for variable in self.model.variables], *args)

    def snapshot(self) -> Snapshot:
        """The model's variables as they are on this device."""
        values = [variable.value for variable in self.model.variables]
        return Snapshot([self._here(value) for value in values] if on_tensorflow() else values)

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


def _unchanged(before: Any, after: Any) -> bool:
    """Whether a variable certainly has the value that it had."""
    if before is after or not on_tensorflow():
        return before is after
    import tensorflow as tf

    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    return _address(before) == _address(after) or bool(tf.reduce_all(tf.equal(before, after)))


def _address(tensor: Any) -> int:
    """Where a TensorFlow tensor lies in its device's memory."""
    import tensorflow as tf

    capsule = tf.experimental.dlpack.to_dlpack(tensor)
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    # The first field of DLPack's structure is the address of the data.
    return ctypes.c_void_p.from_address(get_pointer(capsule, b"dltensor")).value or 0


def kept_with(model: keras.Model, name: str, make: Callable[[], Any]) -> Any:
    """Something made for a model, such as a compiled program: made once and kept as long as the model lives.

    It is made again when LoRA or quantisation has added variables.
    """
    # In the instance's dictionary, where Keras does not look for layers.
    kept, key = model.__dict__, len(model.variables)
    with _MAKING:
        if name not in kept or kept[name][0] != key:
            kept[name] = key, make()
        return kept[name][1]
