"""The one front door to weights: names, preset folders, Hugging Face's folders and OpenAI's checkpoints."""

# Keras declares too few types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from igpt_tf.config import SIZES, ImageGPTConfig
from igpt_tf.download.consent import may_download
from igpt_tf.errors import Notice, UserError, meant, naming
from igpt_tf.pictures.palette import Palette
from igpt_tf.storage.digests import Digest
from igpt_tf.storage.places import checkpoint_folders, download_folder
from igpt_tf.weights.arrays import CASCADE_FILE
from igpt_tf.weights.folder import CONFIG_FILE, PALETTE_FILE, WEIGHTS_FILE, PresetFolder, is_folder, parse_fields
from igpt_tf.weights.huggingface import PALETTE_FILES, HuggingFaceFolder, is_huggingface, read_palette
from igpt_tf.weights.huggingface_files import TORCH_FILE, fetch_hub
from igpt_tf.weights.names import HEAD, Shape, check_shapes, infer_config, shape_table
from igpt_tf.weights.official import fetch_official
from igpt_tf.weights.openai import OpenAICheckpoint, checkpoints_in
from igpt_tf.weights.runs import RunReader, is_open_run, open_checkpoints

if TYPE_CHECKING:
    import keras

OFFICIAL_PALETTE = "kmeans_centers.npy"

# A model's name on the Hugging Face hub, where there is no folder of its owner's name.
_HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_OFFICIAL = re.compile(r"igpt-(?P<size>[sml])(?P<bert>-bert)?(@(?P<step>131000|262000|524000|1000000))?")


@dataclasses.dataclass(frozen=True)
class Preset:
    """Weights that are found but not read yet; all of them are there and have the right shapes.

    Attributes:
        source: where the weights are, for messages.
        config: the model's shape.
        n_class: number of classes of the trained head; None: there is none.
        read: reads the array of one of OpenAI's names without `model/`.
        palette_paths: where its palette is looked for, in this order.
        classes: names of the head's classes; None: they have no names.
        start_classes: names of the classes of the start embeddings; None: they have no names.
    """

    source: str
    config: ImageGPTConfig
    n_class: int | None
    read: Callable[[str], np.ndarray]
    palette_paths: list[Path]
    classes: tuple[str, ...] | None = None
    start_classes: tuple[str, ...] | None = None
    # The digest of the model's weights once they have been read; a list, because the rest never changes.
    _digests: list[Digest] = dataclasses.field(default_factory=list, compare=False, repr=False)

    def fingerprint(self) -> str:
        """A short digest of all weights, the head's too; those that `assign` has read are not read again."""
        if not self._digests:
            whole = Digest()
            for name in shape_table(self.config):
                whole.add(_bytes_of(self.read(name)))
            self._digests.append(whole)
        whole = self._digests[0].copy()
        if self.n_class is not None:
            whole.add(_bytes_of(self.read(HEAD)))
        return str(whole)

    def assign(self, variables: Mapping[str, keras.Variable]) -> None:
        """Assign variables, by OpenAI's names without `model/`, one at a time: memory holds one array more."""
        whole = Digest()
        for name, variable in variables.items():
            array = self.read(name)
            whole.add(_bytes_of(array))
            variable.assign(array)
        if list(variables) == list(shape_table(self.config)):
            self._digests[:] = [whole]

    def palette(self) -> Palette | None:
        """The palette beside the weights; None if there is none of n_vocab colours."""
        for path in self.palette_paths:
            palette = _palette_in(path)
            if palette is not None and len(palette) == self.config.n_vocab:
                return palette
        return None


