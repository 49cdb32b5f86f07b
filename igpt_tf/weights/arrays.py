"""Folders of a .json of fields and `model.safetensors`, which every preset is."""

# safetensors declares too few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.storage.digests import Digest
from igpt_tf.storage.files import atomic_write
from igpt_tf.storage.tensors import Tensor, write_tensors

CONFIG_FILE = "config.json"
# Of a cascade, whose parts are presets in folders of it.
CASCADE_FILE = "cascade.json"
WEIGHTS_FILE = "model.safetensors"
# What NumPy can read of the formats of floats in safetensors.
FLOATS = ("F16", "F32", "F64")
# The dtypes in which weights are written.
WRITTEN = ("float32", "float16")


def write_arrays(
    folder: str | Path,
    fields: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    dtype: str = "float32",
    config_file: str = CONFIG_FILE,
) -> None:
    """Write `model.safetensors` and the .json of the fields, each whole or not at all.

    Args:
        folder: created if needed.
        fields: what JSON can hold.
        arrays: float32.
        dtype: of the arrays in the file, "float32" or "float16".
        config_file: name of the .json.

    Raises:
        UserError: if a number is too large for the dtype, or the folder cannot be written.
        ValueError: if the dtype is another one.
    """
    if dtype not in WRITTEN:
        raise ValueError(f"expected {' or '.join(WRITTEN)} for the weights in the file, got {dtype!r}")
    largest = np.finfo(dtype).max
    tensors: list[Tensor] = []
    # The arrays may lie on disk: none is kept.
    for name in arrays:
        array = arrays[name]
        if (found := np.abs(array).max()) > largest:
            raise UserError(f"expected weights up to {largest:g}, as {dtype} holds them, got {found:g} in {name}")
        tensors.append((name, dtype, array.shape, partial(_cast, arrays, name, dtype)))
    folder = Path(folder).expanduser()
    write_tensors(folder / WEIGHTS_FILE, tensors)
    with atomic_write(folder / config_file) as file:
        file.write((json.dumps(fields, indent=2) + "\n").encode())


def _cast(arrays: Mapping[str, np.ndarray], name: str, dtype: str) -> np.ndarray:
    return np.asarray(arrays[name], dtype)


def read_fields(path: Path, what: str) -> dict[str, Any]:
    """The fields of a .json that `write_arrays` wrote.

    Args:
        path: the file.
        what: it holds, for the message of the error.

    Raises:
        UserError: if it is missing or something else.
    """
    wanted = f"{path}: expected a JSON object with {what}"
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{wanted}, got nothing: copy it again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{wanted}, got another kind of file ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{wanted}, got {type(found).__name__}")
    return cast("dict[str, Any]", found)


def open_arrays(path: Path) -> Any:
    """The arrays of a safetensors file, as its library opens them.

    Raises:
        UserError: if it is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError as error:
        raise UserError(f"{path}: expected the preset's weights, got nothing: copy them again") from error
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: expected whole weights, got truncated or damaged ones ({error}): copy them again"
        ) from error


def read_arrays(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a folder that `write_arrays` wrote, float32.

    Args:
        folder: the folder.
        shapes: name to shape of what must be there, and nothing else.

    Raises:
        UserError: if the file is missing, damaged or holds others.
    """
    path = folder / WEIGHTS_FILE
    with open_arrays(path) as arrays:
        slices = {name: arrays.get_slice(name) for name in arrays.keys()}  # noqa: SIM118
        found = {name: tuple(one.get_shape()) for name, one in slices.items() if one.get_dtype() in FLOATS}
        if found != dict(shapes):
            names = sorted(name for name in {*slices, *shapes} if found.get(name) != shapes.get(name))
            name = names[0]
            raise UserError(
                f"{path}: expected {name} {shapes.get(name, 'left out')}, got {found.get(name, 'no floats')}: "
                "copy both files again from the same preset"
            )
        return {name: np.asarray(arrays.get_tensor(name), np.float32) for name in shapes}


def rounded_digest(fields: str, arrays: Mapping[str, np.ndarray]) -> str:
    """What tells arrays from others, but not from their copies in float16.

    Args:
        fields: what else the digest is of.
        arrays: float32.
    """
    whole = Digest()
    whole.add(fields)
    for name, array in arrays.items():
        whole.add(name)
        with np.errstate(over="ignore"):
            whole.add(np.asarray(array, "<f2"))
    return str(whole)
