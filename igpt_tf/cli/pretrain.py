"""Train a model on images of your own."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.course import (
    RECIPES_HELP,
    UNSET,
    ListRecipes,
    add_course_options,
    add_run_options,
    choose_course,
    outcome,
    progress_bar,
    tensorboard,
)
from igpt_tf.cli.machines import check_machines, models_scope, start_backend
from igpt_tf.cli.opening import open_palette, warn
from igpt_tf.cli.parser import SHAPE_OPTIONS, positive
from igpt_tf.errors import UsageError, UserError
from igpt_tf.training.settings import PretrainSettings

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.config import ImageGPTConfig
    from igpt_tf.data.store.store import TokenStore
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.training.recipes import Recipe
    from igpt_tf.weights.presets import Preset


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options; those of the course are left unset, so that a recipe can be told from what was typed."""
    parser.add_argument(
        "--data", required=True, help="a token store, or any source of pictures: see run.py tokenize --help"
    )
    parser.add_argument("--palette", "--color_cluster_path", type=Path, help="palette .npy, from: run.py palette")
    parser.add_argument("--out", type=Path, required=True, help="the preset folder; training/ in it keeps the state")
    parser.add_argument("--validation", help="images or tokens that are not trained on")
    parser.add_argument("--validation_images", type=positive, default=256, help="how many of them, drawn at random")
    parser.add_argument("--recipe", action=ListRecipes, default=None, help=RECIPES_HELP)
    parser.add_argument("--list_recipes", action=ListRecipes, nargs=0, help="print the recipes and end")
    parser.add_argument(
        "--init_from", metavar="PRESET", help="weights to begin with, and their palette: a name or path as for --model"
    )
    shape = parser.add_argument_group("shape", "of the size, or of the recipe, but for what is typed")
    shape.add_argument("--size", choices=("nano", "s", "m", "l", "xl"), default=UNSET, help="a size by name (nano)")
    for name in SHAPE_OPTIONS:
        shape.add_argument(f"--{name}", type=positive, default=UNSET, help=name)
    shape.add_argument("--bert", action="store_true", default=UNSET, help="the BERT objective: hidden pixels, any way")
    add_course_options(parser, PretrainSettings)
    parser.add_argument("--sample_every", type=positive, help="checkpoints between two pictures of samples")
    add_run_options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, going on where an earlier run stopped, and write the preset."""
    from igpt_tf.training.recipes import find_recipe

    check_machines(options)
    recipe = None if options.recipe is None else find_recipe(options.recipe)
    preset = None if options.init_from is None else _preset(options, recipe)
    store = _store(options)
    palette = _palette(options, preset, store)
    config = preset.config if preset else _config(options, None if recipe is None else recipe.config, palette, store)
    if options.sample_every is not None and (palette is None or config.bert):
        reason = "needs --palette, to colour what is drawn" if palette is None else "is not for BERT models"
        raise UsageError(f"--sample_every {reason}")
    if options.sample_every is not None and options.model_parallel > 1:
        raise UsageError("--sample_every draws with models that are whole on each device: leave out --model_parallel")
    choose_course(options, PretrainSettings, recipe)
    process = start_backend(options)
    import keras

    from igpt_tf.backend.devices import choose_devices
    from igpt_tf.backend.processes import all_or_none
    from igpt_tf.storage.files import require_writable
    from igpt_tf.training.callbacks import SampleGrids
    from igpt_tf.training.pretrain import new_model, pretrain

    with all_or_none():
        devices = choose_devices(options.n_gpu)
        scope = models_scope(options, devices, config.n_head)
        settings = choose_course(options, PretrainSettings, recipe, len(devices) // options.model_parallel)
        if process == 0:
            require_writable(options.out)
        callbacks = [] if options.log_dir is None else [tensorboard(options.log_dir)]
        # Last, because reading may take long.
        tokens, validation = _read_data(options, config, palette)
    folder = options.out / "training"
    n_periods, period = settings.plan(len(tokens))
    if process == 0:
        callbacks.append(progress_bar(n_periods, period, settings.accumulate))
    if options.sample_every is not None:
        callbacks.append(SampleGrids(folder, palette, options.sample_every, writes=process == 0))
    keras.utils.set_random_seed(settings.seed)
    with scope:
        model = new_model(preset or config, options.mixed_precision, options.remat)
    history = pretrain(
        model,
        tokens,
        settings,
        folder,
        validation,
        callbacks,
        init_from=preset and preset.fingerprint(),
        keep=options.keep,
        accept_changes=options.accept_changes,
        warn=warn,
    )
    if process:
        return
    model.save_to_preset(options.out, palette)
    _report(options, history, period, settings)


def _report(
    options: argparse.Namespace, history: list[dict[str, float]], period: int, settings: PretrainSettings
) -> None:
    """Print what the preset is, and its losses."""
    fields, logs = outcome(options, history, period, settings)
    losses = {name: value for name, value in logs.items() if name.endswith("loss")}
    if options.json:
        print(json.dumps({**fields, **losses}))
        return
    text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
    best = settings.patience is not None
    which = f", of the best checkpoint, step {fields['weights_of_step']} of {fields['steps']}" if best else ""
    which += ", averaged weights" if fields["averaged"] else ""
    print(f"{options.out}: {text} (nats per token{which})")


def _preset(options: argparse.Namespace, recipe: Recipe | None) -> Preset:
    """The weights to begin with; what was typed of their shape must be true, and a recipe's too."""
    from igpt_tf.weights.presets import check_shape, open_preset

    preset = open_preset(options.init_from)
    if hasattr(options, "size"):
        raise UsageError(f"--size {options.size}: the weights of --init_from have a shape of their own; leave it out")
    typed = {name: getattr(options, name) for name in (*SHAPE_OPTIONS, "bert") if hasattr(options, name)}
    check_shape(preset.config, **typed)
    if recipe is not None and recipe.config != preset.config:
        raise UsageError(
            f"--recipe {options.recipe}: expected weights of its shape ({recipe.config}), "
            f"found {preset.config} in --init_from {options.init_from}; leave one of them out"
        )
    return preset


