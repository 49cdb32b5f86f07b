"""Decode many images, and turn them into tokens, on all cores; images that cannot be read are left out and reported."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from igpt_tf.data.sources.open import Source
from igpt_tf.data.sources.records import Record, Records
from igpt_tf.errors import UserError
from igpt_tf.pictures.crop import random_resized_crop, resize_and_crop
from igpt_tf.pictures.imaging import read_image
from igpt_tf.pictures.palette import Palette, quantize
from igpt_tf.pictures.reading import require_some
from igpt_tf.progress import ProgressBar

# Examples that one thread works on at a time. Part of every store's fingerprint, which is a chain over these chunks.
CHUNK = 512


class Encoded(NamedTuple):
    """The result of encoding some examples.

    rows: tokens (m, T) uint16, or images (m, n_px, n_px, 3) uint8.
    examples: (m,) the example that each row comes from.
    problems: a line for each example that could not be read.
    """

    rows: np.ndarray
    examples: np.ndarray
    problems: list[str]


@dataclass(frozen=True)
class Encoder:
    """Resizes images, and turns them into tokens.

    Args:
        n_px: height and width of the result; 0 keeps those of an array.
        palette: turns images into tokens; None keeps them images.
        random_crops: number of random crops of each image, see `random_resized_crop`; 0 takes its central square.
        seed: draws the random crops, together with the example's number.
    """

    n_px: int
    palette: Palette | None = None
    random_crops: int = 0
    seed: int = 0

    def __call__(self, examples: np.ndarray, items: Sequence[Path] | Records | np.ndarray) -> Encoded:
        """Encode the examples of these numbers (n,), whose items come from `Source.part`."""
        if isinstance(items, np.ndarray):
            items = items.reshape(*items.shape[:3], -1)  # (n, height, width, 1 or 3)
            items = np.broadcast_to(items, (*items.shape[:3], 3))
            if not self.n_px or (not self.random_crops and items.shape[1:3] == (self.n_px, self.n_px)):
                return Encoded(self._quantize(items), examples, [])
        images, numbers, problems = [], [], []
        for example, item in zip(examples.tolist(), items, strict=True):
            try:
                images += self._cut(_read(item), example)
            except UserError as error:
                problems.append(str(error))
            else:
                numbers += [example] * max(1, self.random_crops)
        stacked = np.stack(images) if images else np.empty((0, self.n_px, self.n_px, 3), np.uint8)
        return Encoded(self._quantize(stacked), np.array(numbers, np.int64), problems)

    def _cut(self, image: np.ndarray, example: int) -> list[np.ndarray]:
        if not self.random_crops:
            return [resize_and_crop(image, self.n_px)]
        generators = [np.random.default_rng([self.seed, example, number]) for number in range(self.random_crops)]
        return [random_resized_crop(image, self.n_px, generator) for generator in generators]

    def _quantize(self, images: np.ndarray) -> np.ndarray:
        return images if self.palette is None else quantize(self.palette, images).astype(np.uint16)


def _read(item: Path | Record | np.ndarray) -> np.ndarray:
    """An image (height, width, 3) uint8."""
    if isinstance(item, Record):
        return item.read()
    return read_image(item) if isinstance(item, Path) else item


def encode(
    source: Source, examples: np.ndarray, encoder: Callable[[np.ndarray, Any], Encoded], workers: int | None = None
) -> Iterator[Encoded]:
    """Encode examples of a source on several threads, `CHUNK` at a time and in their order.

    Args:
        source: the images or tokens.
        examples: (n,) numbers of those to encode.
        encoder: called with each chunk's numbers and items, such as an `Encoder`.
        workers: number of threads; None: one per core.
    """
    workers = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    waiting: deque[Future[Encoded]] = deque()
    # Threads suffice: Pillow decodes and resizes without holding the interpreter's lock.
    pool = ThreadPoolExecutor(workers, "encode")
    try:
        for start in range(0, len(examples), CHUNK):
            chunk = examples[start : start + CHUNK]
            waiting.append(pool.submit(encoder, chunk, source.part(chunk)))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def encode_all(
    source: Source, examples: np.ndarray, encoder: Encoder, workers: int | None = None, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of all examples that can be read, and the numbers of these examples; a warning names the others.

    Args:
        source: the images.
        examples: (n,) numbers of those to encode.
        encoder: makes one row of each image.
        workers: as in `encode`.
        progress: show a bar on standard error.

    Raises:
        UserError: if none can be read.
    """
    rows, numbers, problems = np.empty(0), [], []
    done = 0
    with ProgressBar(total=len(examples), unit="image", desc="reading", shown=progress, delay=1) as bar:
        for part in encode(source, examples, encoder, workers):
            if not numbers:
                rows = np.empty((len(examples), *part.rows.shape[1:]), part.rows.dtype)
            rows[done : done + len(part.rows)] = part.rows
            done += len(part.rows)
            numbers.append(part.examples)
            problems += part.problems
            bar.update(len(part.rows) + len(part.problems))
    require_some(source.name, done, problems)
    return rows[:done], np.concatenate(numbers)
