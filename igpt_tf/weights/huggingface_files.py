"""The tensors of Hugging Face's folders: safetensors, or torch's `pytorch_model.bin`; and the hub that has them."""

# safetensors, torch and huggingface_hub declare too few types.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.weights.arrays import FLOATS, WEIGHTS_FILE, open_arrays, read_fields
from igpt_tf.weights.names import Shape

TORCH_FILE = "pytorch_model.bin"
# Causal masks in files of old versions.
_BUFFERS = re.compile(r".*\.attn\.(masked_)?bias")

# A tensor's shape, and what reads it as float32.
Tensor = tuple[Shape, Callable[[], np.ndarray]]


def open_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors under the names of a model with a head, without the buffers of old versions.

    Raises:
        UserError: if a file is missing or damaged, or torch is needed and missing.
    """
    found: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        for name, tensor in (_open_torch if path.suffix == ".bin" else _open_safetensors)(path).items():
            if not _BUFFERS.fullmatch(name):
                inside = name.startswith(("transformer.", "lm_head.", "score."))
                found[name if inside else f"transformer.{name}"] = tensor
    return found


def _weight_files(folder: Path) -> list[Path]:
    for name in (WEIGHTS_FILE, TORCH_FILE):
        if (folder / name).is_file():
            return [folder / name]
        if (index := folder / f"{name}.index.json").is_file():
            places = read_fields(index, "the files of the weights").get("weight_map")
            if not isinstance(places, dict):
                raise UserError(f"{index}: expected a weight_map, got none: copy it again")
            return [folder / Path(str(file)).name for file in sorted(set(places.values()))]
    raise UserError(f"{folder}: expected weights ({WEIGHTS_FILE} or {TORCH_FILE}), got none: copy them again")


def _open_safetensors(path: Path) -> dict[str, Tensor]:
    def read(name: str) -> np.ndarray:
        with open_arrays(path) as arrays:
            return np.asarray(arrays.get_tensor(name), "float32")

    with open_arrays(path) as arrays:
        slices = {name: arrays.get_slice(name) for name in arrays.keys()}  # noqa: SIM118
    for name, one in slices.items():
        if one.get_dtype() not in FLOATS and not _BUFFERS.fullmatch(name):
            raise UserError(f"{path}: expected {', '.join(FLOATS)} weights, got {one.get_dtype()} in {name}")
    return {name: (tuple(one.get_shape()), partial(read, name)) for name, one in slices.items()}


def _open_torch(path: Path) -> dict[str, Tensor]:
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{path}: expected torch, whose format it has, got none: pip install torch") from error
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # of torch before 1.6, which cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
        return {name: (tuple(one.shape), partial(_float_array, one)) for name, one in found.items()}
    except Exception as error:  # torch raises whatever its parsers do
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise UserError(
            f"{path}: expected weights of torch, got another or a damaged file ({reason}): copy it again"
        ) from error


def _float_array(tensor: Any) -> np.ndarray:
    return tensor.float().numpy()


def fetch_hub(name: str) -> Path:
    """The folder of a model of the Hugging Face hub, which is downloaded on first use.

    Args:
        name: such as "openai/imagegpt-small".

    Raises:
        UserError: if it cannot be downloaded, or the package that does so is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"{name}: expected a folder or a checkpoint, got nothing there: to take it as a model of the Hugging Face "
            "hub, pip install huggingface_hub"
        ) from error
    try:
        for pattern in ("*.safetensors*", "*.bin*"):
            folder = Path(snapshot_download(name, allow_patterns=["*config.json", pattern]))
            if any(folder.glob(pattern)):
                break
    except Exception as error:  # whatever it raises, of four libraries below it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: expected a folder, a checkpoint or a model of the Hugging Face hub, got none ({reason}): check "
            "the name and the network"
        ) from error
    return folder
