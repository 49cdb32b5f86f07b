"""Several processes that train one model together: joining them, and messages between them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from igpt_tf.backend import backend_name, on_jax, on_tensorflow
from igpt_tf.errors import UsageError, UserError, reason_of

# Bytes of a message between processes; all messages have this length, because only arrays can be sent.
LONGEST_LINE = 4096


def join_processes(coordinator: str, n_processes: int, process_id: int) -> None:
    """Make this process one of several that train one model together, and wait for all.

    Call it before anything else touches a device; the processes then see each other's devices.

    Args:
        coordinator: host and port of process 0, "HOST:PORT".
        n_processes: how many there are.
        process_id: which this one is, from 0.

    Raises:
        UsageError: on another backend than JAX, or for an invalid address or number.
        UserError: if the others cannot be reached.
    """
    if not on_jax():
        why = ", whose MultiWorkerMirroredStrategy does not run Keras' fit" if on_tensorflow() else ""
        raise UsageError(
            f"expected the JAX backend for several processes, got {backend_name()}{why}: set KERAS_BACKEND=jax",
            "backend",
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"expected the coordinator as HOST:PORT, the address of process 0, got {coordinator!r}")
    if not 0 <= process_id < n_processes:
        raise UsageError(f"expected a process id from 0 to {n_processes - 1}, got {process_id}")
    try:
        keras.distribution.initialize(coordinator, n_processes, process_id)
    except RuntimeError as error:
        reason = reason_of(error)
        raise UserError(
            f"process {process_id} of {n_processes} could not join the others at {coordinator} ({reason}): start one "
            "process for every id from 0 on, with the same address, and see that the port is free and reachable"
        ) from error


class Share(NamedTuple):
    """Which of the processes that train together this is, from 0, and how many there are."""

    process: int
    n_processes: int


def process_share() -> Share:
    """This process's share of the training."""
    if not on_jax():
        return Share(0, 1)
    import jax

    return Share(jax.process_index(), jax.process_count())


def from_first_process(message: Any) -> Any:
    """The message of process 0, anything that JSON can hold, in every process."""
    if process_share().n_processes == 1:
        return message
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(message).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    return json.loads(multihost_utils.broadcast_one_to_all(np.resize(text, length)).tobytes())


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Run the block on all processes; if it raises `UserError` on one, raise it on all.

    Raises:
        UserError: this process's own, or else that of the first process that has one.
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
    """The text of every process, in their order."""
    if process_share().n_processes == 1:
        return [text]
    from jax.experimental import multihost_utils

    sent = np.frombuffer(text.encode("utf-8", "backslashreplace")[:LONGEST_LINE].ljust(LONGEST_LINE, b"\0"), np.uint8)
    return [bytes(line).rstrip(b"\0").decode(errors="replace") for line in multihost_utils.process_allgather(sent)]


def assign_from_first_process(variable: keras.Variable, value: np.ndarray | None) -> None:
    """Assign the value that process 0 passes, in every process; the others pass None."""
    if process_share().n_processes > 1:
        from jax.experimental import multihost_utils

        value = np.zeros(variable.shape, variable.dtype) if value is None else value
        value = multihost_utils.broadcast_one_to_all(value)
    variable.assign(value)
