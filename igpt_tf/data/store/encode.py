"""Many pictures decoded, and turned into tokens, on all cores; those that cannot be read are passed over and named."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from igpt_tf.data.sources.arrays import check_tokens
from igpt_tf.data.sources.open import Source
from igpt_tf.errors import UserError
from igpt_tf.pictures.crop import random_resized_crop
from igpt_tf.pictures.imaging import read_image, resize_and_crop
from igpt_tf.pictures.palette import Palette, quantize

# Examples that one process works on at a time.
CHUNK = 512
# Fewer files than this are done before other processes have started.
FEW = 2 * CHUNK


class Encoded(NamedTuple):
    """What became of some examples.

    rows: tokens (m, T) uint16, or pictures (m, n_px, n_px, 3) uint8.
    examples: (m,) the example that each row comes from.
    problems: (example, reason) of each that could not be read.
    """

    rows: np.ndarray
    examples: np.ndarray
    problems: list[tuple[int, str]]


@dataclass(frozen=True)
class Encoder:
    """What is done to each picture.

    Args:
        n_px: height and width it is brought to.
        palette: turns it into tokens; None leaves it a picture.
        random_crops: how many random crops of it are taken, see `random_resized_crop`; 0: its middle, once.
        seed: decides those crops, with the example's number.
    """

    n_px: int
    palette: Palette | None = None
    random_crops: int = 0
    seed: int = 0

    def __call__(self, examples: np.ndarray, items: Sequence[Path] | np.ndarray) -> Encoded:
        """Examples of these numbers (n,) and their items, see `Source.part`."""
        if isinstance(items, np.ndarray) and not self.random_crops and items.shape[1:3] == (self.n_px, self.n_px):
            pictures = np.broadcast_to(items.reshape(*items.shape[:3], -1), (*items.shape[:3], 3))
            return Encoded(self._colour(pictures), examples, [])
        pictures, numbers, problems = [], [], []
        for example, item in zip(examples.tolist(), items, strict=True):
            try:
                picture = read_image(item) if isinstance(item, Path) else _with_colour(item)
                pictures += self._cut(picture, example)
            except UserError as error:
                problems.append((example, str(error)))
            else:
                numbers += [example] * max(1, self.random_crops)
        stacked = np.stack(pictures) if pictures else np.empty((0, self.n_px, self.n_px, 3), np.uint8)
        return Encoded(self._colour(stacked), np.array(numbers, np.int64), problems)

    def _cut(self, picture: np.ndarray, example: int) -> list[np.ndarray]:
        if not self.random_crops:
            return [resize_and_crop(picture, self.n_px)]
        generators = [np.random.default_rng([self.seed, example, number]) for number in range(self.random_crops)]
        return [random_resized_crop(picture, self.n_px, generator) for generator in generators]

    def _colour(self, pictures: np.ndarray) -> np.ndarray:
        return pictures if self.palette is None else quantize(self.palette, pictures).astype(np.uint16)


@dataclass(frozen=True)
class TokenEncoder:
    """For sources that hold tokens already: checks them.

    Args:
        name: the source's, for messages.
        n_px: height and width of the images.
        n_vocab: colours that the tokens may use.
    """

    name: str
    n_px: int
    n_vocab: int

    def __call__(self, examples: np.ndarray, items: np.ndarray) -> Encoded:
        """Examples of these numbers (n,) and their tokens."""
        tokens = check_tokens(self.name, items, self.n_px, self.n_vocab)
        return Encoded(tokens.astype(np.uint16), examples, [])


def encode(
    source: Source, examples: np.ndarray, encoder: Encoder | TokenEncoder, workers: int | None = None
) -> Iterator[Encoded]:
    """Encode examples of a source, `CHUNK` at a time and in their order, on several processes.

    The processes import the program's main module, so a script that calls this needs `if __name__ == "__main__"`.

    Args:
        source: where they come from.
        examples: (n,) which.
        encoder: what is done to them.
        workers: processes; None: one a core; 1: this one alone.

    Raises:
        UserError: a process died, or a source of tokens does not fit.
    """
    chunks = [examples[start : start + CHUNK] for start in range(0, len(examples), CHUNK)]
    workers = min(_cores() if workers is None else workers, len(chunks))
    if workers <= 1 or len(examples) <= FEW or isinstance(encoder, TokenEncoder):
        for chunk in chunks:
            yield encoder(chunk, source.part(chunk))
        return
    # Not forked: a copy of a process in which TensorFlow or JAX has started threads may hang.
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (encoder,)
    )
    waiting: deque[concurrent.futures.Future] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_work, chunk, source.part(chunk)))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"{source.name}: a process that reads images died, perhaps for want of memory; try again with fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _with_colour(image: np.ndarray) -> np.ndarray:
    """One picture (height, width[, 1 or 3]) as (height, width, 3)."""
    return np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3))


_encoder: Encoder | None = None


def _start_worker(encoder: Encoder) -> None:
    global _encoder
    _encoder = encoder
    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its processes, and they would wait for work for ever."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _work(examples: np.ndarray, items: Sequence[Path] | np.ndarray) -> Encoded:
    return _encoder(examples, items)
