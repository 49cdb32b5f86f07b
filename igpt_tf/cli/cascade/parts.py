"""What the commands that train one part of a cascade share: shapes, --config, and the run."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from igpt_tf.cli.console import report, warn
from igpt_tf.cli.parser import duration, positive
from igpt_tf.cli.progress import progress_bar
from igpt_tf.cli.settings import UNSET, add_settings, choose_settings
from igpt_tf.cli.source import add_key_options, open_pictures
from igpt_tf.cli.training import TRAINING, kept_in
from igpt_tf.errors import UsageError, UserError, meant, naming
from igpt_tf.storage.files import require_writable

if TYPE_CHECKING:
    import keras
    import numpy as np

    from igpt_tf.data.image_rows import ImageRows
    from igpt_tf.data.sources.open import Source
    from igpt_tf.training.best import Logs
    from igpt_tf.training.checkpoint import RunFolder
    from igpt_tf.training.settings import RunSettings

T = TypeVar("T")
# Names of the original's for settings of ours.
TWINS = {"max_epoch": "epochs"}


def add_part_options(parser: argparse.ArgumentParser, shape_class: type | None, settings_class: type) -> None:
    """Declare the shape, the settings, and where the part goes."""
    add = parser.add_argument
    add("--out", "--out_dir", type=Path, required=True, help="folder of the part; training/ in it keeps the state")
    add("--config", type=Path, help="a .json of shape and settings by these names; what is typed counts more")
    if shape_class is not None:
        group, about = parser.add_argument_group("shape"), _attributes(shape_class)
        for field in dataclasses.fields(shape_class):
            text = f"{about.get(field.name, field.name)} ({str(field.default).lower()})"
            kind = {"int": positive, "bool": _true_or_false}.get(str(field.type), str)
            group.add_argument(f"--{field.name}", type=kind, default=UNSET, help=text)
    group = parser.add_argument_group("settings", "defaults in brackets")
    add_settings(group, settings_class)
    for twin, name in TWINS.items():
        if name in {field.name for field in dataclasses.fields(settings_class)}:
            group.add_argument(f"--{twin}", dest=name, type=float, default=UNSET, help=f"as --{name}")


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Declare the images to train on and to evaluate on."""
    add = parser.add_argument
    add(
        "--data",
        required=True,
        help="images: a folder, a list, .npy or .npz, a data set by name, such as hf:NAME or tfds:NAME",
    )
    add("--validation", help="images that are not trained on")
    add_key_options(parser)
    add("--n_px", type=positive, default=64, help="height and width that the images are resized and cropped to")


def open_images(options: argparse.Namespace) -> tuple[Source, Source | None]:
    """The sources to train on and to evaluate on, of which no image is read yet."""
    images = open_pictures(options, options.data)
    return images, None if options.validation is None else open_pictures(options, options.validation)


def rows_of(options: argparse.Namespace, images: Source, others: Source | None) -> tuple[ImageRows, np.ndarray | None]:
    """The images of sources at the size of --n_px: those to train on, and some of those to evaluate on."""
    from igpt_tf.data.image_rows import ImageRows, held_images

    rows = ImageRows(images, options.n_px, progress=True)
    return rows, None if others is None else held_images(others, options.n_px)


