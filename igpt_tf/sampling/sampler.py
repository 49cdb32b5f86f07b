"""The sampler: draws, completes and streams images of one model."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from igpt_tf.errors import UserError, whole_number
from igpt_tf.progress import ProgressBar
from igpt_tf.sampling.beam import draw_beams
from igpt_tf.sampling.controls import Controls
from igpt_tf.sampling.devices import networks_of
from igpt_tf.sampling.drawing import Drawing, Image, Programs, Step, draw_forced, rows_to_draw
from igpt_tf.sampling.filters import choose
from igpt_tf.sampling.guidance import GuidedNetwork
from igpt_tf.sampling.keys import image_keys
from igpt_tf.sampling.network import Network, Weights
from igpt_tf.sampling.region import check_images, is_prefix
from igpt_tf.sampling.smc import draw_conditioned
from igpt_tf.sampling.workers import run_generators

if TYPE_CHECKING:
    import keras

METHODS = ("auto", "forced", "smc")
UNFILTERED = Controls()
# What each image is drawn given, or one for all: of an Image GPT its class, a number or a name; None: no class. Of a
# refiner its coarser codes (S,).
Classes = int | str | Sequence[int | str] | np.ndarray | None
# What draws a batch: `draw_forced`, or another generator with its arguments.
Draw = Callable[[Callable[[Sequence[Image]], Drawing], Sequence[Image]], Iterator[Step]]


class Drawn(NamedTuple):
    """What `Sampler` has drawn since it last yielded.

    Attributes:
        numbers: (b,) integers, the numbers of a batch's images.
        rows: rows of each of these images that were drawn, or needed no drawing.
        tokens: (b, T) int32 when the batch is finished, None before.
    """

    numbers: np.ndarray
    rows: int
    tokens: np.ndarray | None


class Sampler:
    """Draws images from a model, with its weights laid out and its programs compiled once.

    The laid-out weights are a second copy of the model in memory. It is kept as long as the weights stay the same,
    which is checked when a drawing begins; weights must not change while images are being drawn.

    Args:
        model: an autoregressive `ImageGPT`, a classifier, whose `image_gpt` draws, or a `Network` for each device.
        choose: the strategy that draws tokens (B,) from logits (B, V), uniforms (B,) and the values of `Controls`.

    Raises:
        UserError: if the model is a BERT model, or split between its devices.
    """

    def __init__(self, model: keras.Model | Sequence[Network], choose: Callable[..., Any] = choose) -> None:
        self._networks: Sequence[Network] = model if isinstance(model, Sequence) else networks_of(model)
        self._grid = self._networks[0].grid
        self._programs = [Programs(network, choose) for network in self._networks]
        self._guided = [Programs(GuidedNetwork(network), choose) for network in self._networks]
        self._lock = threading.Lock()
        self._version: Any = None
        self._weights: list[Weights] | None = None

    def release(self) -> None:
        """Free the laid-out weights until the next drawing, such as while the model is trained."""
        with self._lock:
            self._free()

    def sample(
        self,
        n: int,
        controls: Controls = UNFILTERED,
        *,
        classes: Classes = None,
        seed: int | Sequence[int] = 0,
        batch_size: int = 8,
        best_of: int = 1,
        progress: bool = False,
    ) -> np.ndarray:
        """Tokens (n, T) int32 of n new images; the arguments are those of `igpt_tf.sample`."""
        tokens = np.zeros((whole_number("n", n, 1), math.prod(self._grid)), "int32")
        known = np.zeros(tokens.shape, bool)
        return self.complete(
            tokens,
            known,
            controls,
            classes=classes,
            seed=seed,
            batch_size=batch_size,
            best_of=best_of,
            progress=progress,
        )

    def complete(
        self, tokens: np.ndarray, known: np.ndarray, controls: Controls = UNFILTERED, **how: Any
    ) -> np.ndarray:
        """Tokens (B, T) int32 with unknown ones filled in; the arguments are those of `complete_batches`."""
        batches = self.complete_batches(tokens, known, controls, **how)
        drawn = np.array(tokens, "int32")
        for numbers, filled in batches:
            drawn[numbers] = filled
        return drawn

    def complete_batches(
        self,
        tokens: np.ndarray,
        known: np.ndarray,
        controls: Controls = UNFILTERED,
        *,
        classes: Classes = None,
        seed: int | Sequence[int] = 0,
        batch_size: int = 8,
        method: str = "auto",
        n_particles: int = 32,
        best_of: int = 1,
        progress: bool = False,
    ) -> Generator[tuple[np.ndarray, np.ndarray]]:
        """Numbers (b,) and tokens (b, T) int32 of images as soon as they are completed, in any order.

        The arguments are those of `igpt_tf.complete`, and are checked at once.
        """
        batch_size = whole_number("batch_size", batch_size, 1)
        best_of = whole_number("best_of", best_of, 1)
        if controls.greedy or controls.beam_width:
            best_of = 1  # all would be alike
        images, groups = self._plan(tokens, known, controls, classes, seed, method, n_particles)
        # Numbers of images that are drawn, and perhaps compared, together; how; and the batch size of one device.
        parts: list[tuple[np.ndarray, Draw, int]] = []
        for numbers, draw, n_drawn in groups:
            # Candidates are compared a few images at a time, so that finished images are yielded early.
            step = len(numbers) if best_of == 1 else max(1, batch_size // best_of)
            size = -(-min(max(1, batch_size // n_drawn), min(step, len(numbers)) * best_of) // len(self._networks))
            parts += [(numbers[i : i + step], draw, size) for i in range(0, len(numbers), step)]

        def batches() -> Generator[tuple[np.ndarray, np.ndarray]]:
            n_batches = sum(-(-len(numbers) * best_of // size) for numbers, _, size in parts)
            with ProgressBar(
                total=n_batches * self._grid[0], unit="row", first="compiling", desc="drawing", shown=progress
            ) as bar:
                for numbers, draw, size in parts:
                    candidates = (
                        (
                            number * best_of + candidate,
                            images[number]._replace(key=(*images[number].key[:2], candidate)),
                        )
                        for number in numbers
                        for candidate in range(best_of)
                    )
                    with closing(_finished(self._draw(candidates, size, draw, controls), bar.update)) as finished:
                        if best_of == 1:
                            yield from finished
                        else:
                            yield self._likeliest(finished, images, best_of, batch_size)

        return batches()

    def sample_rows(
        self,
        numbers: Iterable[int],
        controls: Controls = UNFILTERED,
        *,
        classes: Classes = None,
        seed: int = 0,
        batch_size: int = 8,
    ) -> Generator[Drawn]:
        """What is drawn of the images with these numbers, after each row of a batch.

        The arguments are those of `igpt_tf.sample_batches`, and are checked at once, but `numbers` when they are drawn.
        """
        batch_size = whole_number("batch_size", batch_size, 1)
        seed = whole_number("seed", seed, 0)
        tokens = np.zeros(math.prod(self._grid), "int32")
        known = np.zeros(tokens.shape, bool)
        n_classes = 1 if isinstance(classes, int | str | None) else len(classes)
        starts = self._starts(classes, n_classes, controls)
        checked = (whole_number("numbers", number, 0) for number in numbers)
        images = ((number, Image(tokens, known, (seed, number, 0), starts[number % len(starts)])) for number in checked)
        draw, n_drawn = _in_order(controls)
        return self._draw(images, -(-max(1, batch_size // n_drawn) // len(self._networks)), draw, controls)

    def sample_batches(
        self, numbers: Iterable[int], controls: Controls = UNFILTERED, **how: Any
    ) -> Generator[tuple[np.ndarray, np.ndarray]]:
        """Numbers (b,) and tokens (b, T) of finished batches; the arguments are those of `igpt_tf.sample_batches`."""
        return _finished(self.sample_rows(numbers, controls, **how))

    def stream(
        self,
        tokens: np.ndarray,
        known: np.ndarray,
        controls: Controls = UNFILTERED,
        *,
        classes: Classes = None,
        seed: int | Sequence[int] = 0,
        method: str = "auto",
        n_particles: int = 32,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """How many rows are final, and tokens (B, T), after each row; the arguments are those of `igpt_tf.stream`."""
        images, groups = self._plan(tokens, known, controls, classes, seed, method, n_particles)
        start = partial(Drawing, self._programs_of(controls)[0], self._laid_out()[0], controls)
        shown = np.stack([image.tokens for image in images])
        final = [rows_to_draw([images[number].known for number in numbers], self._grid)[0] for numbers, _, _ in groups]
        for i, (numbers, draw, _) in enumerate(groups):
            for step in draw(start, [images[number] for number in numbers]):
                final[i] = step.final
                shown[numbers] = step.tokens()
                yield min(final), shown.copy()

    def _plan(
        self,
        tokens: np.ndarray,
        known: np.ndarray,
        controls: Controls,
        classes: Classes,
        seed: int | Sequence[int],
        method: str,
        n_particles: int,
    ) -> tuple[list[Image], list[tuple[np.ndarray, Draw, int]]]:
        """The images, and groups of them: their numbers, what draws them, and how many it draws for each."""
        tokens, known = check_images(tokens, known, self._grid, self._networks[0].n_vocab)
        keys = image_keys(seed, len(tokens))
        starts = self._starts(classes, len(tokens), controls)
        if method not in METHODS:
            raise UserError(f"expected `method` as one of {', '.join(METHODS)}, got {method!r}")
        if controls.beam_width and method != "auto":
            raise UserError(f"expected `method` auto, as `beam_width` asks for a search, got {method!r}", "method")
        smc = partial(draw_conditioned, n_particles=whole_number("n_particles", n_particles, 1))
        forced = np.full(len(known), controls.greedy or bool(controls.beam_width) or method == "forced")
        if method == "auto":
            forced |= is_prefix(known)
        groups = [(np.flatnonzero(forced), *_in_order(controls)), (np.flatnonzero(~forced), smc, n_particles)]
        images = [Image(*one) for one in zip(tokens, known, keys, starts, strict=True)]
        return images, [group for group in groups if len(group[0])]

    def _starts(self, classes: Classes, n_images: int, controls: Controls) -> np.ndarray:
        """What each image is drawn given, (n_images,) or (n_images, S)."""
        if controls.guidance != 1 and classes is None:
            raise UserError("expected `classes` to guide towards, got `guidance` alone", "guidance")
        starts = self._networks[0].starts(classes, n_images)
        if controls.guidance != 1 and starts.ndim > 1:
            raise UserError("expected `guidance` 1, as there are always coarser codes, got another", "guidance")
        return starts

    def _programs_of(self, controls: Controls) -> list[Programs]:
        """What draws under these controls, on each device."""
        return self._programs if controls.guidance == 1 else self._guided

    def _laid_out(self) -> list[Weights]:
        """The weights as they are now, laid out on each device."""
        with self._lock:
            version = self._networks[0].version()
            if self._weights is None or version != self._version:
                # The old ones first, so that no two copies are held at once.
                self._free()
                self._weights = [network.lay_out() for network in self._networks]
                self._version = version
            return self._weights

    def _free(self) -> None:
        self._version = self._weights = None
        for network in self._networks:
            network.release()

    def _draw(self, images: Iterable[tuple[int, Image]], size: int, draw: Draw, controls: Controls) -> Generator[Drawn]:
        """Draw images with their numbers, `size` in a batch, on all devices; yields after each row of each batch."""
        weights, waiting = self._laid_out(), iter(images)

        def work(device: int, batch: list[tuple[int, Image]]) -> Generator[Drawn]:
            numbers = np.array([number for number, _ in batch])
            # The last batch is padded, because another size would be compiled anew.
            padded = [image for _, image in batch + batch[-1:] * (size - len(batch))]
            start = partial(Drawing, self._programs_of(controls)[device], weights[device], controls)
            rows = 0
            for step in draw(start, padded):
                tokens = step.tokens()[: len(batch)] if step.final == self._grid[0] else None
                yield Drawn(numbers, step.rows - rows, tokens)
                rows = step.rows

        batches = iter(lambda: list(itertools.islice(waiting, size)), [])
        yield from run_generators(batches, len(self._networks), work)

    def _likeliest(
        self,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        images: Sequence[Image],
        best_of: int,
        batch_size: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (b,) and tokens (b, T) of images: of candidates from number * best_of on, the likeliest."""
        candidates, tokens = map(np.concatenate, zip(*batches, strict=True))
        order = candidates.argsort()
        tokens = tokens[order]
        # Every part has a multiple of `best_of`: batches of one size are compiled once.
        start = np.array([images[number].start for number in candidates[order] // best_of], "int32")
        nats = self._networks[0].score(tokens, start, min(batch_size, best_of)).astype("float64").sum(axis=1)
        best = nats.reshape(-1, best_of).argmin(axis=1)  # (b,) of (b, K)
        rows = np.arange(len(best)) * best_of + best
        return candidates[order][::best_of] // best_of, tokens[rows]


def _in_order(controls: Controls) -> tuple[Draw, int]:
    """What draws tokens in raster order under these controls, and how many images it draws for each."""
    if controls.beam_width is None:
        return draw_forced, 1
    return partial(draw_beams, beam_width=controls.beam_width), controls.beam_width


def _finished(
    steps: Generator[Drawn], count_rows: Callable[[int], object] = int
) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Numbers and tokens of finished batches."""
    with closing(steps):
        for numbers, rows, tokens in steps:
            count_rows(rows)
            if tokens is not None:
                yield numbers, tokens
