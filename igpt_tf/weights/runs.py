"""The folder of a training run that is newer than its preset, or has none yet: the weights of its last checkpoint."""

# safetensors declares too few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.pictures.palette import Palette
from igpt_tf.storage.records import RecordError, read_record, write_record
from igpt_tf.weights.folder import PALETTE_FILE, WEIGHTS_FILE
from igpt_tf.weights.names import HEAD, Shape, name_table

TRAINING = "training"
RECORDS = "epoch-*.json"
LOG_FILE = "log.csv"
# What the preset's config.json will hold, and the save interval at which the preset was last written.
MODEL_FILE = "model.json"
_FIELDS = {"bytes": int, "course": dict, "history": list}


def describe_run(folder: Path, fields: dict[str, Any], palette: Palette | None, written: int | None = None) -> None:
    """Record what a run trains, so that its checkpoints can be used before it ends.

    Args:
        folder: of the run's checkpoints.
        fields: what the preset's `config.json` holds.
        palette: of the images, if they have one.
        written: the save interval at which the preset was written; None: the one recorded before.
    """
    before = _about(folder) or {}
    write_record(
        folder / MODEL_FILE, {"fields": fields, "written": before.get("written") if written is None else written}
    )
    if palette is not None:
        palette.save(folder / PALETTE_FILE)


def is_open_run(path: Path) -> bool:
    """Whether a folder holds a run whose checkpoints are newer than its preset."""
    folder = _folder_of(path)
    if folder is None:
        return False
    if not (path / WEIGHTS_FILE).is_file():
        return True
    about, records = _about(folder), _records(folder)
    return about is not None and bool(records) and _number(records[0]) > (about["written"] or 0)


class RunReader:
    """The arrays of a run's newest whole checkpoint under OpenAI's names without `model/`.

    Args:
        path: the folder that the preset goes to, or the one of the checkpoints in it.
        record: that of one checkpoint, in place of the newest whole one.

    Attributes:
        fields: what the preset's `config.json` will hold.
        shapes: name to shape.
        step: which checkpoint it is, such as `of step 120`.
        remark: the same in a line.
        palette_paths: where the palette may be.

    Raises:
        UserError: if there is no whole checkpoint yet.
    """

    def __init__(self, path: Path, record: Path | None = None) -> None:
        folder = _folder_of(path)
        assert folder is not None
        number, course = self._open(path, folder, _records(folder) if record is None else [record])
        about = _about(folder)
        names = {field.name for field in dataclasses.fields(ImageGPTConfig)} | {"n_class"}
        known = {name: value for name, value in course.items() if name in names and value is not None}
        self.fields: dict[str, Any] = known if about is None else about["fields"]
        config = ImageGPTConfig(**{name: value for name, value in known.items() if name != "n_class"})
        self._paths = {name: f"model/{ours}" for name, (ours, _) in name_table(config).items()}
        if known.get("n_class") is not None:
            self._paths[HEAD] = f"model/{HEAD}"
        stored = set(self._arrays.keys())
        self.shapes: dict[str, Shape] = {
            name: tuple(self._arrays.get_slice(ours).get_shape())
            for name, ours in self._paths.items()
            if ours in stored
        }
        self._stored = stored
        average = ", not averaged," if course.get("ema") is not None else ""
        self.step = _step(folder, number)
        self.remark = f"{path}: a run that has not ended: using its checkpoint{average} {self.step}"
        self.palette_paths = [folder / PALETTE_FILE, path / PALETTE_FILE]

    def read(self, name: str) -> np.ndarray:
        """The array of a name in `shapes`, with what LoRA has learned."""
        path = self._paths[name]
        array = self._arrays.get_tensor(path)
        adapters = [f"{path.rpartition('/')[0]}/lora_kernel_{one}" for one in "ab"]
        if self._stored.issuperset(adapters):
            array = array + self._arrays.get_tensor(adapters[0]) @ self._arrays.get_tensor(adapters[1])
        return array

    def _open(self, path: Path, folder: Path, records: list[Path]) -> tuple[int, dict[str, Any]]:
        """Open the first whole checkpoint of these; its number and the run's identity."""
        from safetensors import SafetensorError, safe_open

        for record_path in records:
            weights = record_path.with_suffix(".safetensors")
            with contextlib.suppress(RecordError, OSError, SafetensorError):
                record = read_record(record_path, _FIELDS)
                if record is not None and weights.stat().st_size == record["bytes"]:
                    # It stays open: the run may delete the file.
                    self._arrays = safe_open(weights, framework="numpy")
                    return _number(record_path), record["course"]
        raise UserError(
            f"{path}: expected a whole checkpoint of the run in {folder}, got none yet: wait for its first one, or "
            "train again"
        )


def open_checkpoints(path: Path) -> list[RunReader]:
    """Every whole checkpoint that is left of a run, the oldest first; of anything else, none."""
    folder = _folder_of(path)
    readers: list[RunReader] = []
    for record in reversed(_records(folder) if folder is not None else []):
        with contextlib.suppress(UserError):
            readers.append(RunReader(path, record))
    return readers


def last_step(folder: Path) -> str | None:
    """Which checkpoint of a run is the newest, such as `of step 120`; None if there is none."""
    records = _records(folder)
    return _step(folder, _number(records[0])) if records else None


def _folder_of(path: Path) -> Path | None:
    """Where the checkpoints are, of a run that was begun."""
    for folder in (path / TRAINING, path):
        if (folder / MODEL_FILE).is_file() or _records(folder):
            return folder
    return None


def _records(folder: Path) -> list[Path]:
    """The records of checkpoints, the newest first."""
    return sorted(folder.glob(RECORDS), reverse=True)


def _number(record: Path) -> int:
    found = record.stem.partition("-")[2]
    return int(found) if found.isdigit() else 0


def _about(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(RecordError):
        return read_record(folder / MODEL_FILE, {"fields": dict})
    return None


def _step(folder: Path, number: int) -> str:
    """`of step N`, as the run's log tells it; else the checkpoint's number."""
    with contextlib.suppress(OSError, ValueError, KeyError, StopIteration):
        with open(folder / LOG_FILE, encoding="utf-8", newline="") as file:
            first = next(csv.DictReader(file))
        return f"of step {number * int(first['step']) // int(first['period'])}"
    return f"number {number}"
