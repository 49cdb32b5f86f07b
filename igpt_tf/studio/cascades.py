"""Cascades of the studio, which draw codes of larger pictures, stage by stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.studio.command import command_of
from igpt_tf.studio.drawer import AT_ONCE, Drawer
from igpt_tf.studio.orders import Order
from igpt_tf.weights.arrays import CASCADE_FILE, read_fields

N_COLORS = 2**24
# To and from a number of a colour.
SHIFTS = np.array([16, 8, 0])


class CascadeModel(Drawer):
    """A cascade, as a `Drawer` whose tokens are colours themselves.

    Args:
        name: what the user called it.
        folder: of the cascade.
        load: makes the cascade of its folder.

    Raises:
        UserError: if its pictures are not square.
    """

    has_likelihood = False

    def __init__(self, name: str, folder: Path, load: Callable[[Path], Any]) -> None:
        fields = read_fields(folder / CASCADE_FILE, "a cascade's stages")
        height, width = fields.get("height"), fields.get("width")
        if not isinstance(height, int) or height != width:
            raise UserError(f"{folder}: expected a cascade of square pictures, got one of {height} x {width}")
        super().__init__(name, height, N_COLORS, [], lambda: load(folder))

    def colors(self) -> None:
        """None, as tokens are colours."""

    def quantize(self, square: np.ndarray) -> np.ndarray:
        """The colours as they are."""
        return (square.astype(np.int32) << SHIFTS).sum(axis=2, dtype=np.int32).reshape(-1)

    def pictures(self, tokens: np.ndarray) -> np.ndarray:
        """The colours as they are."""
        squares = tokens.reshape(len(tokens), self.n_px, self.n_px, 1)
        return (squares >> SHIFTS & 255).astype(np.uint8)

    def signature(self, order: Order) -> tuple:
        """Size of the batch, and whether something is given."""
        return order.n, order.particles, order.method, order.known is None, *order.controls.values()

    def draw(self, order: Order, program: str = "igpt") -> Generator[dict[str, Any]]:
        """Stages: each shows whole pictures, finer than those before."""
        self.load()
        if order.known is not None and not order.known.any():
            order = dataclasses.replace(order, tokens=None, known=None)
        known = np.zeros(self.n_tokens, bool) if order.known is None else order.known
        is_smc = self.is_smc(order)
        size = min(order.n, max(1, AT_ONCE // order.particles) if is_smc else order.n)
        n_stages, there = self._model.n_stages, known.reshape(self.n_px, self.n_px)
        given = self.pictures((np.zeros(self.n_tokens, "int32") if order.tokens is None else order.tokens)[None])
        for first in range(0, order.n, size):
            end = min(first + size, order.n)
            steps = self._model.stream(
                given.repeat(end - first, axis=0),
                there,
                controls=order.controls,
                method=self.method_of(order),
                n_particles=order.particles,
                seed=order.seed,
                first=first,
            )
            for stage, row, codes in steps:
                n_rows = self._model.grids[stage][0]
                part = (first + (end - first) * (stage + row / n_rows) / n_stages) / order.n
                event = {"progress": round(part, 4), "stage": stage + 1, "stages": n_stages}
                if row == n_rows:
                    drawn = np.where(there[..., None], given, self._model.decode(codes, stage))
                    event |= {
                        "candidates": [first, end],
                        "tokens": [self.quantize(picture).tolist() for picture in drawn],
                        "row": self.n_px,
                        "provisional": stage < n_stages - 1,
                    }
                yield event
        self._compiled.add(self.signature(order))
        at_once = size * (order.particles if is_smc else 1)
        command = command_of(order, self.n_px, is_smc, at_once, f"{program} cascade", "generate")
        yield {"nats": None, "command": command}
