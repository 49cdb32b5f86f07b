"""All that differs between TensorFlow and JAX: devices, compilation and arrays that are split over devices.

The only module, beside the reader of TensorFlow's checkpoints, that imports either.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from igpt_tf.errors import UsageError, UserError

# Bytes of a message from process to process, all of the same length because arrays are what can be sent.
LONGEST_LINE = 4096


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


def join_processes(coordinator: str, n_processes: int, process_id: int) -> None:
    """Make this process one of several, on one machine or many, that train one model together; waits for all.

    Call it before anything else touches a device. The processes then see each other's devices, of which
    `device_scope` takes them all.

    Args:
        coordinator: host and port of process 0, "HOST:PORT".
        n_processes: how many there are.
        process_id: which this one is, from 0.

    Raises:
        UsageError: on TensorFlow, or for an address or a number that means nothing.
        UserError: if the others cannot be reached.
    """
    if on_tensorflow():
        raise UsageError(
            "several processes train on JAX alone, as Keras' fit does not run under TensorFlow's "
            "MultiWorkerMirroredStrategy: give --backend jax"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"expected the coordinator as HOST:PORT, the address of process 0, found {coordinator!r}")
    if not 0 <= process_id < n_processes:
        raise UsageError(f"expected a process id from 0 to {n_processes - 1}, found {process_id}")
    try:
        keras.distribution.initialize(coordinator, n_processes, process_id)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"process {process_id} of {n_processes} could not join the others at {coordinator} ({reason}): start one "
            "process for every id from 0 on, with the same address, and see that the port is free and reachable"
        ) from error


def process_share() -> tuple[int, int]:
    """Which process this is, from 0, and how many train together."""
    if on_tensorflow():
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def from_first_process(message: Any) -> Any:
    """What process 0 passes, anything that JSON holds, in every process."""
    if process_share()[1] == 1:
        return message
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(message).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    return json.loads(multihost_utils.broadcast_one_to_all(np.resize(text, length)).tobytes())


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """A block that ends well in all processes or in none: with what one of them cannot do, all end.

    Raises:
        UserError: this process's own, or else that of the first that has one.
    """
    own = None
    try:
        yield
    except UserError as error:
        own = error
    problems = _from_all_processes("" if own is None else str(own))
    if own is not None:
        raise own
    for process, problem in enumerate(problems):
        if problem:
            raise UserError(f"process {process}: {problem}")


def _from_all_processes(text: str) -> list[str]:
    """A line of every process, in their order."""
    if process_share()[1] == 1:
        return [text]
    from jax.experimental import multihost_utils

    sent = np.frombuffer(text.encode()[:LONGEST_LINE].ljust(LONGEST_LINE, b"\0"), np.uint8)
    return [bytes(line).rstrip(b"\0").decode(errors="replace") for line in multihost_utils.process_allgather(sent)]


def assign_from_first_process(variable: keras.Variable, value: np.ndarray | None) -> None:
    """Give a variable, in every process, the value that process 0 passes; the others pass None."""
    if process_share()[1] > 1:
        from jax.experimental import multihost_utils

        value = np.zeros(variable.shape, variable.dtype) if value is None else value
        value = multihost_utils.broadcast_one_to_all(value)
    variable.assign(value)


def jit_compile() -> bool | str:
    """Keras' `jit_compile` for training and evaluation: not on TensorFlow's CPUs, where XLA keeps to one core."""
    return False if on_tensorflow() and not list_gpus() else "auto"


def choose_devices(n_gpu: int | None) -> list[str]:
    """The devices for `--n_gpu`: that many GPUs, all of them for None, and the CPU where there is no GPU.

    Several processes use the devices of all, whatever the kind.

    Raises:
        UsageError: if there are fewer devices than asked for.
    """
    gpus, cpus = list_gpus(), list_cpus()
    if n_gpu is None:
        return gpus or (cpus if process_share()[1] > 1 else cpus[:1])
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
        # Every process reads its own share of the data, so there is nothing left to shard.
        with distribution_scope(keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)):
            yield


@contextlib.contextmanager
def distribution_scope(distribution: keras.distribution.Distribution) -> Iterator[None]:
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
    import jax

    sharding = model.variables[0].value.sharding
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return contextlib.nullcontext()
    names = [f"{device.platform}:{device.id}" for device in sharding.mesh.devices.flat]
    mesh = keras.distribution.DeviceMesh(sharding.mesh.devices.shape, sharding.mesh.axis_names, names)
    if len(mesh.shape) == 1:
        return distribution_scope(keras.distribution.DataParallel(mesh, auto_shard_dataset=False))
    # Where each variable lies was decided when the model was made.
    layout = keras.distribution.LayoutMap(mesh)
    return distribution_scope(keras.distribution.ModelParallel(layout_map=layout, auto_shard_dataset=False))


def count_devices(model: keras.Model) -> int:
    """How many copies of the model this process has, each with its part of every batch."""
    if on_tensorflow():
        return model.distribute_strategy.num_replicas_in_sync
    sharding = model.variables[0].value.sharding
    mesh = getattr(sharding, "mesh", None)
    # Copies along the first axis of a mesh, the devices that share one along the second.
    devices_a_copy = mesh.devices.shape[1] if mesh is not None and mesh.devices.ndim > 1 else 1
    return len(sharding.addressable_devices) // devices_a_copy


class Replica:
    """The copy of a model on one of its devices, and the functions that XLA compiles to run there.

    Weights go into a compiled function as arguments: JAX would bake them into the program as constants, and
    TensorFlow cannot reach variables of another device than the first from XLA's code.

    Args:
        model: the model whose variables the functions read.
        number: of the device, from 0.

    Raises:
        UserError: if the model is split between its devices.
    """

    def __init__(self, model: keras.Model, number: int) -> None:
        if not on_tensorflow() and not all(variable.value.is_fully_replicated for variable in model.variables):
            raise UserError(
                "expected a model that is whole on each device, found one split between several: save it and load it "
                "without model parallelism to draw from it"
            )
        self.model = model
        self.number = number

    def compile(self, function: Callable) -> Callable:
        """`function` of arrays, compiled once a shape."""
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
        """Likewise, of arrays and of the model's variables as they are at each call."""
        variables = self.model.variables

        def stateless(values, *args):
            with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
                return function(*args)

        compiled = self.compile(stateless)
        return lambda *args: compiled([self._here(variable.value) for variable in variables], *args)

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