def add_code_options(parser: argparse.ArgumentParser, codebooks: str) -> None:
    """Declare the maps and codebooks that a model of a stage is trained on; `codebooks` describes the latter."""
    add = parser.add_argument
    add("--maps", type=Path, nargs="+", required=True, help="stores of maps to train on, such as mirrored ones too")
    add("--validation_maps", type=Path, help="store of maps of other images")
    add("--codebooks", type=Path, nargs=2, required=True, help=codebooks)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Declare what a run of training may be told beside its settings."""
    add = parser.add_argument
    add("--mixed_precision", action="store_true", help="compute in bfloat16; weights and losses stay float32")
    add("--time_limit", type=duration, help="stop at a checkpoint before this much time has passed, such as 170m")
    add("--threads", type=positive, help="processor cores to compute on (all)")
    add("--keep", type=positive, default=3, help="latest checkpoints that stay, beside the best one")
    add("--accept_changes", action="store_true", help="resume with another learning rate, clipping or precision")


def read_config(options: argparse.Namespace, *classes: type) -> None:
    """Take what --config says as if it were typed, unless something else was.

    Raises:
        UserError: if the file is no JSON object, or has a name that none of the classes has.
    """
    if options.config is None:
        return
    wanted = f"--config: expected a JSON object of names and values in {options.config}"
    try:
        found: Any = json.loads(options.config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{wanted}, got none ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{wanted}, got {type(found).__name__}")
    known = [field.name for one in classes for field in dataclasses.fields(one)]
    for given, value in found.items():
        name = TWINS.get(given, given)
        if name not in known:
            raise UserError(f"{options.config}: expected one of {', '.join(known)}, got {given}{meant(given, known)}")
        if not hasattr(options, name):
            setattr(options, name, tuple(value) if isinstance(value, list) else value)


def shape_of(options: argparse.Namespace, shape_class: Callable[..., T]) -> T:
    """The shape that was typed or read; a `UsageError` for one that nothing can have."""
    fields = dataclasses.fields(shape_class)  # pyright: ignore[reportArgumentType]
    typed = {field.name: getattr(options, field.name) for field in fields if hasattr(options, field.name)}
    with naming(options.config) if options.config else _as_typed():
        return shape_class(**typed)


def settings_of(options: argparse.Namespace, settings_class: type[T]) -> T:
    """The settings of a run that were typed or read, micro-batches included."""
    try:
        settings: Any = choose_settings(options, settings_class)  # pyright: ignore[reportArgumentType]
        return dataclasses.replace(settings, accumulate=getattr(options, "accumulate", 1))
    except TypeError as error:
        raise UserError(f"{options.config}: expected numbers and words as --help shows them, got others") from error


def train_part(
    options: argparse.Namespace,
    settings: RunSettings,
    began: float,
    train: Callable[[RunFolder, list[keras.callbacks.Callback]], list[Logs]],
    save: Callable[[Path], None],
) -> None:
    """Train a part, or resume it, write its preset and print its figures.

    Args:
        options: with those of `add_part_options` and `add_run_options`.
        settings: of the run.
        began: when the command did, by `time.monotonic`.
        train: takes a run's folder and callbacks, and returns its logs.
        save: writes the preset to a folder.
    """
    from igpt_tf.training.callbacks import TimeLimit
    from igpt_tf.training.checkpoint import RunFolder

    require_writable(options.out)
    folder = RunFolder(options.out / TRAINING, options.keep, options.accept_changes, warn)
    callbacks: list[keras.callbacks.Callback] = [progress_bar(settings, None)]
    limit = None
    if options.time_limit is not None:
        limit = TimeLimit(options.time_limit - (time.monotonic() - began))
        callbacks.append(limit)
    try:
        logs = train(folder, callbacks)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept_in(folder.path)) from None
    save(options.out)
    if limit is not None and limit.stopped:
        warn("stopped by the time limit: the same command resumes")
    figures = {name: value for name, value in logs[-1].items() if name != "learning_rate"}
    text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    report(options, {"preset": str(options.out), **figures}, f"{options.out}: {text}")


def _attributes(shape_class: type) -> dict[str, str]:
    """What the docstring says of each attribute; nothing where Python drops docstrings."""
    found = re.findall(r"^\s{8}(\w+): (.*(?:\n\s{12}.*)*)", shape_class.__doc__ or "", re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".").replace("%", "%%") for name, text in found}


def _true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


@contextlib.contextmanager
def _as_typed() -> Iterator[None]:
    """Turn mistakes in what was typed into wrong use."""
    try:
        yield
    except UsageError:
        raise
    except UserError as error:
        raise UsageError(str(error)) from error


def load_pair(paths: Sequence[Path]) -> list[Any]:
    """The codebooks of two stages, the coarser one first."""
    from igpt_tf.latent.codebook import Codebook

    return [Codebook.load(path) for path in paths]
