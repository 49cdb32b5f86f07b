"""The one way to run a training: settings from a recipe and the options, devices, data, the run, its preset."""

from __future__ import annotations

import abc
import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from igpt_tf.cli.distributed import add_distributed_options, check_distributed, models_scope, start_backend
from igpt_tf.cli.opening import warn
from igpt_tf.cli.parser import add_device_options, non_negative, positive
from igpt_tf.errors import UsageError, UserError
from igpt_tf.training.settings import RunSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

    from igpt_tf.training.best import Logs
    from igpt_tf.training.checkpoint import RunFolder
    from igpt_tf.training.recipes import Recipe

UNSET = argparse.SUPPRESS
# Two ways to give one length: typing one of them overrides the recipe's other.
INSTEAD = {"epochs": "steps", "steps": "epochs", "warmup_epochs": "warmup_steps", "warmup_steps": "warmup_epochs"}
# Images per step where neither the options nor a recipe give them.
SUB_BATCH = 8
# What the command line does where a setting is not typed, if that is not the setting's own default.
DEFAULTS = {"batch_size": f"{SUB_BATCH}, or n_sub_batch x devices x accumulate"}


class Trainer(abc.ABC):
    """What one command trains: it opens its model and data, and builds its run. `train` calls the methods in order.

    Attributes:
        options: of the command.
        n_head: attention heads of the model, by which it may be split between devices.
    """

    options: argparse.Namespace
    n_head: int

    @abc.abstractmethod
    def read(self, settings: Any) -> int:
        """Read the data; returns the number of examples to train on."""

    @abc.abstractmethod
    def new_model(self) -> keras.Model:
        """The model to train, made in the scope of its devices."""

    def callbacks(self, folder: Path, writes: bool) -> list[keras.callbacks.Callback]:
        """Callbacks of this command's own, for the run in `folder`."""
        return []

    @abc.abstractmethod
    def run(
        self, model: Any, settings: Any, folder: RunFolder, callbacks: list[keras.callbacks.Callback]
    ) -> list[Logs]:
        """Train the model, or resume the run in `folder`."""

    @abc.abstractmethod
    def save(self, model: Any) -> None:
        """Write the preset."""

    @abc.abstractmethod
    def describe(self, logs: Logs, best: bool, fields: dict[str, Any]) -> tuple[dict[str, float], str]:
        """The figures of the save interval that the preset is of, for --json, and a line of text about them."""


def add_training_options(parser: argparse.ArgumentParser, kind: type[RunSettings]) -> None:
    """Declare the settings of `kind`, left unset to tell what was typed from a recipe, and the run's other options."""
    group = parser.add_argument_group(
        "settings of the run", "the command that resumes a run must give the same ones; defaults in brackets"
    )
    for field in dataclasses.fields(kind):
        bound, options = field.metadata["bound"], dict(field.metadata["options"])
        if field.metadata["kind"] is bool:
            flag = f"--no_{field.name}" if field.default else f"--{field.name}"
            action = "store_false" if field.default else "store_true"
            group.add_argument(flag, dest=field.name, action=action, default=UNSET, help=field.metadata["help"])
            continue
        if field.metadata["kind"] is int:
            parse = non_negative if bound == "at least 0" else positive
        else:
            parse = field.metadata["kind"]
        text = (
            f"{field.metadata['help']} ({DEFAULTS.get(field.name) or field.metadata['unset'] or _shown(field.default)})"
        )
        group.add_argument(f"--{field.name}", type=parse, default=UNSET, help=text, **options)
    group.add_argument(
        "--mixed_precision", action="store_true", help="compute in bfloat16; weights and losses stay float32"
    )
    parser.add_argument("--keep", type=positive, default=3, help="latest checkpoints that stay, beside the best one")
    parser.add_argument(
        "--accept_changes",
        action="store_true",
        help="resume with another learning rate, clipping or precision than the run has had",
    )
    parser.add_argument("--remat", action="store_true", help="need less memory and more time: for long sequences")
    parser.add_argument("--log_dir", type=Path, help="TensorBoard's folder (training/log.csv is always written)")
    add_device_options(parser)
    parser.set_defaults(n_sub_batch=None)
    add_distributed_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _shown(default: Any) -> str:
    if isinstance(default, float):
        return f"{default:g}"
    return " ".join(default) if isinstance(default, tuple) else str(default)


