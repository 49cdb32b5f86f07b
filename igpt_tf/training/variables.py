"""All variables of a training run in one file: the model's weights and the optimiser's state."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from igpt_tf.backend.processes import assign_from_first_process
from igpt_tf.errors import UserError
from igpt_tf.storage.files import atomic_write

# Names that safetensors has for what variables hold.
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "int64": "I64", "uint32": "U32"}
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "I64": 8, "U32": 4}


class DamagedError(UserError):
    """A file of a run that is missing, cut short or changed."""


class NotFiniteError(UserError):
    """A loss or a weight that is not a number any more."""


def named_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The compiled model's weights and its optimiser's variables, under names that are the same in every process."""
    # Keras numbers the models of a process in the first part of the path.
    weights = {f"model/{variable.path.partition('/')[2]}": variable for variable in model.weights}
    state = {f"optimizer/{i}": variable for i, variable in enumerate(model.optimizer.variables)}
    return {**weights, **state}


def save_variables(path: Path, model: keras.Model) -> tuple[int, int]:
    """Write a safetensors file, whole or not at all; its length in bytes and its CRC-32.

    One variable is in memory at a time, where the library would want a copy of all.

    Raises:
        UserError: if the file cannot be written.
    """
    variables = named_variables(model)
    size, checksum = 0, 0
    with atomic_write(path) as file:
        for piece in _pieces(variables):
            file.write(piece)
            size += len(piece)
            checksum = zlib.crc32(piece, checksum)
    return size, checksum


def _pieces(variables: dict[str, keras.Variable]) -> Iterator[bytes]:
    header, end = {}, 0
    for name, variable in variables.items():
        dtype = _DTYPES[keras.backend.standardize_dtype(variable.dtype)]
        start, end = end, end + _ITEM_BYTES[dtype] * int(np.prod(variable.shape))
        header[name] = {"dtype": dtype, "shape": [int(n) for n in variable.shape], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for variable in variables.values():
        yield np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes()


def check_variables(path: Path, model: keras.Model, size: int, checksum: int) -> None:
    """See that a file is what `save_variables` wrote, of that length and checksum, for a model like this one.

    Raises:
        DamagedError: if the file is missing, damaged or another model's.
    """
    from safetensors import SafetensorError, safe_open

    try:
        found = measure(path)
        if found != (size, checksum):
            raise DamagedError(
                f"{path}: expected {size} bytes with the checksum {checksum:08x}, found {found[0]} with {found[1]:08x}"
            )
        with safe_open(path, framework="numpy") as arrays:
            shapes = {name: tuple(arrays.get_slice(name).get_shape()) for name in arrays.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DamagedError(f"{path}: expected this run's weights, found {one_line(error)}") from error
    if shapes != {name: tuple(variable.shape) for name, variable in named_variables(model).items()}:
        raise DamagedError(f"{path}: expected the variables of this run's model, found those of another")


def load_variables(path: Path | None, model: keras.Model) -> None:
    """Load a file that `check_variables` has seen; of several processes the first reads, and the others pass None."""
    from safetensors import safe_open

    with contextlib.nullcontext() if path is None else safe_open(path, framework="numpy") as arrays:
        for name, variable in named_variables(model).items():
            assign_from_first_process(variable, None if arrays is None else arrays.get_tensor(name))


def measure(path: Path) -> tuple[int, int]:
    """A file's length in bytes and its CRC-32."""
    size, checksum = 0, 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            checksum = zlib.crc32(chunk, checksum)
            size += len(chunk)
    return size, checksum


def require_finite(model: keras.Model, step: int) -> None:
    """Refuse weights and optimiser states that hold NaN or infinity.

    Raises:
        NotFiniteError: if there are any.
    """
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        if "float" in variable.dtype and not bool(keras.ops.all(keras.ops.isfinite(variable))):
            raise NotFiniteError(f"{variable.path} became NaN or infinite by step {step}")


def one_line(error: Exception) -> str:
    """An error's message without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
