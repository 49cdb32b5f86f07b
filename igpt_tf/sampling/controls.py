"""The numbers that decide how tokens are drawn; they are checked without Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from igpt_tf.errors import UsageError, whole_number

FILTERS = ("temperature", "top_k", "top_p", "min_p")


@dataclasses.dataclass(frozen=True)
class Controls:
    """How tokens are chosen: drawn, with temperature, filters and guidance, or searched for, with beams.

    Guidance comes first, then temperature and filters in the order of the attributes.

    Attributes:
        temperature: divides the logits; 0 always takes the likeliest colour.
        top_k: keeps the k likeliest colours; None: all.
        top_p: then keeps the smallest set of colours with at least this probability (Holtzman et al., 2020); None: all.
        min_p: then keeps the colours at least this many times as likely as the likeliest (Nguyen et al., 2024); None:
            all.
        guidance: how much images are of their class; 1: as those that the model was trained on, 0: of no class.
        beam_width: search for the likeliest image in place of drawing one, and keep this many beginnings of it after
            every token; None: draw.

    Raises:
        UsageError: if a value is invalid, or a temperature or filter is given with `beam_width`.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    guidance: float = 1.0
    beam_width: int | None = None

    def __post_init__(self) -> None:
        checked: dict[str, float | None] = {
            "temperature": _number("temperature", self.temperature, "of at least 0", lambda x: 0 <= x < np.inf),
            "guidance": _number("guidance", self.guidance, "of at least 0", lambda x: 0 <= x < np.inf),
        }
        if self.top_k is not None:
            checked["top_k"] = whole_number("top_k", self.top_k, 1)
        if self.top_p is not None:
            top_p = _number("top_p", self.top_p, "above 0 and at most 1", lambda x: 0 < x <= 1)
            # In float32, a sum of probabilities may reach 1 before the last of them: a filter of 1 would not keep all.
            checked["top_p"] = None if top_p == 1 else top_p
        if self.min_p is not None:
            checked["min_p"] = _number("min_p", self.min_p, "from 0 to 1", lambda x: 0 <= x <= 1) or None
        if self.beam_width is not None:
            checked["beam_width"] = whole_number("beam_width", self.beam_width, 1)
            # The class has the defaults, which change nothing.
            others = [name for name in FILTERS if checked.get(name) != getattr(Controls, name)]
            if others:
                raise UsageError(
                    f"expected `beam_width` without `{others[0]}`, as a search draws nothing at random, got both: "
                    "leave one of them out"
                )
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def greedy(self) -> bool:
        """Whether only the likeliest colour can be drawn, so that all draws are equal."""
        return self.temperature == 0 or self.top_k == 1 or self.min_p == 1

    def values(self) -> dict[str, np.ndarray]:
        """The temperature and the filters that are given, as arrays: a compiled program serves any values of them."""
        given = {name: getattr(self, name) for name in FILTERS if getattr(self, name) is not None}
        if "top_k" in given:
            # No palette has more colours.
            given["top_k"] = min(given["top_k"], np.iinfo("int32").max)
        return {name: np.array(value, "int32" if name == "top_k" else "float32") for name, value in given.items()}


def _number(name: str, value: Any, kind: str, fits: Callable[[float], bool]) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not fits(number):
        raise UsageError(f"expected `{name}` as a number {kind}, got {value}")
    return number
