"""Train a model on images of your own."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from igpt_tf.cli.distributed import is_one_of_several
from igpt_tf.cli.opening import check_shape, open_named_preset, resolve_palette
from igpt_tf.cli.parser import SHAPE_OPTIONS, positive
from igpt_tf.cli.program import command
from igpt_tf.cli.settings import UNSET
from igpt_tf.cli.source import add_key_options, open_images
from igpt_tf.cli.training import TRAINING, Trainer, add_training_options, train
from igpt_tf.errors import UsageError, UserError
from igpt_tf.training.settings import PretrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import keras
    import numpy as np

    from igpt_tf.config import ImageGPTConfig
    from igpt_tf.data.labelled import LabelledTokens
    from igpt_tf.data.sources.open import Source
    from igpt_tf.data.store.store import TokenStore
    from igpt_tf.data.tokens import Tokens
    from igpt_tf.model.image_gpt import ImageGPT
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.training.best import Logs
    from igpt_tf.training.recipes import Recipe
    from igpt_tf.weights.presets import Preset

EXAMPLES = ("--data photos.tokens --out my-model", "--data photos.tokens --time_limit 8h --out my-model")


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
    add = parser.add_argument
    add("--data", required=True, help=f"a token store, or any source of pictures: see {command('tokenize --help')}")
    add(
        "--palette",
        "--color_cluster_path",
        type=Path,
        help=f"a .npy from {command('palette fit')}, or a model with one (for pictures: fitted to them)",
    )
    add_key_options(parser)
    add("--validation", help="images or tokens that are not trained on")
    add("--validation_images", type=positive, default=256, help="how many of them, at random")
    add("--recipe", action=ListRecipes, help="settings by name, see --list_recipes; whatever else is typed counts more")
    add("--list_recipes", action=ListRecipes, nargs=0, help="print the recipes and end")
    add("--init_from", metavar="PRESET", help="weights to begin with, and their palette: a name or path")
    shape = parser.add_argument_group("shape", "that of --size or of the recipe, except for what is typed")
    shape.add_argument("--size", choices=("nano", "s", "m", "l", "xl"), default=UNSET, help="a size by name (nano)")
    for name in SHAPE_OPTIONS:
        shape.add_argument(f"--{name}", type=positive, default=UNSET, help=name)
    shape.add_argument("--bert", action="store_true", default=UNSET, help="BERT objective: predict hidden pixels")
    add("--sample_every", type=positive, help="checkpoints between two pictures of samples")
    add(
        "--conditional",
        action="store_true",
        help="train a model of each class: the data need labels, as of a folder with a subfolder for each class",
    )
    add_training_options(parser, PretrainSettings)


def run(options: argparse.Namespace) -> None:
    """Train, or resume an earlier run, and write the preset."""
    from igpt_tf.training.recipes import find_recipe

    train(options, PretrainSettings, Pretraining, None if options.recipe is None else find_recipe(options.recipe))


class Pretraining(Trainer[PretrainSettings, "ImageGPT"]):
    """A new model, or the weights of a preset, trained on tokens."""

    def __init__(self, options: argparse.Namespace, recipe: Recipe | None) -> None:
        from igpt_tf.cli.preparing import prepare
        from igpt_tf.data.open import require_labels

        self.options = options
        self.preset = None if options.init_from is None else _preset(options, recipe)
        self.images = open_images(options, options.data)
        self.held_out = None if options.validation is None else open_images(options, options.validation)
        if options.palette is None and self.preset is None and not self.images.are_tokens:
            if is_one_of_several(options):
                raise UserError(
                    f"{options.data}: expected a token store for several processes, got pictures without a palette: "
                    "make one with `igpt palette fit` and `igpt tokenize`"
                )
            wanted = _config(options, recipe, None, self.images)
            # A source is all that is no token store.
            self.images = prepare(cast("Source", self.images), options.out / TRAINING, wanted.n_px, wanted.n_vocab)
        self.palette = resolve_palette(options, self.preset, self.images)
        self.config = self.preset.config if self.preset else _config(options, recipe, self.palette, self.images)
        self.labels, self.classes = None, None
        self.conditional = options.conditional or (recipe is not None and recipe.config.n_start > 1)
        if self.conditional:
            require_labels(self.images)
        if options.sample_every is None:
            return
        if self.palette is None:
            raise UsageError("--sample_every: expected a palette, got none to colour the samples: give --palette")
        if self.config.bert:
            raise UsageError("--sample_every: expected an autoregressive model, got a BERT model: leave it out")
        if options.model_parallel > 1:
            raise UsageError(
                "--sample_every: expected a whole model on each device, got --model_parallel: leave it out"
            )

    def _take_classes(self, data: LabelledTokens) -> Tokens:
        """Take the labels of the images; a new model gets as many classes, an old one must know them."""
        if self.preset is None:
            data = data.numbered()
            self.config = dataclasses.replace(self.config, n_start=1 + data.n_class)
        else:
            n_start, names = self.config.n_start, self.preset.start_classes
            try:
                data = data.in_classes(n_start - 1, names)
            except UserError as error:
                expected, got = _listed(names, n_start), _listed(data.classes, 1 + data.n_class)
                raise UserError(
                    f"{self.options.data}: expected the classes of the weights of --init_from, {expected}, got {got}: "
                    "leave out --conditional, or begin with a new model"
                ) from error
        self.labels, self.classes = data.labels, data.classes
        return data.tokens

    def read(self, settings: PretrainSettings) -> None:
        """Read the tokens to train on and to validate on."""
        import numpy as np

        from igpt_tf.data.labelled import LabelledTokens

        self.data, labels = self._read(self.images)
        if self.conditional and labels is not None:
            self.data = self._take_classes(LabelledTokens(self.images.name, self.data, labels, self.images.classes))
        self.validation = None
        if self.held_out is not None:
            validation, _ = self._read(self.held_out)
            chosen = np.random.default_rng(0).permutation(len(validation))[: self.options.validation_images]
            self.validation = validation[chosen]

    def _read(self, images: TokenStore | Source) -> tuple[Tokens, np.ndarray | None]:
        from igpt_tf.data.open import read_data

        return read_data(images, self.config.n_px, self.palette, self.config.n_vocab)

    def new_model(self) -> ImageGPT:
        """A new model, or that of --init_from."""
        from igpt_tf.training.pretrain import new_model

        return new_model(self.preset or self.config, self.options.mixed_precision, self.options.remat, self.classes)

    def callbacks(self, folder: Path, writes: bool) -> list[keras.callbacks.Callback]:
        """Grids of samples, if --sample_every asks for them."""
        from igpt_tf.training.callbacks import SampleGrids

        every, log_dir = self.options.sample_every, self.options.log_dir
        if every is None or self.palette is None:
            return []
        return [SampleGrids(folder, self.palette, every, writes=writes, log_dir=log_dir)]

    def function(self) -> Callable[..., list[Logs]]:
        """`pretrain`, with the labels where the model is to learn them."""
        from igpt_tf.training.pretrain import pretrain

        return functools.partial(pretrain, labels=self.labels)

    def describe(self, logs: Logs, best: bool, fields: dict[str, Any]) -> tuple[dict[str, float], str]:
        """The losses, in nats per token."""
        losses = {name: value for name, value in logs.items() if name.endswith("loss")}
        text = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        which = f", of the best checkpoint, step {fields['weights_of_step']} of {fields['steps']}" if best else ""
        which += ", averaged weights" if fields["averaged"] else ""
        return losses, f"{text} (nats per token{which})"


def _listed(classes: Sequence[str] | None, n_start: int) -> str:
    """The names of the classes of start embeddings, or how many there are."""
    return ", ".join(classes) if classes else f"{n_start - 1} without names"


def _typed_shape(options: argparse.Namespace) -> dict[str, int]:
    return {name: getattr(options, name) for name in (*SHAPE_OPTIONS, "bert") if hasattr(options, name)}


def _preset(options: argparse.Namespace, recipe: Recipe | None) -> Preset:
    """The weights to begin with; what was typed of their shape must be true, and a recipe's too."""
    preset = open_named_preset(options.init_from)
    if hasattr(options, "size"):
        raise UsageError(f"expected the shape of --init_from alone, got --size {options.size} too: leave it out")
    check_shape(preset.config, **_typed_shape(options))
    if recipe is not None and recipe.config != preset.config:
        raise UsageError(
            f"--recipe {options.recipe}: expected weights of its shape ({recipe.config}), got {preset.config} in "
            f"--init_from {options.init_from}: leave one of them out"
        )
    return preset


def _config(
    options: argparse.Namespace, recipe: Recipe | None, palette: Palette | None, images: TokenStore | Source
) -> ImageGPTConfig:
    """The recipe's or the named size's shape with what was typed beside it, and what palette and images say."""
    from igpt_tf.config import SIZES
    from igpt_tf.data.store.store import TokenStore

    typed = _typed_shape(options)
    if palette is not None and typed.setdefault("n_vocab", len(palette)) != len(palette):
        raise UsageError(
            f"--n_vocab: expected {len(palette)}, the colours of {options.palette or options.data}, "
            f"got {typed['n_vocab']}: leave it out"
        )
    if isinstance(images, TokenStore) and recipe is None:
        typed.setdefault("n_px", images.n_px)
    base = SIZES[getattr(options, "size", "nano")] if recipe is None else recipe.config
    if recipe is not None and hasattr(options, "size"):
        base = dataclasses.replace(SIZES[options.size], n_px=base.n_px, bert=base.bert, n_start=base.n_start)
    try:
        return dataclasses.replace(base, **typed)
    except UserError as error:
        raise UsageError(str(error)) from error
