"""Fine-tune a model to tell classes apart."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from igpt_tf.cli.console import remark
from igpt_tf.cli.opening import open_model, resolve_palette, warn_of_same_images
from igpt_tf.cli.parser import add_model_options, positive
from igpt_tf.cli.program import command
from igpt_tf.cli.source import add_key_options, open_images
from igpt_tf.cli.training import Trainer, add_training_options, train
from igpt_tf.errors import UsageError
from igpt_tf.training.settings import FinetuneSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from igpt_tf.data.labelled import LabelledTokens
    from igpt_tf.model.classifier import ImageGPTClassifier
    from igpt_tf.training.best import Logs
    from igpt_tf.training.recipes import Recipe
    from igpt_tf.weights.presets import Preset

EXAMPLES = ("--data pets --out pets-classifier", "--data pets --model my-model --lora_rank 8 --out pets-classifier")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--data", required=True, help=f"images with labels: a token store, or any source of {command('tokenize')}")
    add_key_options(parser)
    add("--validation", help="images with labels that are not trained on")
    add(
        "--holdout",
        type=float,
        default=0.1,
        help="without --validation: how much of each class is held out of the data instead; 0 trains on everything",
    )
    add("--validation_images", type=positive, default=2000, help="validation images, at most")
    add_model_options(parser)
    add_training_options(parser, FinetuneSettings)


def run(options: argparse.Namespace) -> None:
    """Train, or resume an earlier run, and write the preset."""
    if not 0 <= options.holdout < 1:
        raise UsageError(f"--holdout: expected a share from 0 to below 1, got {options.holdout}")
    if options.validation is None and not options.holdout and not hasattr(options, "patience"):
        # Without validation there is nothing to wait for, unless that was typed.
        options.patience = None
    train(options, FinetuneSettings, Finetuning)


class Finetuning(Trainer[FinetuneSettings, "ImageGPTClassifier"]):
    """A classifier that begins with the weights of a preset, trained on images with labels."""

    data: LabelledTokens

    def __init__(self, options: argparse.Namespace, recipe: Recipe | None) -> None:
        self.options = options
        self.preset: Preset = open_model(options)
        self.config = self.preset.config
        self.sources = [open_images(options, path) for path in (options.data, options.validation) if path is not None]
        self.palette = resolve_palette(options, self.preset, *self.sources)

    def read(self, settings: FinetuneSettings) -> None:
        """Read the images to train on, and those to validate on."""
        from igpt_tf.data.open import read_labelled
        from igpt_tf.data.split import hold_out, stratified_order

        options, config = self.options, self.config
        data = read_labelled(self.sources[0], config.n_px, self.palette, config.n_vocab)
        self.data, self.validation = data, None
        if len(self.sources) > 1:
            validation = read_labelled(self.sources[1], config.n_px, self.palette, config.n_vocab, like=data)
            warn_of_same_images(data, validation)
            chosen = stratified_order(validation.labels, settings.seed)[: options.validation_images]
            self.validation = validation.part(chosen)
        elif options.holdout:
            share = min(options.holdout, options.validation_images / len(data))
            kept, held = hold_out(data.labels, share, settings.seed)
            self.data, self.validation = data.part(kept), data.part(held)

    def new_model(self) -> ImageGPTClassifier:
        """The classifier, with the preset's head if it is for these classes."""
        from igpt_tf.backend.processes import process_share
        from igpt_tf.training.finetune import new_classifier

        options, data, preset = self.options, self.data, self.preset
        model = new_classifier(preset, data.n_class, data.classes, options.mixed_precision, options.remat)
        if process_share().process == 0 and data.classes is None and model.classes is not None:
            remark(f"{options.data} does not name its classes: using {preset.source}'s names, in their order")
        return model

    def function(self) -> Callable[..., list[Logs]]:
        """`finetune`."""
        from igpt_tf.training.finetune import finetune

        return finetune

    def describe(self, logs: Logs, best: bool, fields: dict[str, Any]) -> tuple[dict[str, float], str]:
        """Losses in nats, and accuracies."""
        figures = {name: value for name, value in logs.items() if name != "learning_rate"}
        shown = [
            f"{name} {100 * value:.2f} %" if "accuracy" in name else f"{name} {value:.4f}"
            for name, value in figures.items()
        ]
        which = ", the best" if best else ""
        return figures, f"{', '.join(shown)} (step {fields['weights_of_step']} of {fields['steps']}{which})"
