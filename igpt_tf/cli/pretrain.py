"""Train a model on images of your own."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igpt_tf.cli.opening import check_shape, resolve_palette
from igpt_tf.cli.parser import SHAPE_OPTIONS, positive
from igpt_tf.cli.program import command
from igpt_tf.cli.training import UNSET, Trainer, add_training_options, train
from igpt_tf.errors import UsageError, UserError
from igpt_tf.training.settings import PretrainSettings

if TYPE_CHECKING:
    import keras

    from igpt_tf.config import ImageGPTConfig
    from igpt_tf.data.sources.open import Source
    from igpt_tf.data.store.store import TokenStore
    from igpt_tf.data.tokens import Tokens
    from igpt_tf.model.image_gpt import ImageGPT
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.training.best import Logs
    from igpt_tf.training.checkpoint import RunFolder
    from igpt_tf.training.recipes import Recipe
    from igpt_tf.weights.presets import Preset


RECIPES_HELP = "settings by name, see --list_recipes; whatever else is typed counts more"


class ListRecipes(argparse.Action):
    """Stores the name of a recipe; for `list`, and for a flag without a name, prints all recipes and ends."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Store the value, or print."""
        if self.nargs == 0 or values == "list":
            from igpt_tf.training.recipes import describe_recipes

            print(describe_recipes())
            parser.exit(0)
        setattr(namespace, self.dest, values)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options; settings stay unset, so that what was typed can be told from a recipe."""
    parser.add_argument(
        "--data", required=True, help=f"a token store, or any source of pictures: see {command('tokenize --help')}"
    )
    parser.add_argument("--palette", "--color_cluster_path", type=Path, help=f"a .npy from {command('palette fit')}")
    parser.add_argument("--out", type=Path, required=True, help="the preset folder; training/ in it keeps the state")
    parser.add_argument("--validation", help="images or tokens that are not trained on")
    parser.add_argument("--validation_images", type=positive, default=256, help="how many of them, at random")
    parser.add_argument("--recipe", action=ListRecipes, default=None, help=RECIPES_HELP)
    parser.add_argument("--list_recipes", action=ListRecipes, nargs=0, help="print the recipes and end")
    parser.add_argument(
        "--init_from", metavar="PRESET", help="weights to begin with, and their palette: a name or path"
    )
    shape = parser.add_argument_group("shape", "that of --size or of the recipe, except for what is typed")
    shape.add_argument("--size", choices=("nano", "s", "m", "l", "xl"), default=UNSET, help="a size by name (nano)")
    for name in SHAPE_OPTIONS:
        shape.add_argument(f"--{name}", type=positive, default=UNSET, help=name)
    shape.add_argument("--bert", action="store_true", default=UNSET, help="BERT objective: predict hidden pixels")
    parser.add_argument("--sample_every", type=positive, help="checkpoints between two pictures of samples")
    add_training_options(parser, PretrainSettings)


def run(options: argparse.Namespace) -> None:
    """Train, or resume an earlier run, and write the preset."""
    from igpt_tf.training.recipes import find_recipe

    train(options, PretrainSettings, Pretraining, None if options.recipe is None else find_recipe(options.recipe))


class Pretraining(Trainer[PretrainSettings, "ImageGPT"]):
    """A new model, or the weights of a preset, trained on tokens."""

    def __init__(self, options: argparse.Namespace, recipe: Recipe | None) -> None:
        from igpt_tf.data.open import open_data

        super().__init__(options, recipe)
        self.preset = None if options.init_from is None else _preset(options, recipe)
        self.images = open_data(options.data)
        self.palette = resolve_palette(options, self.preset, self.images)
        base = None if recipe is None else recipe.config
        self.config = self.preset.config if self.preset else _config(options, base, self.palette, self.images)
        self.n_head = self.config.n_head
        if options.sample_every is None:
            return
        if self.palette is None or self.config.bert:
            reason = "needs --palette, to colour the samples" if self.palette is None else "is not for BERT models"
            raise UsageError(f"--sample_every {reason}")
        if options.model_parallel > 1:
            raise UsageError("--sample_every needs a model that is whole on each device: leave out --model_parallel")

    def read(self, settings: PretrainSettings) -> int:
        """Read the tokens to train on and to validate on."""
        import numpy as np

        from igpt_tf.data.open import open_data

        options = self.options
        self.tokens, self.validation = self._read(self.images), None
        if options.validation is not None:
            validation = self._read(open_data(options.validation))
            chosen = np.random.default_rng(0).permutation(len(validation))[: options.validation_images]
            self.validation = validation[chosen]
        return len(self.tokens)

    def _read(self, images: TokenStore | Source) -> Tokens:
        from igpt_tf.data.open import read_tokens

        return read_tokens(images, self.config.n_px, self.palette, self.config.n_vocab)

    def new_model(self) -> ImageGPT:
        """A new model, or that of --init_from."""
        from igpt_tf.training.pretrain import new_model

        return new_model(self.preset or self.config, self.options.mixed_precision, self.options.remat)

    def callbacks(self, folder: Path, writes: bool) -> list[keras.callbacks.Callback]:
        """Grids of samples, if --sample_every asks for them."""
        from igpt_tf.training.callbacks import SampleGrids

        every = self.options.sample_every
        if every is None or self.palette is None:
            return []
        return [SampleGrids(folder, self.palette, every, writes=writes)]

    def run(
        self,
        model: ImageGPT,
        settings: PretrainSettings,
        folder: RunFolder,
        callbacks: list[keras.callbacks.Callback],
    ) -> list[Logs]:
        """Pretrain."""
        from igpt_tf.training.pretrain import pretrain

        init_from = self.preset and self.preset.fingerprint()
        return pretrain(model, self.tokens, settings, folder, self.validation, callbacks, init_from=init_from)

    def describe(self, logs: Logs, best: bool, fields: dict[str, Any]) -> tuple[dict[str, float], str]:
        """The losses, in nats per token."""
        losses = {name: value for name, value in logs.items() if name.endswith("loss")}
        text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        which = f", of the best checkpoint, step {fields['weights_of_step']} of {fields['steps']}" if best else ""
        which += ", averaged weights" if fields["averaged"] else ""
        return losses, f"{text} (nats per token{which})"


def _preset(options: argparse.Namespace, recipe: Recipe | None) -> Preset:
    """The weights to begin with; what was typed of their shape must be true, and a recipe's too."""
    from igpt_tf.weights.presets import open_preset

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


def _config(
    options: argparse.Namespace, base: ImageGPTConfig | None, palette: Palette | None, images: TokenStore | Source
) -> ImageGPTConfig:
    """The recipe's or the named size's shape with what was typed beside it, and what palette and images say."""
    from igpt_tf.config import SIZES
    from igpt_tf.data.store.store import TokenStore

    typed = {name: getattr(options, name) for name in (*SHAPE_OPTIONS, "bert") if hasattr(options, name)}
    if palette is not None and typed.setdefault("n_vocab", len(palette)) != len(palette):
        raise UsageError(
            f"--n_vocab {typed['n_vocab']} was given, but {options.palette or options.data} has {len(palette)} colours"
        )
    if isinstance(images, TokenStore) and base is None:
        typed.setdefault("n_px", images.n_px)
    if base is None or hasattr(options, "size"):
        kept = {} if base is None else {"n_px": base.n_px, "bert": base.bert}
        base = dataclasses.replace(SIZES[getattr(options, "size", "nano")], **kept)
    try:
        return dataclasses.replace(base, **typed)
    except UserError as error:
        raise UsageError(str(error)) from error
