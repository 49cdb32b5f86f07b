"""Preset folders, our own format: `config.json`, `model.safetensors` under OpenAI's names and `palette.npy`."""

# safetensors declares too few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError, naming
from igpt_tf.pictures.palette import Palette
from igpt_tf.weights.arrays import CONFIG_FILE, FLOATS, WEIGHTS_FILE, open_arrays, read_fields, write_arrays
from igpt_tf.weights.names import HEAD, infer_config, is_weight

PALETTE_FILE = "palette.npy"


class PresetFolder:
    """A preset's arrays under OpenAI's names without `model/`, read one at a time.

    Args:
        folder: a folder that `write_preset` wrote.

    Attributes:
        folder: the same.
        config: the model's shape.
        n_class: classes of the head, None where there is none.
        classes: their names, None where they have none.
        start_classes: names of the classes of the start embeddings, None where they have none.
        shapes: name to shape.

    Raises:
        UserError: if a file is missing or damaged, or the two contradict each other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.n_class, self.classes, self.start_classes = _read_config(folder / CONFIG_FILE)
        self.shapes = self._read_shapes()
        self._check_config()

    def read(self, name: str) -> np.ndarray:
        """The array of a name in `shapes`."""
        # The file is mapped while it is open: opened anew, it counts as memory for no more than one array.
        with open_arrays(self.folder / WEIGHTS_FILE) as arrays:
            return arrays.get_tensor(name)

    def _read_shapes(self) -> dict[str, tuple[int, ...]]:
        with open_arrays(self.folder / WEIGHTS_FILE) as arrays:
            slices = {name: arrays.get_slice(name) for name in arrays.keys()}  # noqa: SIM118
        for name, found in slices.items():
            if is_weight(name) and (dtype := found.get_dtype()) not in FLOATS:
                wanted = f"{self.folder / WEIGHTS_FILE}: expected {', '.join(FLOATS)} weights"
                raise UserError(f"{wanted}, got {dtype} in {name}")
        return {name: tuple(found.get_shape()) for name, found in slices.items()}

    def _check_config(self) -> None:
        """Hold `config.json` against the weights."""
        with naming(self.folder / WEIGHTS_FILE):
            found: dict[str, int | None] = dataclasses.asdict(infer_config(self.shapes))
        expected: dict[str, int | None] = dataclasses.asdict(self.config)
        if self.n_class is not None or HEAD in self.shapes:
            expected["n_class"] = self.n_class
            found["n_class"] = next(iter(self.shapes.get(HEAD, ())), None)
        wrong = [name for name in expected if expected[name] != found[name]]
        if wrong:
            raise UserError(
                f"{self.folder}: expected {_listed(expected, wrong)} as {CONFIG_FILE} says, "
                f"got {_listed(found, wrong)} in {WEIGHTS_FILE}: copy both files again from the same preset"
            )


def is_folder(path: Path) -> bool:
    """Whether a path is a preset folder, even an incomplete one, and not a checkpoint's folder with a config in it."""
    if (path / WEIGHTS_FILE).is_file():
        return True
    return (path / CONFIG_FILE).is_file() and not any(path.glob("[!.]*.index"))


def write_preset(
    folder: str | Path,
    fields: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
    palette: Palette | None = None,
    dtype: str = "float32",
) -> None:
    """Write a preset folder, each file whole or not at all.

    Args:
        folder: created if needed; a preset in it is replaced, its palette too.
        fields: what `config.json` holds: the fields of an `ImageGPTConfig`, `n_class`, `classes`, `start_classes`.
        arrays: float32 weights under OpenAI's names without `model/`.
        palette: of `n_vocab` colours; without it the preset turns no pictures into tokens.
        dtype: of the weights in the file, "float32" or "float16".

    Raises:
        UserError: if the palette is of another size, a weight is too large for the dtype, or the folder cannot be
            written.
        ValueError: if the dtype is another one.
    """
    if palette is not None and len(palette) != fields["n_vocab"]:
        raise UserError(f"expected a palette of {fields['n_vocab']} colours, got {len(palette)}")
    folder = Path(folder).expanduser()
    write_arrays(folder, fields, arrays, dtype)
    if palette is None:
        # That of the preset that was here belongs to other weights.
        (folder / PALETTE_FILE).unlink(missing_ok=True)
    else:
        palette.save(folder / PALETTE_FILE)


Names = tuple[str, ...] | None


def _read_config(path: Path) -> tuple[ImageGPTConfig, int | None, Names, Names]:
    return parse_fields(path, read_fields(path, "the model's shape"))


def parse_fields(path: Path, fields: dict[str, Any]) -> tuple[ImageGPTConfig, int | None, Names, Names]:
    """The model's shape, the head's number and names of classes, and those of the start embeddings.

    Args:
        path: the file with the fields, for messages.
        fields: what `write_preset` was given.

    Raises:
        UserError: if a field is unknown or wrong.
    """
    fields = dict(fields)
    if "kind" in fields:
        raise UserError(f"{path.parent}: expected an Image GPT, got a {fields['kind']}")
    n_class = fields.pop("n_class", None)
    if n_class is not None and (type(n_class) is not int or n_class < 2):
        raise UserError(f"{path}: expected n_class as an integer from 2 on, got {n_class!r}")
    classes = fields.pop("classes", None)
    start_classes = fields.pop("start_classes", None)
    with naming(path):
        config = ImageGPTConfig.from_dict(fields)
        names = _names("classes", classes, n_class, "as many as n_class")
        return config, n_class, names, _names("start_classes", start_classes, config.n_start - 1, "n_start - 1")


def _names(field: str, names: Any, n: int | None, reason: str) -> Names:
    """The names of n classes; None where there are none."""
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != n:
        raise UserError(f"expected {field} as a list of {n} names, {reason}, got {names!r}")
    return tuple(names)


def _listed(fields: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {json.dumps(fields[name])}" for name in names)
