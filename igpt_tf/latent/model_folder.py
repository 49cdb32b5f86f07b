"""The weights of a latent model in its folder, under names that do not depend on the model's own."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from igpt_tf.weights.arrays import read_arrays
from igpt_tf.weights.names import float_array


def arrays_of(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights, float32."""
    return {name: float_array(name, variable) for name, variable in _named(model).items()}


def assign_arrays(model: keras.Model, folder: Path) -> None:
    """Assign the weights of a folder; a `UserError` if they are missing, damaged or another model's."""
    variables = _named(model)
    arrays = read_arrays(folder, {name: tuple(variable.shape) for name, variable in variables.items()})
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _named(model: keras.Model) -> dict[str, keras.Variable]:
    return {variable.path.split(f"{model.name}/", 1)[-1]: variable for variable in model.variables}
