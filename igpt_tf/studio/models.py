"""The models that the studio offers, from their names to what they draw."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

from igpt_tf.errors import UserError, listed
from igpt_tf.pictures.palette import Palette, quantize
from igpt_tf.studio.command import command_of
from igpt_tf.studio.orders import Order
from igpt_tf.weights.presets import Preset, load_palette

WAITING, LOADING, COMPILING, READY, FAILED = "waiting", "loading", "compiling", "ready", "failed"
# Images, or particles of candidates, that are drawn at once.
AT_ONCE = 32


class StudioModel:
    """A model, which is loaded when it is first needed.

    Args:
        name: what the user called it.
        preset: its weights, not read yet.
        load: makes the model of the preset.

    Attributes:
        state: whether it is loaded.
        problem: why it could not be loaded.

    Raises:
        UserError: if it is a BERT model, which cannot draw, or has no palette.
    """

    kind = "pixels"

    def __init__(self, name: str, preset: Preset, load: Callable[[Preset], Any]) -> None:
        if preset.config.bert:
            raise UserError(f"{preset.source}: expected an autoregressive model, got a BERT model, which cannot draw")
        self.name, self.preset, self._load = name, preset, load
        self.palette: Palette = load_palette(preset)
        self.n_px, self.n_vocab = preset.config.n_px, preset.config.n_vocab
        self.n_tokens = preset.config.n_tokens
        self.n_classes = preset.config.n_start - 1
        self.state, self.problem = WAITING, ""
        self._model: Any = None
        self._sampler: Any = None
        # What is compiled already: batch sizes, prefixes, filters.
        self._compiled: set[tuple] = set()

    def describe(self) -> dict[str, Any]:
        """What the page shows of it."""
        colors = self.palette.dequantize(np.arange(self.n_vocab).reshape(1, 1, -1))[0, 0]
        return {
            "name": self.name,
            "kind": self.kind,
            "state": self.state,
            "problem": self.problem,
            "n_px": self.n_px,
            "n_vocab": self.n_vocab,
            "palette": np.broadcast_to(colors, (self.n_vocab, 3)).tolist(),
            "classes": self._names(self.preset.start_classes, self.n_classes),
            "can_classify": self.preset.n_class is not None or self.n_classes > 0,
        }

    def quantize(self, square: np.ndarray) -> np.ndarray:
        """The tokens (T,) of a square picture (n_px, n_px, 3) uint8.

        Args:
            square: the picture.
        """
        return quantize(self.palette, square[None])[0]

    def load(self) -> None:
        """Read the weights, unless they are there; for the worker alone.

        Raises:
            UserError: if they cannot be read.
        """
        if self.state == FAILED:
            raise UserError(self.problem)
        if self._model is not None:
            return
        self.state = LOADING
        try:
            self._model = self._load(self.preset)
            from igpt_tf.sampling import Sampler

            self._sampler = Sampler(self._model)
        except Exception as error:
            self.state, self.problem = FAILED, str(error) or type(error).__name__
            raise
        self.state = READY

    def warm_up(self) -> Generator[None]:
        """Load the model, and draw four lower halves, for which everything is compiled; for the worker alone.

        Yields:
            None, after each row.
        """
        self.load()
        known = np.arange(self.n_tokens) < self.n_px // 2 * self.n_px
        order = Order(self.name, np.zeros(self.n_tokens, "int32"), known)
        if self.needs_compiling(order):
            self.state = COMPILING
            yield from (None for _ in self.draw(order))
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
        names, one = self._names(self.preset.start_classes, self.n_classes), order.class_name
        if one is not None and one not in names and one not in range(self.n_classes):
            known = listed(names) or "none, as the model was trained without classes"
            raise UserError(f"expected `class_name` as one of {known}, got {one!r}"[:300])
        if one is None and order.controls.guidance != 1:
            raise UserError("expected a class to guide towards, got `guidance` alone: choose one")

    def needs_compiling(self, order: Order) -> bool:
        """Whether an order is the first of its kind, so that programs are compiled for it.

        Args:
            order: the drawing.
        """
        return self._signature(order) not in self._compiled

    def draw(self, order: Order, program: str = "igpt") -> Generator[dict[str, Any]]:
        """What happens while an order is drawn, after each row; for the worker alone.

        Args:
            order: the drawing.
            program: how the user calls the program, for the command.

        Yields:
            {"candidates": [first, end], "tokens": of these, "row": the next of them, "provisional": whether the rows
            above it may change, "progress": from 0 to 1}, and at last {"nats": of each token of each candidate,
            "command": the line that draws the same}.

        Raises:
            UserError: if the order does not fit the model.
        """
        self.load()
        is_smc = self._is_smc(order)
        step = max(1, AT_ONCE // order.particles) if is_smc else order.n
        size = min(step, order.n)
        drawn = np.zeros((order.n, self.n_tokens), "int32")
        top, bottom = self._rows(order, is_smc)
        for first in range(0, order.n, size):
            end = min(first + size, order.n)
            # The last ones are padded, because another size would be compiled anew.
            numbers = [min(first + i, order.n - 1) for i in range(size)]
            for row, (final, tokens) in enumerate(self._stream(order, numbers), top):
                drawn[first:end] = tokens[: end - first]
                is_done = final == self.n_px
                part = 1.0 if is_done else (row - top) / (bottom - top)
                yield {
                    "candidates": [first, end],
                    "tokens": drawn[first:end].tolist(),
                    "row": self.n_px if is_done else row,
                    "provisional": is_smc and not is_done,
                    "progress": round((first // size + part) / -(-order.n // size), 4),
                }
        self._compiled.add(self._signature(order))
        nats = self.score(drawn, order.class_name)
        yield {
            "nats": [[round(x, 3) for x in row] for row in nats.tolist()],
            "command": command_of(order, self.n_px, is_smc, size * (order.particles if is_smc else 1), program),
        }

    def score(self, tokens: np.ndarray, class_name: int | str | None = None) -> np.ndarray:
        """The nats (B, T) of each token of images; for the worker alone.

        Args:
            tokens: (B, T) integers.
            class_name: name or number of the class of all; None: no class.

        Raises:
            UserError: if there is no such class.
        """
        self.load()
        from igpt_tf.scoring.evaluation import score

        return score(self._model, tokens, classes=class_name, batch_size=min(8, len(tokens)))

    def classify(self, tokens: np.ndarray, top: int = 5) -> list[dict[str, Any]]:
        """The likeliest classes of an image and their probabilities; for the worker alone.

        Args:
            tokens: (T,) integers.
            top: how many classes.

        Raises:
            UserError: if the model knows no classes.
        """
        self.load()
        from igpt_tf.scoring.classes import classify

        (probabilities,) = classify(self._model, tokens[None])
        has_head = self.preset.n_class is not None
        names = self._names(self.preset.classes if has_head else self.preset.start_classes, len(probabilities))
        best = probabilities.argsort(kind="stable")[::-1][:top]
        return [{"name": names[i], "probability": float(probabilities[i])} for i in best]

    def _stream(self, order: Order, numbers: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        """The candidates of these numbers, row by row."""
        from igpt_tf.sampling.keys import candidate_seeds

        if order.tokens is None or order.known is None:
            # The images of `igpt sample`, which all fit at once.
            tokens, seed = np.zeros((order.n, self.n_tokens), "int32"), order.seed
            known = np.zeros(tokens.shape, bool)
        else:
            tokens, known = (array[None].repeat(len(numbers), axis=0) for array in (order.tokens, order.known))
            seeds = candidate_seeds(order.seed, 1, order.n)
            seed = [seeds[number] for number in numbers]
        return self._sampler.stream(
            tokens,
            known,
            order.controls,
            classes=order.class_name,
            seed=seed,
            method="auto" if order.controls.greedy else order.method,
            n_particles=order.particles,
        )

    def _rows(self, order: Order, is_smc: bool) -> tuple[int, int]:
        """The first row and the end of the rows that are drawn."""
        if order.known is None:
            return 0, self.n_px
        unknown = np.flatnonzero(~order.known) // self.n_px
        return int(unknown[0]), self.n_px if is_smc else int(unknown[-1]) + 1

    def _is_smc(self, order: Order) -> bool:
        from igpt_tf.sampling.region import is_prefix

        if order.known is None or order.controls.greedy or order.method == "forced":
            return False
        return order.method == "smc" or not is_prefix(order.known[None])[0]

    def _signature(self, order: Order) -> tuple:
        is_smc = self._is_smc(order)
        first, _ = self._rows(order, is_smc)
        size = max(1, AT_ONCE // order.particles) * order.particles if is_smc else order.n
        return first, size, is_smc, *order.controls.values(), order.controls.guidance != 1

    @staticmethod
    def _names(names: tuple[str, ...] | None, n: int) -> list[str]:
        return list(names) if names else [str(i) for i in range(n)]