def _store(options: argparse.Namespace) -> TokenStore | None:
    """The token store to train on, if the data are one."""
    from igpt_tf.data.store.store import STORE, TokenStore

    return TokenStore.open(Path(options.data)) if (Path(options.data) / STORE).exists() else None


def _palette(options: argparse.Namespace, preset: Preset | None, store: TokenStore | None) -> Palette | None:
    """The palette that was named, that of the weights to begin with, or the one of the token store to train on."""
    from igpt_tf.pictures.palette import Palette

    if preset is not None and (options.palette is not None or preset.palette() is not None):
        return open_palette(options, preset)
    if options.palette is not None:
        return Palette.load(options.palette)
    if store is None:
        return None
    if preset is not None and len(store.palette) != preset.config.n_vocab:
        raise UserError(
            f"{options.data}: expected a store of {preset.config.n_vocab} colours for the weights of --init_from, "
            f"found {len(store.palette)}; tokenize with the palette that they were trained with"
        )
    return store.palette


def _config(
    options: argparse.Namespace, base: ImageGPTConfig | None, palette: Palette | None, store: TokenStore | None
) -> ImageGPTConfig:
    """The recipe's or the named size's shape with what was typed beside it, and what palette and store say."""
    from igpt_tf.config import SIZES

    typed = {name: getattr(options, name) for name in (*SHAPE_OPTIONS, "bert") if hasattr(options, name)}
    if palette is not None and typed.setdefault("n_vocab", len(palette)) != len(palette):
        raise UsageError(
            f"--n_vocab {typed['n_vocab']} was given, but {options.palette or options.data} has {len(palette)} colours"
        )
    if store is not None and base is None:
        typed.setdefault("n_px", store.n_px)
    if base is None or hasattr(options, "size"):
        kept = {} if base is None else {"n_px": base.n_px, "bert": base.bert}
        base = dataclasses.replace(SIZES[getattr(options, "size", "nano")], **kept)
    try:
        return dataclasses.replace(base, **typed)
    except UserError as error:
        raise UsageError(str(error)) from error


def _read_data(
    options: argparse.Namespace, config: ImageGPTConfig, palette: Palette | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Tokens to train on, and those to validate on or None."""
    import numpy as np

    from igpt_tf.data.store.store import open_tokens

    tokens = open_tokens(options.data, config.n_px, palette, config.n_vocab)
    if options.validation is None:
        return tokens, None
    validation = open_tokens(options.validation, config.n_px, palette, config.n_vocab)
    chosen = np.random.default_rng(0).permutation(len(validation))[: options.validation_images]
    return tokens, validation[chosen]
