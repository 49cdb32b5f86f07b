"""What drawing knows of a network: one position at a time, with a cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError

# Nested lists, tuples and dictionaries of arrays, as all backends take them for an argument.
Weights = Any
# Arrays of one layer, or of all, the batch in front.
Cache = tuple[Any, ...]


class Network(Protocol):
    """One device's copy of a network that predicts the tokens of a grid one by one, in raster order.

    Drawing knows nothing else of a model. The cache has two parts so that a loop over the pixels of a row carries and
    updates only `recent`: XLA would copy `past` at every pixel.

    Attributes:
        grid: height and width of an image in tokens.
        n_vocab: tokens the network knows, V.
    """

    grid: tuple[int, int]
    n_vocab: int

    def version(self) -> Any:
        """A value that is equal to an earlier one only if the weights have not changed since."""
        ...

    def lay_out(self) -> Weights:
        """The weights as `step` reads them."""
        ...

    def release(self) -> None:
        """Called when what was laid out is no longer needed: frees what the network itself keeps of it."""
        ...

    def starts(self, classes: Any, n_images: int) -> np.ndarray:
        """What each image is drawn given, int32 (n_images,) or (n_images, S), from what the user calls its class.

        None is no class, and 0 stands for it.

        Raises:
            UserError: if there is no such class.
        """
        ...

    def prefill(self, prefix: Any, start: Any) -> tuple[list[Cache], list[Cache]]:
        """The cache, past and recent, of images that begin with `start` (B, ...) and known rows of tokens (B, P).

        P may be 0.
        """
        ...

    def step(
        self, weights: Weights, previous: Any, position: Any, past: list[Cache], recent: list[Cache]
    ) -> tuple[Any, list[Cache]]:
        """The float32 logits (B, V) of a position, and `recent` with it included.

        `previous` is the token (B,) before the position; at position 0, the image's start, or the first number of it.
        """
        ...

    def end_row(self, rows: int, past: list[Cache], recent: list[Cache]) -> None:
        """Called when `rows` rows are drawn and another follows: may move what is recent to past, in place."""
        ...

    def put(self, array: Any) -> Any:
        """The array on the network's device."""
        ...

    def compile(self, function: Callable) -> Callable:
        """A function of arrays, which may call `step` and `loop`, made to run on the device."""
        ...

    def loop(self, count: int, body: Callable, state: tuple) -> tuple:
        """`state` after `state = body(i, state)` for each i below `count`."""
        ...

    def score(self, tokens: np.ndarray, start: np.ndarray | None, batch_size: int) -> np.ndarray:
        """The negative log-likelihood in nats (B, T) of each token of whole images (B, T).

        `start` is as in `prefill`; None: images of no class.
        """
        ...


def require_autoregressive(config: ImageGPTConfig) -> None:
    """A `UserError` for a BERT model."""
    if config.bert:
        raise UserError(
            "expected an autoregressive model, got a BERT model, which cannot draw pixels one after another"
        )
