"""Fine-tune a model to tell classes apart."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.course import (
    UNSET,
    add_course_options,
    add_run_options,
    choose_course,
    outcome,
    progress_bar,
    tensorboard,
)
from igpt_tf.cli.machines import check_machines, models_scope, start_backend
from igpt_tf.cli.opening import open_model, palette_for, warn, warn_of_same_images
from igpt_tf.cli.parser import add_model_options, non_negative, positive
from igpt_tf.errors import UsageError, UserError
from igpt_tf.training.settings import FinetuneSettings

if TYPE_CHECKING:
    from igpt_tf.data.labelled import LabelledTokens
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.weights.presets import Preset


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--data", required=True, help="images with labels: a token store, or any source of run.py tokenize"
    )
    parser.add_argument("--out", type=Path, required=True, help="the preset folder; training/ in it keeps the state")
    parser.add_argument("--validation", help="images with labels that are not trained on")
    parser.add_argument(
        "--holdout",
        type=float,
        default=0.1,
        help="without --validation: how much of each class is held out of the data instead; 0 trains on everything",
    )
    parser.add_argument("--validation_images", type=positive, default=2000, help="at most so many are validated on")
    add_model_options(parser)
    course = add_course_options(parser, FinetuneSettings)
    course.add_argument(
        "--generative_weight",
        type=float,
        default=UNSET,
        help=f"weight of the generative loss beside the classes' ({FinetuneSettings.generative_weight:g})",
    )
    course.add_argument(
        "--freeze", type=non_negative, default=UNSET, help="leave the embeddings and so many first blocks as they are"
    )
    course.add_argument(
        "--lora_rank", type=positive, default=UNSET, help="train the head and adapters of this rank, nothing else"
    )
    course.add_argument(
        "--no_mask", dest="mask", action="store_false", default=UNSET, help="BERT: train on whole images"
    )
    add_run_options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, going on where an earlier run stopped, and write the preset."""
    check_machines(options)
    if not 0 <= options.holdout < 1:
        raise UsageError(f"--holdout: expected a share from 0 to below 1, found {options.holdout}")
    _with_patience(options)
    choose_course(options, FinetuneSettings)
    process = start_backend(options)
    import keras

    from igpt_tf.backend.devices import choose_devices
    from igpt_tf.backend.processes import all_or_none
    from igpt_tf.storage.files import require_writable
    from igpt_tf.training.finetune import finetune, new_classifier

    with all_or_none():
        preset = open_model(options)
        devices = choose_devices(options.n_gpu)
        scope = models_scope(options, devices, preset.config.n_head)
        settings = choose_course(options, FinetuneSettings, n_devices=len(devices) // options.model_parallel)
        if process == 0:
            require_writable(options.out)
        callbacks = [] if options.log_dir is None else [tensorboard(options.log_dir)]
        # Last, because reading may take long.
        data, validation, palette = _read_data(options, preset, settings)
    n_periods, period = settings.plan(len(data))
    if process == 0:
        callbacks.append(progress_bar(n_periods, period, settings.accumulate))
    keras.utils.set_random_seed(settings.seed)
    with scope:
        classifier = new_classifier(preset, data.n_class, data.classes, options.mixed_precision, options.remat)
    if process == 0 and data.classes is None and classifier.classes is not None:
        warn(f"{options.data} does not name its classes: taken for {preset.source}'s, in their order")
    history = finetune(
        classifier,
        data,
        settings,
        options.out / "training",
        validation,
        callbacks,
        init_from=preset.fingerprint(),
        keep=options.keep,
        accept_changes=options.accept_changes,
        warn=warn,
    )
    if process == 0:
        classifier.save_to_preset(options.out, palette)
        _report(options, history, period, settings)


def _with_patience(options: argparse.Namespace) -> None:
    """Nothing waits for a better validation where there is none, unless that was typed."""
    if options.validation is None and not options.holdout and not hasattr(options, "patience"):
        options.patience = None


def _read_data(
    options: argparse.Namespace, preset: Preset, settings: FinetuneSettings
) -> tuple[LabelledTokens, LabelledTokens | None, Palette | None]:
    """Images to train on, those to validate on or None, and the palette of both."""
    from igpt_tf.data.labelled import open_images, read_labelled
    from igpt_tf.data.split import hold_out, stratified_order

    config = preset.config

    def read(path: str, others: Palette | None = None) -> tuple[LabelledTokens, Palette | None]:
        images = open_images(path)
        palette = palette_for(options, preset, images, others)
        return read_labelled(images, config.n_px, palette, config.n_vocab), palette or getattr(images, "palette", None)

    data, palette = read(options.data)
    if palette is not None and len(palette) != config.n_vocab:
        raise UserError(
            f"{options.data}: expected a store of {config.n_vocab} colours for {preset.source}, found {len(palette)}; "
            "tokenize with the palette that the model was trained with"
        )
    validation = None
    if options.validation is not None:
        validation, _ = read(options.validation, palette)
        validation.require_classes(data.n_class, data.classes)
        warn_of_same_images(data, validation)
        chosen = stratified_order(validation.labels, settings.seed)[: options.validation_images]
        validation = validation.part(chosen)
    elif options.holdout:
        kept, held = hold_out(data.labels, min(options.holdout, options.validation_images / len(data)), settings.seed)
        data, validation = data.part(kept), data.part(held)
    return data, validation, palette


def _report(
    options: argparse.Namespace, history: list[dict[str, float]], period: int, settings: FinetuneSettings
) -> None:
    """Print what the preset is, and how well it does."""
    fields, logs = outcome(options, history, period, settings)
    found = {name: value for name, value in logs.items() if name != "learning_rate"}
    if options.json:
        print(json.dumps({**fields, **found}))
        return
    told = [
        f"{name} {100 * value:.2f} %" if "accuracy" in name else f"{name} {value:.4f}" for name, value in found.items()
    ]
    best = "" if settings.patience is None else ", the best"
    print(f"{options.out}: {', '.join(told)} (step {fields['weights_of_step']} of {fields['steps']}{best})")
