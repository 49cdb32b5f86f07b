"""Image GPT on a processor without TensorFlow or JAX, as a `Network`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from igpt_tf.config import ImageGPTConfig, check_tokens, start_numbers
from igpt_tf.errors import UserError
from igpt_tf.sampling.native.elementwise import whole
from igpt_tf.sampling.native.kernels import step
from igpt_tf.sampling.native.prefix import fill_cache, nats_of
from igpt_tf.sampling.native.team import Team, count_cores
from igpt_tf.sampling.native.vectors import BLOCK, TILE
from igpt_tf.sampling.native.weights import STORAGES, Matrices, lay_out, padded, room
from igpt_tf.sampling.network import Cache, require_autoregressive
from igpt_tf.sampling.workers import require_open


class NativeNetwork:
    """An autoregressive Image GPT on the processor, as a `Network`.

    Args:
        config: the model's shape.
        read: returns the array of one of OpenAI's names without `model/`.
        classes: names of the classes of the start embeddings; None: they have none.
        storage: of weights and cache: "float32", "bfloat16" or "int8"; arithmetic is in float32.
        threads: processor cores to compute on; None: all that a model of this width can use.
        version: returns a value that changes whenever the weights do; None: they never change.

    Raises:
        UserError: if the model is a BERT model, or there is no such storage.
    """

    def __init__(
        self,
        config: ImageGPTConfig,
        read: Callable[[str], np.ndarray],
        classes: Sequence[str] | None = None,
        storage: str = "float32",
        threads: int | None = None,
        version: Callable[[], Any] | None = None,
    ) -> None:
        require_autoregressive(config)
        if storage not in STORAGES:
            raise UserError(f"expected `storage` as one of {', '.join(STORAGES)}, got {storage!r}", "storage")
        self.config = config
        self.grid = (config.n_px, config.n_px)
        self.n_vocab = config.n_vocab
        self.storage = storage
        self.version = version or (lambda: 0)
        self._read, self._classes = read, classes
        # Threads that have no tile of a product would only be waited for.
        self._team = Team(threads or min(count_cores(), whole(config.n_embd) // TILE))
        # Several drawings may take turns with one network.
        self._busy = threading.Lock()
        self._scratch: tuple[int, Any] = (0, None)
        self._weights: Matrices | None = None

    def lay_out(self) -> Matrices:
        """The weights as `step` reads them."""
        self._weights = lay_out(self.config, self._read, self.storage)
        return self._weights

    def release(self) -> None:
        """Free the weights until a prefix or a score needs them, and the scratch of the last step."""
        with self._busy:
            self._weights, self._scratch = None, (0, None)

    def starts(self, classes: Any, n_images: int) -> np.ndarray:
        """The number of each image's start embedding."""
        return start_numbers(self.config.n_start, self._classes, classes, n_images)

    def prefill(self, prefix: np.ndarray, start: np.ndarray) -> tuple[list[Cache], list[Cache]]:
        """The cache of images that begin with known tokens (B, P): one entry for all layers, which `step` writes to."""
        config, dtype, n_images = self.config, STORAGES[self.storage], len(prefix)
        lead = (n_images, config.n_layer, config.n_head)
        keys = np.zeros((*lead, room(config) // BLOCK, config.head_size, BLOCK), dtype)
        values = np.zeros((*lead, room(config), padded(config)), dtype)
        scales = (*lead, room(config)) if dtype == np.int8 else (n_images, 0)
        cache = (keys, values, np.zeros(scales, "float32"), np.zeros(scales, "float32"))
        if prefix.shape[1]:
            with self._busy:
                fill_cache(config, self._laid_out(), prefix, start, cache, self._team.size)
        return [cache], [()]

    def step(
        self, weights: Matrices, previous: np.ndarray, position: Any, past: list[Cache], recent: list[Cache]
    ) -> tuple[np.ndarray, list[Cache]]:
        """The logits (B, V) of a position given the token before it, or the start embedding's number."""
        require_open()
        config, n_images, position = self.config, len(previous), int(position)
        shape = (n_images, config.n_layer, config.n_head, config.head_size, config.n_vocab, room(config))
        cache = [array.reshape(-1) for array in past[0]]
        with self._busy:
            x, shared, own = self._scratch_of(n_images)
            x[:, : config.n_embd] = (weights.wte if position else weights.sos)[previous] + weights.wpe[position]
            flat = [array.reshape(-1) for array in shared]

            def part(thread: int, counters: np.ndarray) -> None:
                step(
                    thread,
                    self._team.size,
                    counters,
                    shape,
                    position,
                    x.reshape(-1),
                    *own[thread],
                    *flat,
                    weights.stored,
                    weights.scales,
                    *cache,
                )

            self._team.run(part)
            return shared[-1][:, : config.n_vocab].copy(), recent

    def end_row(self, rows: int, past: list[Cache], recent: list[Cache]) -> None:
        """Nothing to do: the cache has one part."""

    def put(self, array: Any) -> np.ndarray:
        """The array itself."""
        return np.asarray(array)

    def compile(self, function: Callable) -> Callable:
        """The function itself: what takes time is compiled."""
        return function

    def loop(self, count: int, body: Callable, state: tuple) -> tuple:
        """Python's own loop."""
        for i in range(count):
            state = body(np.int32(i), state)
        return state

    def score(self, tokens: np.ndarray, start: np.ndarray | None, batch_size: int) -> np.ndarray:
        """Nats (B, T) float32 of each token of whole images (B, T)."""
        check_tokens(self.config, tokens)
        tokens = np.asarray(tokens, "int32")
        start = np.zeros(len(tokens), "int32") if start is None else start
        with self._busy:
            weights, parts = self._laid_out(), range(0, len(tokens), batch_size)
            found = [
                nats_of(self.config, weights, tokens[i : i + batch_size], start[i : i + batch_size], self._team.size)
                for i in parts
            ]
        return np.concatenate(found)

    def _laid_out(self) -> Matrices:
        return self._weights or self.lay_out()

    def _scratch_of(self, n_images: int) -> tuple[np.ndarray, list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
        """What a step of `n_images` images writes to: x, what threads share, and what each has alone.

        That of the last number of images is kept.
        """
        if self._scratch[0] != n_images:
            config, width = self.config, whole(self.config.n_embd)
            merged = config.n_head * padded(config)
            columns = [width, whole(3 * config.n_embd), merged, whole(4 * config.n_embd)]
            shared = [np.zeros((n_images, n), "float32") for n in [*columns, whole(config.n_vocab)]]
            own = [
                (np.zeros(n_images * width, "float32"), np.zeros(room(config), "float32"))
                for _ in range(self._team.size)
            ]
            self._scratch = n_images, (np.zeros((n_images, width), "float32"), shared, own)
        return self._scratch[1]