def open_preset(preset: str | Path | Preset) -> Preset:
    """Find the weights that a name or path means and read their shapes, not yet their values.

    Args:
        preset: a bundled name ("nano-cifar10"), an official one ("igpt-s", once downloaded), one of the Hugging Face
            hub ("openai/imagegpt-small"), a preset folder, a folder of Hugging Face's, or an OpenAI checkpoint: its
            prefix (".../model.ckpt-1000000"), one of its files, or a folder with only one. An open `Preset` is
            returned as it is.

    Raises:
        UserError: if there is no such thing, or it is incomplete, damaged or of another kind.
    """
    if isinstance(preset, Preset):
        return preset
    try:
        path = _find(str(preset))
        if path.name in (CONFIG_FILE, WEIGHTS_FILE, TORCH_FILE) and path.is_file():
            path = path.parent
        return next(open_it for is_ours, open_it in FORMATS if is_ours(path))(path)
    except OSError as error:
        raise UserError(
            f"{preset}: expected a model, got one that cannot be read ({error.strerror or error})"
        ) from error


def open_series(preset: str | Path) -> list[tuple[str, Preset]]:
    """The checkpoints that are left of a run, the oldest first, each with its step; of anything else, the one preset.

    Args:
        preset: as for `open_preset`.

    Raises:
        UserError: as `open_preset`.
    """
    path = Path(preset)
    readers = open_checkpoints(path)
    if not readers:
        return [("", open_preset(preset))]
    return [(reader.step.removeprefix("of "), _preset_of_run(path, reader)) for reader in readers]


def load_palette(preset: str | Path | Preset) -> Palette:
    """The palette that belongs to a preset.

    Raises:
        UserError: if there is none of its number of colours.
    """
    opened = open_preset(preset)
    palette = opened.palette()
    if palette is None:
        there = [(path, _palette_in(path)) for path in opened.palette_paths]
        found = [f"{len(palette)} in {path}" for path, palette in there if palette is not None]
        looked = ", ".join(dict.fromkeys(str(path) for path in opened.palette_paths))
        raise UserError(
            f"{opened.source}: expected a palette of {opened.config.n_vocab} colours beside it, got "
            f"{', '.join(found) or f'none (looked for {looked})'}: give one; "
            "OpenAI's 512 colours are fetched by `igpt download --clusters`",
            "palette",
        )
    return palette


def _palette_in(path: Path) -> Palette | None:
    if not path.is_file():
        return None
    return read_palette(path) if path.name in PALETTE_FILES else Palette.load(path, ours=path.name == PALETTE_FILE)


def _bytes_of(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, "<f4")


def _open_folder(path: Path) -> Preset:
    folder = PresetFolder(path)
    _check(path / WEIGHTS_FILE, folder.shapes, folder.config)
    palettes = [path / PALETTE_FILE]
    return Preset(str(path), folder.config, folder.n_class, folder.read, palettes, folder.classes, folder.start_classes)


def _open_huggingface(path: Path) -> Preset:
    folder = HuggingFaceFolder(path)
    if not folder.has_logits:
        warnings.warn(f"{path}: has features alone: without lm_head.weight, all logits are 0", Notice, stacklevel=2)
    palettes = [path / name for name in PALETTE_FILES]
    return Preset(str(path), folder.config, folder.n_class, folder.read, palettes, folder.classes)


def _open_checkpoint(path: Path) -> Preset:
    checkpoint = OpenAICheckpoint(path)
    with naming(checkpoint.prefix):
        config = infer_config(checkpoint.shapes)
    _check(checkpoint.prefix, checkpoint.shapes, config)
    head = checkpoint.shapes.get(HEAD)
    # The original creates the head as zeros and may save it untrained.
    n_class = head[0] if head and np.any(checkpoint.read(HEAD)) else None
    folder = checkpoint.prefix.absolute().parent
    palettes = [folder / OFFICIAL_PALETTE, folder.parent / OFFICIAL_PALETTE]
    palettes += [root / OFFICIAL_PALETTE for root in checkpoint_folders()]
    return Preset(str(checkpoint.prefix), config, n_class, checkpoint.read, palettes)


def _open_run(path: Path) -> Preset:
    run = RunReader(path)
    warnings.warn(run.remark, Notice, stacklevel=2)
    return _preset_of_run(path, run)


