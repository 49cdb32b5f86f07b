"""Training all parts of a cascade, one after another; each resumes where it was stopped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from igpt_tf.data.image_rows import HELD, held_images, require_images
from igpt_tf.data.sources.open import Source
from igpt_tf.errors import UserError
from igpt_tf.latent.adapt import adapt
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.cascade import Cascade
from igpt_tf.latent.codebook import CODEBOOK_FILE, Codebook, encode_stores
from igpt_tf.latent.codebook_report import count_codes
from igpt_tf.latent.maps import MapStore, encode_source
from igpt_tf.latent.recipe import CascadeRecipe
from igpt_tf.latent.refiner import Refiner
from igpt_tf.latent.settings import AutoencoderSettings, CodebookSettings
from igpt_tf.latent.train import train_autoencoder
from igpt_tf.latent.train_codebook import train_codebook
from igpt_tf.latent.train_refiner import new_refiner, train_refiner
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.training.callbacks import TimeLimit
from igpt_tf.training.pretrain import new_model, pretrain
from igpt_tf.training.settings import RunSettings

# Images on whose maps a codebook is trained before it and the autoencoder are trained together.
FIRST_IMAGES = 10_000


class OutOfTimeError(Exception):
    """A time limit stopped a part at a checkpoint."""


@dataclasses.dataclass(frozen=True)
class CascadeTraining:
    """A folder in which a cascade is trained; every part of it is made once and found again.

    Attributes:
        recipe: shapes and settings.
        folder: where the parts go while they are made.
        tell: is called with a line before each part.
        mixed_precision: train in bfloat16.
        callbacks: makes Keras callbacks for a part of these settings.
        limit: stops training at a checkpoint when its time is up; None: nothing does.
        progress: show progress bars on standard error.
    """

    recipe: CascadeRecipe
    folder: Path
    tell: Callable[[str], object] = str
    mixed_precision: bool = False
    callbacks: Callable[[RunSettings], list[keras.callbacks.Callback]] = lambda settings: []
    limit: TimeLimit | None = None
    progress: bool = False

    def train(self, images: Source | np.ndarray, validation: Source | np.ndarray | None = None) -> Cascade:
        """Train the parts that are not trained yet, and return the cascade.

        Args:
            images: a source of images, or uint8 (N, height, width, 3).
            validation: other images, on which every part is evaluated after each save interval.

        Raises:
            UserError: if the images do not fit, or a part of another recipe or of other images is in the folder.
            OutOfTimeError: if the limit stopped a part.
        """
        recipe = self.recipe
        held_pictures = None if validation is None else held_images(validation, recipe.n_px)
        autoencoder, finest = self._autoencoder(images, held_pictures), []
        if recipe.adapt_settings is not None:
            autoencoder, codebook = self._adapted(autoencoder, recipe.adapt_settings, images, held_pictures)
            finest.append(codebook)
        stores = [self._maps(autoencoder, images, "maps")]
        if recipe.flip:
            stores.append(self._maps(autoencoder, images, "mirrored-maps", flip=True))
        held = None if validation is None else self._maps(autoencoder, validation, "validation-maps")
        settings = recipe.codebooks[: -1 if finest else None]
        codebooks = [self._codebook(f"codebook-{i}", f"stage {i}", stores[0], one) for i, one in enumerate(settings)]
        codebooks += finest
        codes = [codes_of(codebook, stores) for codebook in codebooks]
        others = None if held is None else [codebook.encode(held[:HELD]) for codebook in codebooks]
        models = [self._model(stage, codebooks, codes, others) for stage in range(1, len(codebooks))]
        size = recipe.n_px, recipe.n_px
        return Cascade(autoencoder, codebooks, models, count_codes(codebooks[0], codes[0]), *size)

    def _run(self, name: str, what: str, settings: RunSettings, function: Callable[..., object], *data: Any) -> None:
        """Train a part, or resume it; `function` takes data, settings, folder, validation and callbacks."""
        self.tell(f"training {what}")
        images, held = data
        callbacks = [*self.callbacks(settings), *([] if self.limit is None else [self.limit])]
        function(images, settings, self.folder / name / "training", held, callbacks)
        if self.limit is not None and self.limit.stopped:
            raise OutOfTimeError(what)

    def _autoencoder(self, images: Source | np.ndarray, held: np.ndarray | None) -> Autoencoder:
        recipe = self.recipe
        keras.utils.set_random_seed(recipe.autoencoder_settings.seed)
        model = Autoencoder(recipe.autoencoder, dtype=self._dtype)
        train = partial(train_autoencoder, model, n_px=recipe.n_px)
        self._run("autoencoder", "the autoencoder", recipe.autoencoder_settings, train, images, held)
        return self._kept(model, "autoencoder")

    def _adapted(
        self,
        autoencoder: Autoencoder,
        settings: AutoencoderSettings,
        images: Source | np.ndarray,
        held: np.ndarray | None,
    ) -> tuple[Autoencoder, Codebook]:
        """The autoencoder and its finest codebook, which is trained on some images and then together with it."""
        source = require_images(images, self.recipe.n_px)
        some = dataclasses.replace(source, items=source.items[:FIRST_IMAGES], labels=None, classes=None)
        maps = self._maps(autoencoder, some, "first-maps")
        first = self._codebook("first-codebook", "the finest stage", maps, self.recipe.codebooks[-1])
        model = Autoencoder.from_preset(self.folder / "autoencoder", dtype=self._dtype)
        found: list[Codebook] = []

        def train(images: Any, settings: AutoencoderSettings, *how: Any) -> None:
            found.append(adapt(model, first, images, settings, *how, n_px=self.recipe.n_px)[0])

        self._run("adapted", "the autoencoder and its finest codebook together", settings, train, images, held)
        found[0].save(self.folder / f"codebook-{len(self.recipe.codebooks) - 1}")
        return self._kept(model, "adapted"), found[0]

    def _kept(self, model: Autoencoder, name: str) -> Autoencoder:
        """The autoencoder, written to its folder and read again in float32, in which maps are computed."""
        model.save_to_preset(self.folder / name)
        return Autoencoder.from_preset(self.folder / name)

    def _maps(self, autoencoder: Autoencoder, images: Source | np.ndarray, name: str, flip: bool = False) -> MapStore:
        self.tell("encoding the images" + (", mirrored" if flip else ""))
        n_px = self.recipe.n_px
        return encode_source(autoencoder, images, self.folder / name, n_px, flip=flip, progress=self.progress)

    def _codebook(self, name: str, of_what: str, maps: MapStore, settings: CodebookSettings) -> Codebook:
        folder = self.folder / name
        about = {"settings": dataclasses.asdict(settings), "maps": maps.fingerprint}
        if (folder / CODEBOOK_FILE).exists():
            found = Codebook.load(folder)
            # As JSON has it.
            if found.about == json.loads(json.dumps(about)):
                return found
            raise UserError(f"{folder}: expected the codebook of this recipe, got another: give a new folder")
        self.tell(f"training the codebook of {of_what}")
        codebook = train_codebook(maps, settings, self.progress)
        codebook.save(folder)
        return codebook

    def _model(
        self, stage: int, codebooks: list[Codebook], codes: list[np.ndarray], others: list[np.ndarray] | None
    ) -> ImageGPT | Refiner:
        recipe, name, (before, own) = self.recipe, f"model-{stage}", codebooks[stage - 1 : stage + 1]
        grids = [codebook.code_grid(*self._map_size) for codebook in (before, own)]
        held: Any = None
        keras.utils.set_random_seed(stage)
        if stage == 1:
            config, settings = recipe.base.config(len(before), grids[1], len(own)), recipe.base_settings
            model, data = new_model(config, self.mixed_precision), codes[1]
            held = None if others is None else others[1]
            train = partial(pretrain, model, labels=codes[0][:, 0].astype("int32"))
        else:
            shape, settings = recipe.refiners[stage - 2], recipe.refiner_settings[stage - 2]
            config = shape.config(grids[0], len(before), grids[1], len(own))
            model, data = new_refiner(config, (before.digest(), own.digest()), self.mixed_precision), codes[stage]
            held = None if others is None else (others[stage - 1], others[stage])
            train = partial(train_refiner, model, codes[stage - 1])
        self._run(name, f"the model of stage {stage}", settings, train, data, held)
        model.save_to_preset(self.folder / name)
        return model

    @property
    def _dtype(self) -> str | None:
        """In which autoencoders are trained."""
        return "mixed_bfloat16" if self.mixed_precision else None

    @property
    def _map_size(self) -> tuple[int, int]:
        return self.recipe.autoencoder.map_size(self.recipe.n_px, self.recipe.n_px)


def codes_of(codebook: Codebook, stores: Sequence[MapStore]) -> np.ndarray:
    """The codes (N, T) of stores of maps, in the smallest type of integers that holds them."""
    return encode_stores(codebook, stores).astype(np.min_scalar_type(len(codebook) - 1))
