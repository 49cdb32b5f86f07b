"""Image GPTs of the studio, which draw pixels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.pictures.palette import Palette, quantize
from igpt_tf.studio.command import command_of
from igpt_tf.studio.drawer import AT_ONCE, Drawer
from igpt_tf.studio.orders import Order
from igpt_tf.weights.presets import Preset, load_palette


class StudioModel(Drawer):
    """An Image GPT, as a `Drawer`.

    Args:
        name: what the user called it.
        preset: its weights, not read yet.
        load: makes the model of the preset.
        require: is called with what limits a drawing, "candidates" or "particles", how many images are drawn at once,
            whether guided, and how many tokens are given; raises a `UserError` if they do not fit into memory.

    Raises:
        UserError: if it is a BERT model, which cannot draw, or has no palette.
    """

    def __init__(
        self,
        name: str,
        preset: Preset,
        load: Callable[[Preset], Any],
        require: Callable[[str, int, bool, int], None] = lambda *_: None,
    ) -> None:
        config = preset.config
        if config.bert:
            raise UserError(f"{preset.source}: expected an autoregressive model, got a BERT model, which cannot draw")
        classes = _names(preset.start_classes, config.n_start - 1)
        super().__init__(name, config.n_px, config.n_vocab, classes, lambda: load(preset))
        self._palette: Palette = load_palette(preset)
        self._preset, self._require = preset, require
        self.can_classify = preset.n_class is not None or bool(classes)

    def colors(self) -> list[list[int]]:
        """Red, green and blue of each token."""
        colors = self.pictures(np.arange(self.n_vocab).reshape(1, 1, -1))[0, 0]
        return np.broadcast_to(colors, (self.n_vocab, 3)).tolist()

    def quantize(self, square: np.ndarray) -> np.ndarray:
        """The nearest colours of the palette."""
        return quantize(self._palette, square[None])[0]

    def pictures(self, tokens: np.ndarray) -> np.ndarray:
        """The palette's colours."""
        return self._palette.dequantize(tokens)

    def draw(self, order: Order, program: str = "igpt") -> Generator[dict[str, Any]]:
        """Rows, of candidates that fit into one batch together."""
        self.load()
        is_smc = self.is_smc(order)
        step = max(1, AT_ONCE // order.particles) if is_smc else order.n
        size = min(step, order.n)
        at_once = size * (order.particles if is_smc else 1)
        top, bottom = self._rows(order, is_smc)
        self._require("particles" if is_smc else "candidates", at_once, order.controls.guidance != 1, top * self.n_px)
        drawn = np.zeros((order.n, self.n_tokens), "int32")
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
        self._compiled.add(self.signature(order))
        nats = self.score(drawn, order.class_name)
        yield {
            "nats": [[round(x, 3) for x in row] for row in nats.tolist()],
            "command": command_of(order, self.n_px, is_smc, at_once, program),
        }

    def score(self, tokens: np.ndarray, class_name: int | str | None = None) -> np.ndarray:
        """The nats (B, T) of each token of images (B, T)."""
        self.load()
        from igpt_tf.scoring.evaluation import score

        return score(self._model, tokens, classes=class_name, batch_size=min(8, len(tokens)))

    def classify(self, tokens: np.ndarray, top: int = 5) -> list[dict[str, Any]]:
        """The likeliest classes, as the head or the likelihoods given each class say."""
        self.load()
        from igpt_tf.scoring.classes import classify

        (probabilities,) = classify(self._model, tokens[None])
        has_head = self._preset.n_class is not None
        names = _names(self._preset.classes if has_head else self._preset.start_classes, len(probabilities))
        best = probabilities.argsort(kind="stable")[::-1][:top]
        return [{"name": names[i], "probability": float(probabilities[i])} for i in best]

    def _stream(self, order: Order, numbers: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        """The candidates of these numbers, row by row."""
        from igpt_tf.sampling.api import sampler_of
        from igpt_tf.sampling.keys import candidate_seeds

        if order.tokens is None or order.known is None:
            # The images of `igpt sample`, which all fit at once.
            tokens, seed = np.zeros((order.n, self.n_tokens), "int32"), order.seed
            known = np.zeros(tokens.shape, bool)
        else:
            tokens, known = (array[None].repeat(len(numbers), axis=0) for array in (order.tokens, order.known))
            seeds = candidate_seeds(order.seed, 1, order.n)
            seed = [seeds[number] for number in numbers]
        return sampler_of(self._model).stream(
            tokens,
            known,
            order.controls,
            classes=order.class_name,
            seed=seed,
            method=self.method_of(order),
            n_particles=order.particles,
        )

    def _rows(self, order: Order, is_smc: bool) -> tuple[int, int]:
        """The first row and the end of the rows that are drawn."""
        if order.known is None:
            return 0, self.n_px
        unknown = np.flatnonzero(~order.known) // self.n_px
        return int(unknown[0]), self.n_px if is_smc else int(unknown[-1]) + 1

    def signature(self, order: Order) -> tuple:
        """Size of the batch, first row, and which filters there are."""
        is_smc = self.is_smc(order)
        first, _ = self._rows(order, is_smc)
        size = max(1, AT_ONCE // order.particles) * order.particles if is_smc else order.n
        return first, size, is_smc, *order.controls.values(), order.controls.guidance != 1


def _names(names: tuple[str, ...] | None, n: int) -> list[str]:
    return list(names) if names else [str(i) for i in range(n)]
