"""What every model of the studio has: a name, a size, and a state that the page shows while it is loaded."""

from __future__ import annotations

import abc
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from igpt_tf.errors import UserError, listed
from igpt_tf.studio.orders import Order

WAITING, LOADING, COMPILING, READY, FAILED = "waiting", "loading", "compiling", "ready", "failed"
# Images, or particles of candidates, that are drawn at once.
AT_ONCE = 32


class Drawer(abc.ABC):
    """A model that draws what the page orders, and is loaded when it is first needed.

    Whatever computes is for the worker alone.

    Args:
        name: what the user called it.
        n_px: side of its images.
        n_vocab: colours of their pixels.
        classes: names of the classes that it can draw.
        load: makes the model.

    Attributes:
        state: whether it is loaded.
        problem: why it could not be loaded.
        can_classify: whether it names the classes of images.
        has_likelihood: whether it knows how likely each pixel is.
    """

    can_classify = False
    has_likelihood = True

    def __init__(self, name: str, n_px: int, n_vocab: int, classes: list[str], load: Callable[[], Any]) -> None:
        self.name, self.n_px, self.n_vocab, self.classes, self._load = name, n_px, n_vocab, classes, load
        self.n_tokens = n_px**2
        self.state, self.problem = WAITING, ""
        self._model: Any = None
        # What is compiled already: batch sizes, prefixes, filters.
        self._compiled: set[tuple] = set()

    def describe(self) -> dict[str, Any]:
        """What the page shows of it."""
        names = ("name", "state", "problem", "n_px", "n_vocab", "classes", "can_classify", "has_likelihood")
        return {name: getattr(self, name) for name in names} | {"palette": self.colors()}

    @abc.abstractmethod
    def colors(self) -> list[list[int]] | None:
        """Red, green and blue of each token; None: tokens are colours themselves, 65,536 red + 256 green + blue."""

    @abc.abstractmethod
    def quantize(self, square: np.ndarray) -> np.ndarray:
        """The tokens (T,) of a square picture (n_px, n_px, 3) uint8."""

    @abc.abstractmethod
    def pictures(self, tokens: np.ndarray) -> np.ndarray:
        """The pictures (N, n_px, n_px, C) uint8 of tokens (N, T)."""

    @abc.abstractmethod
    def draw(self, order: Order, program: str = "igpt") -> Generator[dict[str, Any]]:
        """What happens while an order is drawn, after each row.

        Args:
            order: the drawing.
            program: how the user calls the program, for the command.

        Yields:
            {"progress": from 0 to 1} and, where there is more to see, {"candidates": [first, end], "tokens": of these,
            "row": the next of them, "provisional": whether the rows above it may change}; at last {"nats": of each
            token of each candidate, or None, "command": the line that draws the same, or None}.

        Raises:
            UserError: if the order does not fit the model.
        """

    @abc.abstractmethod
    def signature(self, order: Order) -> tuple:
        """What is equal of two orders for which the same programs are compiled."""

    def score(self, tokens: np.ndarray, class_name: int | str | None = None) -> np.ndarray:
        """The nats (B, T) of each token of images.

        Args:
            tokens: (B, T) integers.
            class_name: name or number of the class of all; None: no class.

        Raises:
            UserError: if there is no such class, or the model knows no likelihood of pixels.
        """
        raise UserError(f"expected a model that draws pixels, got {self.name}, which draws codes")

    def classify(self, tokens: np.ndarray, top: int = 5) -> list[dict[str, Any]]:
        """The likeliest classes of an image and their probabilities.

        Args:
            tokens: (T,) integers.
            top: how many classes.

        Raises:
            UserError: if the model knows no classes.
        """
        raise UserError(f"expected a model that knows classes, got {self.name}")

    def load(self) -> None:
        """Read the weights, unless they are there.

        Raises:
            UserError: if they cannot be read.
        """
        if self.state == FAILED:
            raise UserError(self.problem)
        if self._model is not None:
            return
        self.state = LOADING
        try:
            self._model = self._load()
        except Exception as error:
            self.state, self.problem = FAILED, str(error) or type(error).__name__
            raise
        self.state = READY

    def warm_up(self) -> Generator[None]:
        """Load the model, and draw four lower halves, for which everything is compiled.

        Yields:
            None, after each row.
        """
        self.load()
        known = np.arange(self.n_tokens) < self.n_px // 2 * self.n_px
        order = Order(self.name, np.zeros(self.n_tokens, "int32"), known)
        if self.needs_compiling(order):
            self.state = COMPILING
            try:
                yield from (None for _ in self.draw(order))
            finally:
                self.state = READY

    def check(self, order: Order) -> None:
        """Refuse what cannot be drawn, before it waits for its turn.

        Args:
            order: the drawing.

        Raises:
            UserError: if nothing is to be drawn, or there is no such class.
        """
        if order.known is not None and order.known.all():
            raise UserError("expected a part to be drawn, got a mask that keeps everything: paint on the picture")
        one = order.class_name
        if one is not None and one not in self.classes and one not in range(len(self.classes)):
            known = listed(self.classes) or "none, as the model was trained without classes"
            raise UserError(f"expected `class_name` as one of {known}, got {one!r}"[:300])
        if one is None and order.controls.guidance != 1:
            raise UserError("expected a class to guide towards, got `guidance` alone: choose one")

    def method_of(self, order: Order) -> str:
        """The method of an order; where nothing is given, or nothing is left to chance, there is no choice.

        Args:
            order: the drawing.
        """
        return "auto" if order.known is None or order.controls.greedy else order.method

    def is_smc(self, order: Order) -> bool:
        """Whether known pixels follow missing ones, so that particles are drawn.

        Args:
            order: the drawing.
        """
        from igpt_tf.sampling.region import is_prefix

        if order.known is None or order.controls.greedy or order.method == "forced":
            return False
        return order.method == "smc" or not is_prefix(order.known[None])[0]

    def needs_compiling(self, order: Order) -> bool:
        """Whether an order is the first of its kind, so that programs are compiled for it.

        Args:
            order: the drawing.
        """
        return self.signature(order) not in self._compiled
