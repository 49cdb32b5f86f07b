"""From logits to a token: temperature, filters and the draw."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from __future__ import annotations

from typing import Any

import numpy as np

from igpt_tf.sampling.array_functions import ops_of


def filter_logits(logits: Any, temperature: Any, top_k: Any = None, top_p: Any = None, min_p: Any = None) -> Any:
    """Divide logits (B, V) by a temperature above 0 and set those that are filtered out to minus infinity.

    Colours as likely as the last one kept are kept too, so that the result does not depend on their order.
    """
    ops = ops_of(logits)
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
    ops = ops_of(logits)
    cumulative = ops.cumsum(ops.softmax(logits, axis=-1), axis=-1)
    # Rounding may leave the last entry a little off 1.
    thresholds = ops.expand_dims(uniforms, -1) * cumulative[:, -1:]
    return ops.sum(ops.cast(cumulative <= thresholds, "int32"), axis=-1)


def choose(logits: Any, uniforms: Any, temperature: Any, **filters: Any) -> Any:
    """Tokens (B,) from logits (B, V): the likeliest at temperature 0, otherwise drawn by `uniforms` (B,).

    The temperature and the filters are those of `Controls.values`.
    """
    ops = ops_of(logits)
    above_0 = ops.where(temperature > 0, temperature, ops.ones_like(temperature))
    drawn = draw(filter_logits(logits, above_0, **filters), uniforms)
    return ops.where(temperature > 0, drawn, ops.cast(ops.argmax(logits, axis=-1), "int32"))
