"""The one way to run a training: settings from a recipe and the options, devices, data, the run, its preset."""

from __future__ import annotations

import abc
import argparse
import dataclasses
import functools
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from igpt_tf.cli.console import report, tell_replaced, warn
from igpt_tf.cli.distributed import (
    add_distributed_options,
    check_distributed,
    is_one_of_several,
    models_scope,
    start_backend,
)
from igpt_tf.cli.memory import FLOAT, bytes_to_train, require_memory
from igpt_tf.cli.parser import add_device_options, duration, positive
from igpt_tf.cli.progress import progress_bar, tensorboard
from igpt_tf.cli.settings import add_settings, choose_settings
from igpt_tf.cli.source import refuse_inside
from igpt_tf.errors import UsageError
from igpt_tf.storage.files import check_outputs, check_writable, require_writable
from igpt_tf.training.settings import RunSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

    from igpt_tf.config import ImageGPTConfig
    from igpt_tf.data.labelled import LabelledTokens
    from igpt_tf.data.tokens import Tokens
    from igpt_tf.model import ImageGPT, ImageGPTClassifier
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.training.best import Logs
    from igpt_tf.training.recipes import Recipe
    from igpt_tf.weights.presets import Preset

# Where the state of a run is, in the folder of its preset.
TRAINING = "training"
# Images per step where neither the options nor a recipe give them.
SUB_BATCH = 8
# What the command line does where a setting is not typed, if that is not the setting's own default.
DEFAULTS = {"batch_size": f"{SUB_BATCH}, or n_sub_batch x devices x accumulate"}

BFLOAT16 = "computing in mixed bfloat16, for which this processor has instructions (--no_mixed_precision: float32)"

SettingsT = TypeVar("SettingsT", bound=RunSettings)
ModelT = TypeVar("ModelT", bound="ImageGPT | ImageGPTClassifier")


class Trainer(abc.ABC, Generic[SettingsT, ModelT]):
    """What one command trains: it opens the model and the data, and knows the function that trains.

    Attributes:
        preset: the weights to begin with, or None.
        config: the model's shape.
        palette: of the images, if they have one.
        data: what to train on, once it is read.
        validation: what to validate on, if anything.
    """

    preset: Preset | None
    config: ImageGPTConfig
    palette: Palette | None
    data: Tokens | LabelledTokens
    validation: Tokens | LabelledTokens | None

    @abc.abstractmethod
    def __init__(self, options: argparse.Namespace, recipe: Recipe | None) -> None:
        """Open model and data."""

    @abc.abstractmethod
    def read(self, settings: SettingsT) -> None:
        """Read `data` and `validation`."""

    @abc.abstractmethod
    def new_model(self) -> ModelT:
        """The model to train, made in the scope of its devices."""

    def callbacks(self, folder: Path, writes: bool) -> list[keras.callbacks.Callback]:
        """Callbacks of this command's own, for the run in `folder`."""
        return []

    @abc.abstractmethod
    def function(self) -> Callable[..., list[Logs]]:
        """What trains the model: `pretrain`, or a function like it."""

    @abc.abstractmethod
    def describe(self, logs: Logs, best: bool, fields: dict[str, Any]) -> tuple[dict[str, float], str]:
        """The figures of the save interval that the preset is of, for --json, and a line of text about them."""


def add_training_options(parser: argparse.ArgumentParser, settings_class: type[RunSettings]) -> None:
    """Declare the settings, left unset to tell what was typed from a recipe, and the run's other options."""
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the preset folder; training/ in it keeps the state")
    group = parser.add_argument_group(
        "settings of the run", "the command that resumes a run must give the same ones; defaults in brackets"
    )
    add_settings(group, settings_class, DEFAULTS)
    group.add_argument(
        "--mixed_precision",
        action="store_true",
        default=None,
        help="compute in bfloat16; weights and losses stay float32 (where the processor has instructions for it; a run "
        "keeps the precision that it began with)",
    )
    group.add_argument("--no_mixed_precision", dest="mixed_precision", action="store_false", help="compute in float32")
    add(
        "--time_limit",
        type=duration,
        help="stop at the last checkpoint before this much time has passed, such as 170m, 2h or 90s; the same command "
        "resumes",
    )
    add("--threads", type=positive, help="processor cores to compute on (all)")
    add("--keep", type=positive, default=3, help="latest checkpoints that stay, beside the best one")
    add(
        "--accept_changes",
        action="store_true",
        help="resume with another learning rate, clipping or precision than the run has had",
    )
    add("--remat", action="store_true", help="need less memory and more time: for long sequences")
    add("--log_dir", type=Path, help="TensorBoard's folder (training/log.csv is always written)")
    add_device_options(parser)
    parser.set_defaults(n_sub_batch=None)
    add_distributed_options(parser)


def train(
    options: argparse.Namespace,
    settings_class: type[SettingsT],
    trainer_class: type[Trainer[SettingsT, Any]],
    recipe: Recipe | None = None,
) -> None:
    """Train, or resume the run in --out, and write the preset.

    Args:
        options: with those of `add_training_options`.
        settings_class: of the settings.
        trainer_class: opens model and data, once the backend is there.
        recipe: settings by name; what was typed counts more.
    """
    try:
        _train(options, settings_class, trainer_class, recipe)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept_in(options.out / TRAINING)) from None


def kept_in(folder: Path) -> str:
    """What an interrupted run keeps, and how to resume it."""
    from igpt_tf.weights.runs import last_step

    step = last_step(folder)
    kept = "there is no checkpoint yet" if step is None else f"the checkpoint {step} is kept in {folder}"
    return f"{kept}; the same command resumes"


