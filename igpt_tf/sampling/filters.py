"""From logits to a token: temperature, filters and the draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from keras import ops

from igpt_tf.errors import UsageError, whole_number

# What decides the random numbers of an image: its seed, its number, that of the candidate, and of the particle.
Key = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Controls:
    """What colours are drawn from, and how boldly; the filters act in the order in which they are listed.

    Attributes:
        temperature: what logits are divided by: below 1 nearer to the likeliest, 0 the likeliest colour always.
        top_k: keep the k likeliest colours; None keeps all.
        top_p: then keep the smallest set of likeliest colours whose probabilities sum to at least p (Holtzman et
            al., 2020); None keeps all, and so does 1, which becomes None.
        min_p: then keep colours that are at least this many times as likely as the likeliest (Nguyen et al., 2024);
            None keeps all, and so does 0, which becomes None.

    Raises:
        UsageError: for values that mean nothing.
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
            raise UsageError(f"temperature must be 0 (always the likeliest colour) or more, got {self.temperature}")
        if self.top_k is not None:
            self._set("top_k", whole_number("top_k", self.top_k, 1))
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be more than 0 and at most 1, got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise UsageError(f"min_p must be from 0 to 1, got {self.min_p}")
        # What filters nothing is left out: in float32, a sum of probabilities may reach 1 before the last of them.
        if self.top_p == 1:
            self._set("top_p", None)
        if self.min_p == 0:
            self._set("min_p", None)

    def _set(self, name: str, value: float | None) -> None:
        object.__setattr__(self, name, value)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest colour alone can be drawn, so that all draws are equal."""
        return self.temperature == 0 or self.top_k == 1 or self.min_p == 1

    def values(self) -> dict[str, np.ndarray]:
        """What is not None, as arrays: a program that takes them serves any values."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        if "top_k" in given:
            # More than any palette has.
            given["top_k"] = min(given["top_k"], np.iinfo("int32").max)
        return {name: np.array(value, "int32" if name == "top_k" else "float32") for name, value in given.items()}


def _number(name: str, value: object) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be a number, got {value}") from None


def filter_logits(logits, temperature, top_k=None, top_p=None, min_p=None):
    """Logits (B, V) float32 at a temperature above 0, with those that are filtered out at minus infinity.

    The arguments are scalars as in `Controls`. Colours as likely as the last one kept are kept too, so that the
    result does not depend on their order.
    """
    logits = logits / temperature
    if top_k is not None or top_p is not None:
        descending = ops.flip(ops.sort(logits, axis=-1), axis=-1)
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


def draw(logits, uniforms):
    """Tokens (B,) int32 from logits (B, V) by inverting the cumulative distribution at `uniforms` (B,).

    One number an image decides, so an image is the same whatever it is drawn together with.
    """
    cumulative = ops.cumsum(ops.softmax(logits, axis=-1), axis=-1)
    # Rounding may leave the last entry a little off 1.
    thresholds = ops.expand_dims(uniforms, -1) * cumulative[:, -1:]
    return ops.sum(ops.cast(cumulative <= thresholds, "int32"), axis=-1)


def choose(logits, uniforms, temperature, **filters):
    """The next tokens (B,) from logits (B, V): the likeliest at temperature 0, else a draw; `Controls.values`."""
    above_0 = ops.where(temperature > 0, temperature, ops.ones_like(temperature))
    drawn = draw(filter_logits(logits, above_0, **filters), uniforms)
    return ops.where(temperature > 0, drawn, ops.cast(ops.argmax(logits, axis=-1), "int32"))


def draw_uniforms(keys: Iterable[Key], n_tokens: int) -> np.ndarray:
    """One number in [0, 1) a token, float32 (keys, n_tokens); those of a key are always the same.

    They have 23 bits, so that their product with a total in float32 is less than the total.
    """
    bits = [np.random.default_rng(key).integers(0, 2**23, n_tokens) for key in keys]
    return (np.stack(bits) / 2**23).astype("float32")
