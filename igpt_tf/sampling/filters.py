"""From logits to a token: temperature, filters and the draw."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from igpt_tf.errors import UsageError, whole_number


@dataclasses.dataclass(frozen=True)
class Controls:
    """Temperature and filters of the distribution that tokens are drawn from, applied in the order of the attributes.

    Attributes:
        temperature: divides the logits: below 1 favours likely colours, 0 always takes the likeliest.
        top_k: keep the k likeliest colours; None keeps all.
        top_p: then keep the smallest set of likeliest colours whose probabilities sum to at least p (Holtzman et
            al., 2020); None keeps all, and 1 becomes None.
        min_p: then keep colours that are at least this many times as likely as the likeliest (Nguyen et al., 2024);
            None keeps all, and 0 becomes None.

    Raises:
        UsageError: if a value is invalid.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p"):
            value = getattr(self, name)
            if name == "temperature" or value is not None:
                self._set(name, _number(name, value))
        if not 0 <= self.temperature < np.inf:
            raise UsageError(f"expected temperature as a number of at least 0, got {self.temperature}")
        if self.top_k is not None:
            self._set("top_k", whole_number("top_k", self.top_k, 1))
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"expected top_p as a number above 0 and at most 1, got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise UsageError(f"expected min_p as a number from 0 to 1, got {self.min_p}")
        # In float32, a sum of probabilities may reach 1 before the last of them: a filter of 1 would not keep all.
        if self.top_p == 1:
            self._set("top_p", None)
        if self.min_p == 0:
            self._set("min_p", None)

    def _set(self, name: str, value: float | None) -> None:
        object.__setattr__(self, name, value)

    @property
    def greedy(self) -> bool:
        """Whether only the likeliest colour can be drawn, so that all draws are equal."""
        return self.temperature == 0 or self.top_k == 1 or self.min_p == 1

    def values(self) -> dict[str, np.ndarray]:
        """The values that are not None, as arrays: a compiled program that takes them serves any values."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        if "top_k" in given:
            # No palette has more colours.
            given["top_k"] = min(given["top_k"], np.iinfo("int32").max)
        return {name: np.array(value, "int32" if name == "top_k" else "float32") for name, value in given.items()}


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"expected {name} as a number, got {value}") from None


def filter_logits(logits: Any, temperature: Any, top_k: Any = None, top_p: Any = None, min_p: Any = None) -> Any:
    """Divide logits (B, V) by the temperature and set those that are filtered out to minus infinity.

    Colours as likely as the last one kept are kept too, so that the result does not depend on their order.

    Args:
        logits: (B, V) float32.
        temperature: scalar above 0.
        top_k: scalar, how many of the likeliest colours to keep; None keeps all.
        top_p: scalar, the least total probability to keep; None keeps all.
        min_p: scalar, the least probability to keep relative to the likeliest colour's; None keeps all.
    """
    logits = logits / temperature
    if top_k is not None or top_p is not None:
        descending = ops.flip(ops.sort(logits, axis=-1), axis=-1)
        smallest = -np.inf
        if top_k is not None:
            smallest = ops.take(descending, ops.minimum(top_k, logits.shape[-1]) - 1, axis=-1)[:, None]
            descending = ops.where(descending >= smallest, descending, -np.inf)
        if top_p is not None:
            probabilities = ops.softmax(descending, axis=-1)
            before = ops.cumsum(probabilities, axis=-1) - probabilities
            within = ops.logical_and(before < top_p, descending > -np.inf)
            smallest = ops.min(ops.where(within, descending, np.inf), axis=-1, keepdims=True)
        logits = ops.where(logits >= smallest, logits, -np.inf)
    if min_p is not None:
        smallest = ops.max(logits, axis=-1, keepdims=True) + ops.log(min_p)
        logits = ops.where(logits >= smallest, logits, -np.inf)
    return logits


def draw(logits: Any, uniforms: Any) -> Any:
    """Tokens (B,) int32 from logits (B, V) by inverting the cumulative distribution at `uniforms` (B,).

    One number decides the token of an image, so an image is the same whatever it is drawn together with.
    """
    cumulative = ops.cumsum(ops.softmax(logits, axis=-1), axis=-1)
    # Rounding may leave the last entry a little off 1.
    thresholds = ops.expand_dims(uniforms, -1) * cumulative[:, -1:]
    return ops.sum(ops.cast(cumulative <= thresholds, "int32"), axis=-1)


def choose(logits: Any, uniforms: Any, temperature: Any, **filters: Any) -> Any:
    """The next tokens (B,): the likeliest at temperature 0, otherwise drawn.

    Args:
        logits: (B, V) float32.
        uniforms: (B,) numbers in [0, 1).
        temperature: scalar, at least 0.
        filters: `top_k`, `top_p` and `min_p` of `filter_logits`, as far as `Controls.values` has them.
    """
    above_0 = ops.where(temperature > 0, temperature, ops.ones_like(temperature))
    drawn = draw(filter_logits(logits, above_0, **filters), uniforms)
    return ops.where(temperature > 0, drawn, ops.cast(ops.argmax(logits, axis=-1), "int32"))