def _train(
    options: argparse.Namespace,
    settings_class: type[SettingsT],
    trainer_class: type[Trainer[SettingsT, Any]],
    recipe: Recipe | None,
) -> None:
    began = time.monotonic()
    check_distributed(options)
    refuse_inside(options.out, options.data, options.validation)
    # Mistakes in the settings are reported before the backend is loaded, which takes seconds.
    settings = choose_settings(options, settings_class, recipe)
    trainer = None
    if not is_one_of_several(options):
        # So are those in what they name; several processes must meet before one of them may stop.
        trainer = trainer_class(options, recipe)
        check_writable(options.out)
    process = start_backend(options)
    import keras

    from igpt_tf.backend.devices import choose_devices
    from igpt_tf.backend.processes import all_or_none
    from igpt_tf.training.best import best_interval
    from igpt_tf.training.callbacks import TimeLimit
    from igpt_tf.training.checkpoint import RunFolder
    from igpt_tf.weights.runs import describe_run

    # Of several processes that train together, all stop if one of them cannot begin.
    with all_or_none():
        trainer = trainer or trainer_class(options, recipe)
        devices = choose_devices(options.n_gpu)
        scope = models_scope(options, devices, trainer.config.n_head)
        settings = with_batch(settings, options, recipe, len(devices) // options.model_parallel)
        if process == 0:
            require_writable(options.out)
        callbacks = [] if options.log_dir is None else [tensorboard(options.log_dir)]
        # Last, because reading may take long.
        trainer.read(settings)
    folder = RunFolder(options.out / TRAINING, options.keep, options.accept_changes, warn)
    begun = folder.identity()
    if begun is None:
        read = [] if trainer.preset is None else Path(trainer.preset.source).glob("*")
        tell_replaced(check_outputs(options.out.glob("*.safetensors"), read))
    is_automatic = options.mixed_precision is None and begun is None
    options.mixed_precision = choose_precision(options.mixed_precision, begun)
    needed = bytes_to_train(trainer.config, 2 if options.mixed_precision else FLOAT, options.remat)
    require_memory(min(settings.micro_batch_size, len(trainer.data)), needed, "--n_sub_batch")
    if process == 0:
        callbacks.append(progress_bar(settings, BFLOAT16 if is_automatic and options.mixed_precision else None))
    limit = None if options.time_limit is None else TimeLimit(options.time_limit - (time.monotonic() - began))
    callbacks += [limit] if limit is not None else []
    callbacks += trainer.callbacks(folder.path, process == 0)
    keras.utils.set_random_seed(settings.seed)
    with scope:
        model = trainer.new_model()
    if process == 0:
        # Once the run is known to be this one.
        about = functools.partial(describe_run, folder.path, model.preset_fields(), trainer.palette)
        callbacks.append(keras.callbacks.LambdaCallback(on_train_begin=lambda logs: about()))
    init_from = trainer.preset and trainer.preset.fingerprint()
    history = trainer.function()(
        model, trainer.data, settings, folder, trainer.validation, callbacks, init_from=init_from
    )
    if process != 0:
        return
    model.save_to_preset(options.out, trainer.palette)
    describe_run(folder.path, model.preset_fields(), trainer.palette, len(history))
    plan = settings.plan_from(len(trainer.data), begun)
    steps = plan.steps
    if limit is not None and limit.stopped:
        warn(f"stopped at step {len(history) * steps} of {plan.whole} by the time limit: the same command resumes")
    elif len(history) < plan.n_intervals:
        warn(
            f"stopped at step {len(history) * steps} of {plan.whole}: no better validation in {settings.patience} "
            "checkpoints (--patience)"
        )
    best = settings.patience is not None
    number = (best_interval(history) if best else None) or len(history)
    fields = {
        "preset": str(options.out),
        "steps": len(history) * steps,
        "weights_of_step": number * steps,
        "averaged": settings.ema is not None,
    }
    figures, text = trainer.describe(history[number - 1], best, fields)
    report(options, {**fields, **figures}, f"{options.out}: {text}")


def with_batch(settings: SettingsT, options: argparse.Namespace, recipe: Recipe | None, n_devices: int) -> SettingsT:
    """The settings with their batch: of batch, micro-batches and images on each device, two decide the third.

    Raises:
        UsageError: if the three contradict each other.
    """
    batch, accumulate = getattr(options, "batch_size", None), getattr(options, "accumulate", None)
    sub_batch = options.n_sub_batch
    if batch is None and recipe is not None and None in (accumulate, sub_batch):
        batch = recipe.settings.batch_size
    if batch is None:
        accumulate = accumulate or 1
        # By default the same batch on any number of devices that divides it.
        sub_batch = sub_batch or math.ceil(SUB_BATCH / (n_devices * accumulate))
        batch = sub_batch * n_devices * accumulate
    elif accumulate is None and sub_batch is not None:
        accumulate = max(1, batch // (sub_batch * n_devices))
    elif accumulate is None:
        accumulate = 1 if recipe is None else recipe.settings.accumulate
    images, rest = divmod(batch, accumulate * n_devices)
    if rest or sub_batch not in (None, images):
        each = "" if sub_batch is None else f", {sub_batch} images per batch on each"
        raise UsageError(
            f"expected batch_size to be n_sub_batch x devices x accumulate, got a batch of {batch} images for "
            f"{accumulate} micro-batches on {n_devices} devices{each}"
        )
    return dataclasses.replace(settings, batch_size=batch, accumulate=accumulate)


def choose_precision(typed: bool | None, begun: dict[str, Any] | None) -> bool:
    """Whether to compute in bfloat16: as typed, or as the run has begun, or where the processor is made for it."""
    from igpt_tf.backend.devices import computes_bfloat16

    if typed is None and begun is not None:
        return begun["compute_dtype"] == "bfloat16"
    return computes_bfloat16() if typed is None else typed
