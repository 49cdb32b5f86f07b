"""From one format of weights to another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.weights.folder import write_preset
from igpt_tf.weights.huggingface import write_huggingface
from igpt_tf.weights.names import HEAD, Shape, shape_table
from igpt_tf.weights.openai import write_checkpoint
from igpt_tf.weights.presets import OFFICIAL_PALETTE, Preset, open_preset

TARGETS = ("preset", "huggingface", "openai")
# What the checkpoint of `--to openai` is called in its folder.
CHECKPOINT = "model.ckpt"


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of a preset, each read when it is asked for, under a config that may leave out start embeddings."""

    def __init__(self, preset: Preset, config: ImageGPTConfig) -> None:
        self._read = preset.read
        head: dict[str, Shape] = {} if preset.n_class is None else {HEAD: (preset.n_class, config.n_embd)}
        self.shapes = shape_table(config) | head

    def __getitem__(self, name: str) -> np.ndarray:
        array = np.asarray(self._read(name), "float32")
        return array if array.shape == self.shapes[name] else array[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def convert(
    preset: str | Path | Preset,
    folder: str | Path,
    to: str = "preset",
    n_shards: int = 1,
    drop_classes: bool = False,
) -> None:
    """Write the weights and the palette of a model in another format; no bit of them changes.

    Args:
        preset: a name or path as `open_preset` takes it, or what that returned.
        folder: a new or empty folder.
        to: "preset", our own; "huggingface", which `transformers` loads; "openai", which OpenAI's own code loads.
        n_shards: number of files with arrays, of OpenAI's format.
        drop_classes: leave out the start embeddings of classes, which only our own format has.

    Raises:
        UserError: if the model cannot be read, the format cannot hold it, or the folder is not empty or cannot be
            written.
    """
    if to not in TARGETS:
        raise UserError(f"expected `to` as one of {', '.join(TARGETS)}, got {to!r}")
    preset = open_preset(preset)
    folder = Path(folder).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: expected a new or an empty folder to write to, got one with files: give another")
    config = preset.config
    if config.n_start > 1 and drop_classes:
        config = dataclasses.replace(config, n_start=1)
    if config.n_start > 1 and to != "preset":
        raise UserError(
            f"{preset.source}: expected a model with one start embedding, as the format {to} has, got "
            f"{config.n_start}, those of classes among them: leave these out with `drop_classes`"
        )
    arrays, palette = _Arrays(preset, config), preset.palette()
    if to == "preset":
        write_preset(folder, _fields(preset, config), arrays, palette)
    elif to == "huggingface":
        write_huggingface(folder, config, arrays.__getitem__, palette, preset.n_class, preset.classes)
    else:
        write_checkpoint(folder / CHECKPOINT, arrays.shapes, arrays.__getitem__, n_shards)
        if palette is not None:
            palette.save(folder / OFFICIAL_PALETTE)


def _fields(preset: Preset, config: ImageGPTConfig) -> dict[str, Any]:
    """What a preset folder's `config.json` holds."""
    names = {"n_class": preset.n_class, "classes": preset.classes}
    if config.n_start > 1:
        names["start_classes"] = preset.start_classes
    return {**config.to_dict(), **{name: value for name, value in names.items() if value is not None}}