def train(
    options: argparse.Namespace,
    kind: type[RunSettings],
    trainer: Callable[[argparse.Namespace, Recipe | None], Trainer],
    recipe: Recipe | None = None,
) -> None:
    """Train, or resume the run in --out, and write the preset.

    Args:
        options: with those of `add_training_options` and `out`.
        kind: of the settings.
        trainer: opens model and data from (options, recipe), once the backend is there.
        recipe: settings by name; what was typed counts more.
    """
    check_distributed(options)
    # Mistakes in the settings are reported before the backend is loaded, which takes seconds.
    settings = choose_settings(options, kind, recipe)
    process = start_backend(options)
    import keras

    from igpt_tf.backend.devices import choose_devices
    from igpt_tf.backend.processes import all_or_none
    from igpt_tf.storage.files import require_writable
    from igpt_tf.training.checkpoint import RunFolder

    # Of several processes that train together, all stop if one of them cannot begin.
    with all_or_none():
        job = trainer(options, recipe)
        devices = choose_devices(options.n_gpu)
        scope = models_scope(options, devices, job.n_head)
        settings = with_batch(settings, options, recipe, len(devices) // options.model_parallel)
        if process == 0:
            require_writable(options.out)
        callbacks = [] if options.log_dir is None else [tensorboard(options.log_dir)]
        # Last, because reading may take long.
        n_examples = job.read(settings)
    folder = RunFolder(options.out / "training", options.keep, options.accept_changes, warn)
    if process == 0:
        callbacks.append(progress_bar(settings.accumulate))
    callbacks += job.callbacks(folder.path, process == 0)
    keras.utils.set_random_seed(settings.seed)
    with scope:
        model = job.new_model()
    history = job.run(model, settings, folder, callbacks)
    if process == 0:
        job.save(model)
        _report(job, history, settings, settings.plan(n_examples)[1])


def _report(job: Trainer, history: list[Logs], settings: RunSettings, steps_per_interval: int) -> None:
    """Print which step's weights the preset has, and their figures."""
    from igpt_tf.training.best import best_interval

    best = settings.patience is not None
    number = (best_interval(history) if best else None) or len(history)
    fields = {
        "preset": str(job.options.out),
        "steps": len(history) * steps_per_interval,
        "weights_of_step": number * steps_per_interval,
        "averaged": settings.ema is not None,
    }
    figures, text = job.describe(history[number - 1], best, fields)
    print(json.dumps({**fields, **figures}) if job.options.json else f"{job.options.out}: {text}")


def choose_settings(options: argparse.Namespace, kind: type[RunSettings], recipe: Recipe | None = None) -> Any:
    """The recipe's settings, or the defaults of `kind`, with what was typed in their place, but for the batch.

    Raises:
        UsageError: if what was typed is invalid or contradicts itself.
    """
    from igpt_tf.data.augment import NAMES

    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    typed = {name: getattr(options, name) for name in defaults if hasattr(options, name)}
    for name, other in INSTEAD.items():
        if name in typed and other in typed:
            raise UsageError(f"--{name} and --{other} give the same length in two ways: give one of them")
    if "augment" in typed:
        if not set(typed["augment"]) <= set(NAMES):
            raise UsageError(f"--augment {' '.join(typed['augment'])}: expected some of {', '.join(NAMES)}")
        typed["augment"] = tuple(typed["augment"])
    settings = {**defaults, **(dataclasses.asdict(recipe.settings) if recipe else {})}
    settings |= {INSTEAD[name]: defaults[INSTEAD[name]] for name in typed if name in INSTEAD}
    # The batch and its micro-batches depend on the devices: `with_batch` decides them together.
    return kind(**{**settings, **typed, "accumulate": 1})


def with_batch(settings: Any, options: argparse.Namespace, recipe: Recipe | None, n_devices: int) -> Any:
    """The settings with the batch that any two of batch, micro-batches and images on each device make.

    Raises:
        UsageError: if the three contradict each other.
    """
    sub_batch, batch = options.n_sub_batch, getattr(options, "batch_size", None)
    accumulate = getattr(options, "accumulate", None)
    if batch is None and recipe is not None and (sub_batch is None or accumulate is None):
        batch = recipe.settings.batch_size
    if batch is None:
        # Where nothing says how many images a device has: the same batch on any number of devices that divides it.
        accumulate = accumulate or 1
        sub_batch = sub_batch or -(-SUB_BATCH // (n_devices * accumulate))
        return dataclasses.replace(settings, batch_size=sub_batch * n_devices * accumulate, accumulate=accumulate)
    if accumulate is None and sub_batch is not None:
        accumulate = max(1, batch // (sub_batch * n_devices))
    accumulate = accumulate or (recipe.settings.accumulate if recipe else 1)
    if batch % (accumulate * n_devices) or sub_batch not in (None, batch // (accumulate * n_devices)):
        each = "" if sub_batch is None else f", {sub_batch} images per batch on each"
        raise UsageError(
            f"a batch of {batch} images does not divide into {accumulate} micro-batches on {n_devices} devices{each}: "
            "batch_size must be n_sub_batch x devices x accumulate"
        )
    return dataclasses.replace(settings, batch_size=batch, accumulate=accumulate)


def progress_bar(accumulate: int) -> keras.callbacks.Callback:
    """A bar over all steps of a run, of `accumulate` micro-batches each, on standard error, with the latest losses."""
    import keras
    from tqdm import tqdm

    class ProgressBar(keras.callbacks.Callback):
        # On JAX, Keras may then run ahead instead of waiting for every loss.
        async_safe = True

        def on_train_begin(self, logs=None) -> None:
            params = cast("dict[str, Any]", self.params)
            self.steps = params["steps"] // accumulate
            self.bar = tqdm(total=params["epochs"] * self.steps, unit="step")

        def on_epoch_begin(self, epoch, logs=None) -> None:
            self.bar.update(epoch * self.steps - self.bar.n)

        def on_train_batch_end(self, batch, logs=None) -> None:
            if (batch + 1) % accumulate == 0:
                self.bar.set_postfix(logs or {}, refresh=False)
                self.bar.update()

        def on_epoch_end(self, epoch, logs=None) -> None:
            self.bar.set_postfix(logs or {})

        def on_train_end(self, logs=None) -> None:
            self.bar.close()

    return ProgressBar()


def tensorboard(folder: Path) -> keras.callbacks.Callback:
    """Keras' own log for TensorBoard.

    Raises:
        UserError: on another backend than TensorFlow, the only one that writes it; without the package; or if the
            folder cannot be written.
    """
    import importlib.util

    import keras

    from igpt_tf.storage.files import require_writable

    if keras.backend.backend() != "tensorflow":
        raise UserError("--log_dir needs the TensorFlow backend, which alone writes TensorBoard's files: see log.csv")
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--log_dir needs the package tensorboard, which is not installed: pip install tensorboard")
    require_writable(folder)
    return keras.callbacks.TensorBoard(str(folder), write_graph=False)
