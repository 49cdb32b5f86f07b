"""The course of a run from a recipe and what was typed, and what is seen of it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.machines import add_machine_options
from igpt_tf.cli.parser import add_device_options, non_negative, positive
from igpt_tf.errors import UsageError, UserError
from igpt_tf.training.settings import SCHEDULES, PretrainSettings

if TYPE_CHECKING:
    import keras

    from igpt_tf.training.recipes import Recipe

UNSET = argparse.SUPPRESS
RECIPES_HELP = "settings by name, see --list_recipes; whatever else is typed counts more"
# Two ways to say one thing: who types one of them does not want the recipe's other.
INSTEAD = {"epochs": "steps", "steps": "epochs", "warmup_epochs": "warmup_steps", "warmup_steps": "warmup_epochs"}
# Images of a step where nothing says how many it has.
SUB_BATCH = 8


class ListRecipes(argparse.Action):
    """Keeps the name of a recipe; for `list`, and for a flag without a name, prints all and ends."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Take the value."""
        if self.nargs == 0 or values == "list":
            from igpt_tf.training.recipes import describe_recipes

            print(describe_recipes())
            parser.exit(0)
        setattr(namespace, self.dest, values)


def add_course_options(parser: argparse.ArgumentParser, kind: type[PretrainSettings]) -> argparse._ArgumentGroup:
    """Declare what decides the course of a run, left unset, so that a recipe can be told from what was typed.

    Args:
        parser: of the command.
        kind: the settings, whose defaults the help tells.
    """
    course = parser.add_argument_group(
        "course", "what decides it; the command that goes on with a run must say the same"
    )

    def add(name: str, parse, text: str) -> None:
        course.add_argument(f"--{name}", type=parse, default=UNSET, help=text)

    add("epochs", float, f"passes over the data; may be a fraction ({kind.epochs:g})")
    add("steps", positive, "steps of the run, instead of epochs; rounded up to periods of one length")
    add("batch_size", positive, f"images a step, over all devices ({SUB_BATCH}, or n_sub_batch x devices x accumulate)")
    add("accumulate", positive, "parts a step in which each device computes its share of the batch (1)")
    add("learning_rate", float, f"the highest ({kind.learning_rate:g})")
    course.add_argument(
        "--schedule", choices=SCHEDULES, default=UNSET, help=f"of the learning rate, after warm-up ({kind.schedule})"
    )
    add("warmup_steps", non_negative, "steps of linear warm-up (200, or a tenth of a shorter run)")
    add("warmup_epochs", float, "the same in passes over the data")
    add("save_every", positive, "about how many steps to train between checkpoints and validations (one pass)")
    add("seed", non_negative, "decides the weights, the order of the data, masks and augmentation (0)")
    add("clip_norm", float, "longest gradient, all weights together (no limit)")
    add("ema", float, "average the weights, each step keeping this much of the average, such as 0.999 (off)")
    add("patience", positive, f"end after so many checkpoints without a better validation ({kind.patience or 'never'})")
    add("bert_mask_prob", float, "how much of an image a BERT model does not see (0.15)")
    augment = " ".join(kind.augment) or "none"
    course.add_argument(
        "--augment", nargs="*", default=UNSET, help=f"flip, crop, both or nothing, anew in every pass ({augment})"
    )
    course.add_argument(
        "--mixed_precision", action="store_true", help="compute in bfloat16; weights and losses stay float32"
    )
    return course


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Declare what a run needs beside its course: checkpoints, logs and devices."""
    parser.add_argument("--keep", type=positive, default=3, help="latest checkpoints that stay, beside the best one")
    parser.add_argument(
        "--accept_changes",
        action="store_true",
        help="go on with another learning rate, clipping or precision than the run has had",
    )
    parser.add_argument("--remat", action="store_true", help="need less memory and more time: for long sequences")
    parser.add_argument("--log_dir", type=Path, help="TensorBoard's folder (training/log.csv is always written)")
    add_device_options(parser)
    parser.set_defaults(n_sub_batch=None)
    add_machine_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def choose_course(
    options: argparse.Namespace,
    kind: type[PretrainSettings],
    recipe: Recipe | None = None,
    n_devices: int | None = None,
) -> PretrainSettings:
    """The recipe's settings, or the usual ones of a kind, with what was typed in their place.

    Without a number of devices the batch is left out, for a look at all else before there are any.

    Raises:
        UsageError: if what was typed means nothing or contradicts itself.
    """
    from igpt_tf.data.augment import NAMES

    names = [field.name for field in dataclasses.fields(kind)]
    typed = {name: getattr(options, name) for name in names if hasattr(options, name)}
    for name, other in INSTEAD.items():
        if name in typed and other in typed:
            raise UsageError(f"--{name} and --{other} say the same in two ways: give one of them")
    if not set(typed.get("augment", ())) <= set(NAMES):
        raise UsageError(f"--augment {' '.join(typed['augment'])}: expected some of {', '.join(NAMES)}")
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    settings = {**defaults, **(dataclasses.asdict(recipe.settings) if recipe else {})}
    for name in typed:
        if name in INSTEAD:
            settings[INSTEAD[name]] = defaults[INSTEAD[name]]
    settings |= typed
    if "augment" in typed:
        settings["augment"] = tuple(typed["augment"])
    batch = {"accumulate": 1} if n_devices is None else _batch(options, typed, recipe, n_devices)
    return kind(**{**settings, **batch})


def _batch(options: argparse.Namespace, typed: dict, recipe: Recipe | None, n_devices: int) -> dict[str, int]:
    """Images a step and parts of it, from any two of the batch, the parts and the images on each device."""
    sub_batch, batch, parts = options.n_sub_batch, typed.get("batch_size"), typed.get("accumulate")
    if batch is None and recipe is not None and (sub_batch is None or parts is None):
        batch = recipe.settings.batch_size
    if batch is None:
        # The same on any number of devices that divides it, where nothing says how many images each of them has.
        parts = parts or 1
        sub_batch = sub_batch or -(-SUB_BATCH // (n_devices * parts))
        return {"batch_size": sub_batch * n_devices * parts, "accumulate": parts}
    if parts is None and sub_batch is not None:
        parts = max(1, batch // (sub_batch * n_devices))
    parts = parts or (recipe.settings.accumulate if recipe else 1)
    if batch % (parts * n_devices) or sub_batch not in (None, batch // (parts * n_devices)):
        each = "" if sub_batch is None else f", {sub_batch} images at a time on each"
        raise UsageError(
            f"a batch of {batch} images does not divide into {parts} parts on {n_devices} devices{each}: "
            "batch_size must be n_sub_batch x devices x accumulate"
        )
    return {"batch_size": batch, "accumulate": parts}


def outcome(
    options: argparse.Namespace, history: list[dict[str, float]], period: int, settings: PretrainSettings
) -> tuple[dict, dict[str, float]]:
    """What the preset of a run is, for --json, and the logs of the period that its weights are of.

    Args:
        options: of the command.
        history: of the run.
        period: steps a period.
        settings: of the run; with patience, the weights are the best ones.
    """
    from igpt_tf.training.checkpoint import best_period

    number = len(history) if settings.patience is None else best_period(history)
    steps = {"steps": len(history) * period, "weights_of_step": number * period}
    return {"preset": str(options.out), **steps, "averaged": settings.ema is not None}, history[number - 1]


def progress_bar(n_periods: int, period: int, n_parts: int) -> keras.callbacks.Callback:
    """A bar over all steps of a run of so many periods, on standard error, with the latest losses."""
    import keras
    from tqdm import tqdm

    class ProgressBar(keras.callbacks.Callback):
        # On JAX, Keras may then run ahead instead of waiting for every loss.
        async_safe = True

        def on_train_begin(self, logs=None) -> None:
            self.bar = tqdm(total=n_periods * period, unit="step")

        def on_epoch_begin(self, epoch, logs=None) -> None:
            self.bar.update(epoch * period - self.bar.n)

        def on_train_batch_end(self, batch, logs=None) -> None:
            if (batch + 1) % n_parts == 0:
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
        UserError: on another backend than TensorFlow, which alone writes it, without the package, or if the folder
            cannot be written.
    """
    import importlib.util

    import keras

    from igpt_tf.storage.files import require_writable

    if keras.backend.backend() != "tensorflow":
        raise UserError("--log_dir needs the TensorFlow backend, which alone writes TensorBoard's files: see log.csv")
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--log_dir needs the package tensorboard, which is not installed: pip install tensorboard")
    require_writable(folder)
    return keras.callbacks.TensorBoard(folder, write_graph=False)