def _preset_of_run(path: Path, run: RunReader) -> Preset:
    config, n_class, classes, start_classes = parse_fields(path, run.fields)
    _check(path, run.shapes, config)
    return Preset(str(path), config, n_class, run.read, run.palette_paths, classes, start_classes)


def _refuse_cascade(path: Path) -> Preset:
    raise UserError(
        f"{path}: expected a model, got a cascade of several: `igpt cascade generate` draws with it, and "
        "`Cascade.from_preset` loads it"
    )


def _check(source: Path, shapes: Mapping[str, Shape], config: ImageGPTConfig) -> None:
    """`check_shapes`, with a `Notice` of what is left out."""
    with naming(source):
        left = check_shapes(shapes, config)
    if left:
        warnings.warn(f"{source}: left out variables that the model does not have: {left}", Notice, stacklevel=2)


def _find(preset: str) -> Path:
    """The path that a name or path means."""
    try:
        path = Path(preset).expanduser()
    except RuntimeError as error:  # ~somebody, where there is no such user
        raise UserError(f"{preset}: expected a folder, got nothing ({error})") from error
    if not preset:
        raise UserError(_unknown_name(preset))
    if _HUB.fullmatch(preset) and not path.parent.exists():
        return fetch_hub(preset)
    if len(path.parts) > 1 or path.exists() or ".ckpt" in preset or Path(f"{path}.index").exists():
        return path
    for folder in (root / path for root in checkpoint_folders()):
        # A folder with none of them is a download that has not come to its end.
        if (folder / CONFIG_FILE).is_file() or (folder / CASCADE_FILE).is_file() or checkpoints_in(folder):
            return folder
    if official := _OFFICIAL.fullmatch(preset):
        return _find_official(official)
    raise UserError(_unknown_name(str(path)))


def _find_official(name: re.Match[str]) -> Path:
    """Where one of OpenAI's models is, of a step or downloaded now, where that is allowed."""
    model, step = name[0].partition("@")[0], name["step"] or "1000000"
    for root in checkpoint_folders():
        if (prefix := root / model / f"model.ckpt-{step}").with_name(f"{prefix.name}.index").is_file():
            return prefix
        if step == "1000000" and (root / model / CONFIG_FILE).is_file():
            return root / model
    size = SIZES[name["size"]]
    if not may_download(name[0], 4 * sum(math.prod(shape) for shape in shape_table(size).values())):
        raise UserError(_unknown_name(name[0]))
    folder = download_folder() / (model if step == "1000000" else f"{model}@{step}")
    fetch_official(name["size"], int(step), name["bert"] is not None, folder)
    return folder


def _unknown_name(name: str) -> str:
    official = _OFFICIAL.fullmatch(name)
    looked = ", ".join(dict.fromkeys(str(folder) for folder in checkpoint_folders()))
    if official:
        bert = " --bert" if official["bert"] else ""
        how = f"`igpt download --model {official['size']} --ckpt {official['step'] or 1000000}{bert} --clusters`"
        return (
            f"{name}: expected a downloaded checkpoint, got none, or part of one, in {looked}: fetch it with {how}, or "
            "its weights alone with `yes`"
        )
    there = {path.parent.name for root in checkpoint_folders() for path in root.glob(f"*/{CONFIG_FILE}")}
    known = [*sorted(there), "igpt-s", "igpt-m", "igpt-l"]
    return (
        f"{name!r}: expected a preset folder, an OpenAI checkpoint's prefix, or one of {', '.join(known)} (the last "
        f"three once downloaded), got no such model{meant(name, known)}: looked in {looked}"
    )


# The formats of weights: whether a path is of a format, and what opens it. They are asked in this order; the last one
# takes whatever no other does, and reports what is missing.
FORMATS: list[tuple[Callable[[Path], bool], Callable[[Path], Preset]]] = [
    (is_open_run, _open_run),
    (is_huggingface, _open_huggingface),
    (is_folder, _open_folder),
    (lambda path: (path / CASCADE_FILE).is_file(), _refuse_cascade),
    (lambda path: True, _open_checkpoint),
]
