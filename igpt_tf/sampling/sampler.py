"""The sampler: draws, completes and streams images of one model."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from tqdm import tqdm

from igpt_tf.errors import UserError, whole_number
from igpt_tf.sampling.drawing import Drawing, Programs, draw_forced, rows_to_draw
from igpt_tf.sampling.filters import Controls, choose
from igpt_tf.sampling.keys import Key, image_seeds, key
from igpt_tf.sampling.network import Network, Weights, networks_of
from igpt_tf.sampling.region import check_images, is_prefix
from igpt_tf.sampling.smc import draw_conditioned
from igpt_tf.sampling.workers import run_generators

METHODS = ("auto", "forced", "smc")
UNFILTERED = Controls()


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
    which is checked when a drawing begins; weights must not change while images are being drawn. Before training,
    `release` frees it, and the old weights with it.

    Args:
        model: an autoregressive `ImageGPT`, a classifier, which stands for the model in it, or a `Network` for each
            device.
        choose: the strategy that draws tokens (B,) from logits (B, V), uniforms (B,) and the values of `Controls`.

    Raises:
        UserError: if the model is a BERT model, or split between its devices.
    """

    def __init__(self, model: keras.Model | Sequence[Network], choose: Callable[..., Any] = choose) -> None:
        self._networks: Sequence[Network] = networks_of(model) if isinstance(model, keras.Model) else model
        self._grid = self._networks[0].grid
        self._programs = [Programs(network, choose) for network in self._networks]
        self._lock = threading.Lock()
        self.release()

    def release(self) -> None:
        """Free the laid-out weights until the next drawing, such as while the model is trained."""
        with self._lock:
            self._version: Any = None
            self._weights: list[Weights] | None = None

    def sample(
        self,
        n: int,
        controls: Controls = UNFILTERED,
        *,
        seed: int | Sequence[int] = 0,
        batch_size: int = 8,
        progress: bool = False,
    ) -> np.ndarray:
        """Tokens (n, T) int32 of n new images; the arguments are those of `igpt_tf.sample`."""
        tokens = np.zeros((whole_number("n", n, 1), math.prod(self._grid)), "int32")
        known = np.zeros(tokens.shape, bool)
        return self.complete(tokens, known, controls, seed=seed, batch_size=batch_size, progress=progress)

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
        seed: int | Sequence[int] = 0,
        batch_size: int = 8,
        method: str = "auto",
        n_particles: int = 32,
        best_of: int = 1,
        progress: bool = False,
    ) -> Generator[tuple[np.ndarray, np.ndarray]]:
        """Numbers (b,) and tokens (b, T) int32 of images as soon as they are completed, in any order.

        The arguments are those of `igpt_tf.complete`, and are checked at once.

        Raises:
            UserError: if shapes do not fit or a number is invalid.
        """
        batch_size = whole_number("batch_size", batch_size, 1)
        best_of = whole_number("best_of", best_of, 1)
        tokens, known = check_images(tokens, known, self._grid, self._networks[0].n_vocab)
        keys = image_seeds(seed, len(tokens))
        forced, smc = self._methods(known, controls, method, n_particles)
        if controls.greedy:
            best_of = 1

        def task(number: int) -> tuple[np.ndarray, np.ndarray, Key]:
            image, candidate = divmod(number, best_of)
            return tokens[image], known[image], key(*keys[image], candidate)

        # Numbers of images that are drawn, and perhaps compared, together; how; and the batch size of one device.
        parts: list[tuple[np.ndarray, Callable, int]] = []
        for images, draw, at_once in (
            (np.flatnonzero(forced), draw_forced, batch_size),
            (np.flatnonzero(~forced), smc, batch_size // n_particles),
        ):
            # Candidates are compared a few images at a time, so that finished images are yielded early.
            step = max(1, len(images) if best_of == 1 else batch_size // best_of)
            size = -(-min(max(at_once, 1), min(step, len(images)) * best_of) // len(self._networks))
            parts += [(images[i : i + step], draw, size) for i in range(0, len(images), step)]

        def batches() -> Generator[tuple[np.ndarray, np.ndarray]]:
            n_batches = sum(-(-len(images) * best_of // size) for images, _, size in parts)
            with tqdm(total=n_batches * self._grid[0], unit="row", disable=not progress, leave=False) as bar:
                for images, draw, size in parts:
                    candidates = (images[:, None] * best_of + np.arange(best_of)).reshape(-1)
                    with closing(self._draw(candidates, size, task, draw, controls)) as steps:
                        finished = _finished(steps, bar.update)
                        if best_of == 1:
                            yield from finished
                        else:
                            yield self._likeliest(finished, best_of, batch_size)

        return batches()

    def sample_rows(
        self, numbers: Iterable[int], controls: Controls = UNFILTERED, *, seed: int = 0, batch_size: int = 8
    ) -> Generator[Drawn]:
        """What is drawn of the images with these numbers, after each row of a batch.

        Args:
            numbers: numbers of images under the seed, perhaps infinitely many.
            controls: temperature and filters.
            seed: decides the random numbers; image i is that of `sample`.
            batch_size: images per batch, over all devices.

        Raises:
            UserError: if a number is invalid; those of images are checked when they are drawn.
        """
        batch_size = whole_number("batch_size", batch_size, 1)
        ((seed, _),) = image_seeds(seed, 1)
        tokens = np.zeros(math.prod(self._grid), "int32")
        known = np.zeros(tokens.shape, bool)

        def task(number: int) -> tuple[np.ndarray, np.ndarray, Key]:
            return tokens, known, key(seed, number)

        checked = (whole_number("the number of an image", number, 0) for number in numbers)
        return self._draw(checked, -(-batch_size // len(self._networks)), task, draw_forced, controls)

    def sample_batches(
        self, numbers: Iterable[int], controls: Controls = UNFILTERED, *, seed: int = 0, batch_size: int = 8
    ) -> Generator[tuple[np.ndarray, np.ndarray]]:
        """Numbers (b,) and tokens (b, T) of finished batches, in any order; the arguments are `sample_rows`'."""
        return _finished(self.sample_rows(numbers, controls, seed=seed, batch_size=batch_size))

    def stream(
        self,
        tokens: np.ndarray,
        known: np.ndarray,
        controls: Controls = UNFILTERED,
        *,
        seed: int | Sequence[int] = 0,
        method: str = "auto",
        n_particles: int = 32,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """How many rows are final, and tokens (B, T), after each row; the arguments are those of `igpt_tf.stream`."""
        tokens, known = check_images(tokens, known, self._grid, self._networks[0].n_vocab)
        keys = [key(*one) for one in image_seeds(seed, len(tokens))]
        forced, smc = self._methods(known, controls, method, n_particles)
        groups = [(forced, draw_forced), (~forced, smc)]
        groups = [(np.flatnonzero(mask), draw) for mask, draw in groups if mask.any()]
        drawing = partial(Drawing, self._programs[0], self._laid_out()[0], controls=controls)
        final = [rows_to_draw(known[images], self._grid)[0] for images, _ in groups]
        shown = tokens.copy()
        for i, (images, draw) in enumerate(groups):
            for step in draw(drawing, tokens[images], known[images], [keys[image] for image in images]):
                final[i] = step.final
                shown[images] = step.tokens()
                yield min(final), shown.copy()

    def _methods(
        self, known: np.ndarray, controls: Controls, method: str, n_particles: int
    ) -> tuple[np.ndarray, Callable]:
        """Which images (B,) are drawn by the forced method, and what draws the others."""
        if method not in METHODS:
            raise UserError(f"expected a method of {', '.join(METHODS)}, got {method!r}")
        smc = partial(draw_conditioned, n_particles=whole_number("n_particles", n_particles, 1))
        if controls.greedy:
            return np.ones(len(known), bool), smc
        return is_prefix(known) if method == "auto" else np.full(len(known), method == "forced"), smc

    def _laid_out(self) -> list[Weights]:
        """The weights as they are now, laid out on each device."""
        with self._lock:
            version = self._networks[0].version()
            if self._weights is None or version != self._version:
                # The old ones first, so that no two copies are held at once.
                self._weights = None
                self._weights = [network.lay_out() for network in self._networks]
                self._version = version
            return self._weights

    def _draw(
        self,
        numbers: Iterable[int],
        size: int,
        task: Callable[[int], tuple[np.ndarray, np.ndarray, Key]],
        draw: Callable,
        controls: Controls,
    ) -> Generator[Drawn]:
        """Draw on all devices; yields after each row of each batch.

        Args:
            numbers: what to draw, perhaps infinitely many.
            size: numbers in a batch of one device.
            task: from a number to tokens (T,), known (T,) and the key of the random numbers.
            draw: `draw_forced` or another generator of `Step` with its arguments.
            controls: temperature and filters.
        """
        weights = self._laid_out()
        waiting = iter(numbers)

        def work(device: int, batch: list[int]) -> Generator[Drawn]:
            # The last batch is padded, because another size would be compiled anew.
            padded = batch + batch[-1:] * (size - len(batch))
            tokens, known, keys = zip(*map(task, padded), strict=True)
            drawing = partial(Drawing, self._programs[device], weights[device], controls=controls)
            rows = 0
            for step in draw(drawing, np.stack(tokens), np.stack(known), list(keys)):
                finished = step.tokens()[: len(batch)] if step.final == self._grid[0] else None
                yield Drawn(np.array(batch), step.rows - rows, finished)
                rows = step.rows

        batches = iter(lambda: list(itertools.islice(waiting, size)), [])
        with closing(run_generators(batches, len(self._networks), work)) as steps:
            yield from steps

    def _likeliest(
        self, batches: Iterable[tuple[np.ndarray, np.ndarray]], best_of: int, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (b,) of images and tokens (b, T) of the likeliest candidate of each.

        Args:
            batches: numbers and tokens of candidates, those of image i from i * best_of on, in any order.
            best_of: candidates of each image.
            batch_size: images per batch, over all devices.
        """
        candidates, tokens = map(np.concatenate, zip(*batches, strict=True))
        order = candidates.argsort()
        tokens = tokens[order]
        # Every part has a multiple of `best_of`: batches of one size are compiled once.
        nats = self._networks[0].score(tokens, min(batch_size, best_of)).astype("float64").sum(axis=1)
        best = nats.reshape(-1, best_of).argmin(axis=1)  # (b,) of (b, K)
        rows = np.arange(len(best)) * best_of + best
        return candidates[order][::best_of] // best_of, tokens[rows]


def _finished(
    steps: Generator[Drawn], count_rows: Callable[[int], object] = int
) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Numbers and tokens of finished batches."""
    with closing(steps):
        for numbers, rows, tokens in steps:
            count_rows(rows)
            if tokens is not None:
                yield numbers, tokens
