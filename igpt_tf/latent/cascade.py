"""The cascade: codes of an autoencoder's maps, drawn stage by stage, from one code of the whole map to fine ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from igpt_tf.config import check_values
from igpt_tf.errors import UserError, naming, whole_number
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.cascade_folder import read_parts, write_parts
from igpt_tf.latent.codebook import Codebook
from igpt_tf.latent.reconstruct import decode_maps, encode_images
from igpt_tf.latent.refiner import Refiner
from igpt_tf.latent.stages import check_models, draw_first, fill_mean, known_codes
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.sampling.api import sampler_of
from igpt_tf.sampling.controls import Controls
from igpt_tf.sampling.sampler import UNFILTERED


@dataclasses.dataclass(frozen=True, eq=False)
class Cascade:
    """An autoencoder, codebooks of its maps from coarse to fine, and what draws the codes of each from those before.

    The first codebook has one code for the whole map, which is drawn from its frequencies. An `ImageGPT` draws the
    codes of the second given that code, and a `Refiner` those of each further one given the codes before it.

    Attributes:
        autoencoder: encodes and decodes.
        codebooks: from coarse to fine, S of them.
        models: S - 1 of them; the model at place i draws the codes of codebook i + 1.
        counts: (K,) integers, how often each code of the first codebook occurs in the training images.
        height: of the images, in pixels.
        width: of the images.

    Raises:
        UserError: if they do not fit each other.
    """

    autoencoder: Autoencoder
    codebooks: Sequence[Codebook]
    models: Sequence[ImageGPT | Refiner]
    counts: np.ndarray
    height: int
    width: int

    def __post_init__(self) -> None:
        """Refuse stages that do not fit each other."""
        if len(self.codebooks) < 2 or len(self.models) != len(self.codebooks) - 1:
            raise UserError(
                "expected at least 2 codebooks and a model for each but the first, got "
                f"{len(self.codebooks)} codebooks and {len(self.models)} models"
            )
        for stage, codebook in enumerate(self.codebooks):
            with naming(f"the codebook of stage {stage}"):
                codebook.require_autoencoder(self.autoencoder)
        if self.grids[0] != (1, 1):
            rows, columns = self.grids[0]
            raise UserError(f"expected one code of the whole map in stage 0, got {rows} x {columns}")
        if self.counts.shape != (len(self.codebooks[0]),) or self.counts.min() < 0 or not self.counts.sum():
            raise UserError(
                f"expected how often each of {len(self.codebooks[0])} codes occurs, got numbers {self.counts.shape}"
            )
        check_models(self.codebooks, self.models, self.grids)

    @property
    def n_stages(self) -> int:
        """Stages S."""
        return len(self.codebooks)

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the autoencoder's maps."""
        return self.autoencoder.config.map_size(self.height, self.width)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of the codes of each stage."""
        return [codebook.code_grid(*self.map_size) for codebook in self.codebooks]

    def encode(self, images: np.ndarray) -> list[np.ndarray]:
        """The codes of images in each stage, int32 (N, T).

        Args:
            images: uint8 (N, height, width, 3).

        Raises:
            UserError: if the images are of another size.
        """
        if images.shape[1:3] != (self.height, self.width):
            raise UserError(f"expected images of {self.height} x {self.width} pixels, got {images.shape[1:3]}")
        maps = encode_images(self.autoencoder, images)
        return [codebook.encode(maps) for codebook in self.codebooks]

    def decode(self, codes: np.ndarray, stage: int | None = None) -> np.ndarray:
        """The images of codes, uint8 (N, height, width, 3).

        Args:
            codes: (N, T) integers.
            stage: of the codes, from 0; None: the finest.

        Raises:
            UserError: if there is no such stage, or it has other codes.
        """
        codebook = self.codebooks[self._stage(stage)]
        return decode_maps(self.autoencoder, codebook.decode(codes, *self.map_size))

    def reconstruct(self, images: np.ndarray, stage: int | None = None) -> np.ndarray:
        """Images as the codes of a stage have them, uint8 (N, height, width, 3).

        Args:
            images: uint8 (N, height, width, 3).
            stage: from 0, the coarsest; None: the finest.

        Raises:
            UserError: if the images are of another size, or there is no such stage.
        """
        stage = self._stage(stage)
        return self.decode(self.encode(images)[stage], stage)

    def generate(self, n: int, **how: Any) -> np.ndarray:
        """Draw n images, uint8 (n, height, width, 3).

        Args:
            n: number of images.
            how: as for `draw`.

        Raises:
            UserError: as `draw`.
        """
        return self.decode(self.draw(n, **how)[-1])

    def draw(
        self,
        n: int,
        *,
        controls: Controls | Sequence[Controls] = UNFILTERED,
        num_beam: int | Sequence[int] = 1,
        seed: int = 0,
        first: int = 0,
        given: Sequence[np.ndarray] = (),
        batch_size: int = 16,
        progress: bool = False,
    ) -> list[np.ndarray]:
        """Draw the codes of n images, int32 (n, T) of each stage.

        Args:
            n: number of images.
            controls: temperature, filters and beams, of all stages or of each; of the first stage, which has one code,
                only the temperature counts.
            num_beam: candidates per image, of which the likeliest under the model is kept, of all stages or of each.
            seed: image i of a seed is the same whatever n and the batch size.
            first: number of the first image under the seed.
            given: codes of the first stages, (n, T) each, such as those that `encode` finds of photographs: the other
                stages are drawn given these.
            batch_size: images per batch.
            progress: show a progress bar for each stage on standard error.

        Raises:
            UserError: if a number or the given codes are invalid.
        """
        n, seed, first = (whole_number(*rule) for rule in (("n", n, 1), ("seed", seed, 0), ("first", first, 0)))
        of_stages = self._of_stages("controls", controls)
        best_of = self._of_stages("num_beam", num_beam)
        codes = [self._given(stage, n, part) for stage, part in enumerate(given)]
        if not codes:
            codes.append(draw_first(self.counts, of_stages[0], seed, range(first, first + n)))
        for stage in range(len(codes), self.n_stages):
            sampler = sampler_of(self.models[stage - 1])
            tokens = np.zeros((n, math.prod(self.grids[stage])), np.int32)
            codes.append(
                sampler.complete(
                    tokens,
                    np.zeros(tokens.shape, bool),
                    of_stages[stage],
                    classes=self._condition(stage, codes[-1]),
                    seed=self._seeds(seed, stage, range(first, first + n)),
                    batch_size=batch_size,
                    best_of=best_of[stage],
                    progress=progress,
                )
            )
        return codes

    def complete(
        self,
        images: np.ndarray,
        known: np.ndarray,
        *,
        controls: Controls | Sequence[Controls] = UNFILTERED,
        method: str = "auto",
        n_particles: int = 32,
        seed: int = 0,
        batch_size: int = 16,
        progress: bool = False,
    ) -> np.ndarray:
        """Draw the unknown pixels of images, uint8 (N, height, width, 3); known ones stay as they are.

        In every stage, codes of patches that lie a position or more away from the unknown pixels are given, and the
        others are drawn. The code of the whole map is that of the image with the mean of the known pixels in the hole.

        Args:
            images: uint8 (N, height, width, 3); unknown pixels do not matter.
            known: booleans (height, width), or (N, height, width).
            controls: temperature and filters, of all stages or of each.
            method: "auto", "forced" or "smc", as in `igpt_tf.complete`.
            n_particles: particles of smc per image.
            seed: of the random numbers.
            batch_size: images or particles per batch.
            progress: show a progress bar for each stage on standard error.

        Raises:
            UserError: if sizes do not fit, nothing is known, or a number is invalid.
        """
        known = np.broadcast_to(known, images.shape[:3])
        own = self.encode(fill_mean(images, known))
        of_stages = self._of_stages("controls", controls)
        codes = own[0]
        for stage in range(1, self.n_stages):
            codes = sampler_of(self.models[stage - 1]).complete(
                own[stage],
                known_codes(known, self.map_size, self.grids[stage]),
                of_stages[stage],
                classes=self._condition(stage, codes),
                seed=self._seeds(seed, stage, range(len(images))),
                batch_size=batch_size,
                method=method,
                n_particles=n_particles,
                progress=progress,
            )
        return np.where(known[..., None], images, self.decode(codes))

    def stream(
        self,
        images: np.ndarray,
        known: np.ndarray,
        *,
        controls: Controls = UNFILTERED,
        method: str = "auto",
        n_particles: int = 32,
        seed: int = 0,
        first: int = 0,
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Draw as `draw`, where nothing is known, or else as `complete`, all images at once.

        Yields:
            The stage, how many rows of its codes are final, and these codes (N, T), after each row.
        """
        known = np.broadcast_to(known, images.shape[:3])
        numbers = range(first, first + len(images))
        own = self.encode(fill_mean(images, known)) if known.any() else []
        codes = own[0] if own else draw_first(self.counts, controls, seed, numbers)
        yield 0, 1, codes
        for stage in range(1, self.n_stages):
            steps = sampler_of(self.models[stage - 1]).stream(
                own[stage] if own else np.zeros((len(images), math.prod(self.grids[stage])), np.int32),
                known_codes(known, self.map_size, self.grids[stage]),
                controls,
                classes=self._condition(stage, codes),
                seed=self._seeds(seed, stage, numbers),
                method=method,
                n_particles=n_particles,
            )
            for rows, codes in steps:
                yield stage, rows, codes

    @classmethod
    def from_preset(cls, folder: str | Path) -> Cascade:
        """The cascade of a folder that `save_to_preset` wrote.

        Args:
            folder: the folder, or a bundled cascade's name ("nano-cascade").

        Raises:
            UserError: if there is none, or it is incomplete, damaged, or its parts do not fit each other.
        """
        folder = Path(folder).expanduser()
        parts = read_parts(folder)
        with naming(folder):
            return cls(*parts)

    def save_to_preset(self, folder: str | Path, dtype: str = "float32") -> None:
        """Write a folder of presets: the autoencoder's, a codebook's and a model's for each stage, and `cascade.json`.

        Args:
            folder: created if needed; a cascade in it is replaced.
            dtype: of the weights in the files, "float32", or "float16" for half the bytes and a little rounding.

        Raises:
            UserError: if the folder cannot be written.
        """
        sizes = self.height, self.width
        write_parts(Path(folder).expanduser(), self.autoencoder, self.codebooks, self.models, self.counts, sizes, dtype)

    def _stage(self, stage: int | None) -> int:
        if stage is None:
            return self.n_stages - 1
        if stage not in range(self.n_stages):
            raise UserError(f"expected `stage` from 0 to {self.n_stages - 1}, got {stage}", "stage")
        return stage

    def _of_stages(self, name: str, values: Any) -> list[Any]:
        """A value for each stage."""
        if not isinstance(values, Sequence):
            return [values] * self.n_stages
        if len(values) != self.n_stages:
            raise UserError(f"expected `{name}` for each of {self.n_stages} stages, or one for all, got {len(values)}")
        return list(values)

    def _given(self, stage: int, n: int, codes: np.ndarray) -> np.ndarray:
        shape = n, math.prod(self.grids[self._stage(stage)])
        if np.shape(codes) != shape:
            raise UserError(f"expected given codes of shape {shape} in stage {stage}, got {np.shape(codes)}", "given")
        check_values(codes, len(self.codebooks[stage]), "codebook")
        return np.asarray(codes, np.int32)

    def _condition(self, stage: int, codes: np.ndarray) -> np.ndarray:
        """What the model of a stage draws given, of the codes (n, T) of the stage before."""
        return codes[:, 0] if stage == 1 else codes

    def _seeds(self, seed: int, stage: int, numbers: range) -> list[int]:
        """A seed for each image and stage."""
        return [int(np.random.SeedSequence([seed, stage, number]).generate_state(1)[0]) for number in numbers]
