"""All variables of a training run in one file: the model's weights and the optimiser's state."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

import keras
import numpy as np

from igpt_tf.backend.processes import assign_from_first_process
from igpt_tf.errors import UserError
from igpt_tf.storage.tensors import Tensor


class DamagedError(UserError):
    """A checkpoint file that is missing, truncated or of another model."""


class NotFiniteError(UserError):
    """A loss or a weight that became NaN or infinite."""


def run_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The compiled model's weights and its optimiser's variables, under names that are the same in every process."""
    # Keras numbers the models of a process in the first part of the path.
    weights = {f"model/{variable.path.partition('/')[2]}": variable for variable in model.weights}
    if len(weights) < len(model.weights):
        # A model that Keras does not put its name before, such as a Sequential one.
        weights = {f"model/{variable.path}": variable for variable in model.weights}
    state = {f"optimizer/{i}": variable for i, variable in enumerate(model.optimizer.variables)}
    return {**weights, **state}


def copy_state(model: keras.Model) -> list[Tensor]:
    """Copies of all variables as they are now, for `write_tensors` to write while training continues."""
    return [
        (
            name,
            keras.backend.standardize_dtype(variable.dtype),
            tuple(int(n) for n in variable.shape),
            partial(np.asarray, np.array(keras.ops.convert_to_numpy(variable))),
        )
        for name, variable in run_variables(model).items()
    ]


def check_state(path: Path, model: keras.Model, size: int) -> None:
    """Check that a file has the size that was recorded, and the variables of a model like this one.

    Raises:
        DamagedError: if it is missing, truncated or another model's.
    """
    from safetensors import SafetensorError, safe_open

    try:
        found = path.stat().st_size
        if found != size:
            raise DamagedError(f"{path}: expected {size} bytes, got {found}")
        with safe_open(path, framework="numpy") as arrays:
            shapes = {name: tuple(arrays.get_slice(name).get_shape()) for name in arrays.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DamagedError(f"{path}: expected this run's weights, got {' '.join(str(error).split())}") from error
    if shapes != {name: tuple(variable.shape) for name, variable in run_variables(model).items()}:
        raise DamagedError(f"{path}: expected the variables of this run's model, got those of another")


def load_state(path: Path | None, model: keras.Model) -> None:
    """Load a checked file; of several processes the first one reads it, and the others pass None."""
    from safetensors import safe_open

    with contextlib.nullcontext() if path is None else safe_open(path, framework="numpy") as arrays:
        for name, variable in run_variables(model).items():
            assign_from_first_process(variable, None if arrays is None else arrays.get_tensor(name))


def require_finite(model: keras.Model, step: int) -> None:
    """Refuse weights and optimiser states that hold NaN or infinity.

    Raises:
        NotFiniteError: if there are any.
    """
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        if "float" in variable.dtype and not bool(keras.ops.all(keras.ops.isfinite(variable))):
            raise NotFiniteError(f"{variable.path} became NaN or infinite by step {step}")
