"""From logits to a token: temperature, top-k, top-p and the draw."""

from __future__ import annotations

import numpy as np
from keras import ops

from igpt_tf.errors import UsageError


def check_filters(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise a `UsageError` for values that mean nothing."""
    if not 0 <= temperature < np.inf:
        raise UsageError(f"temperature must be 0 (always the likeliest colour) or more, got {temperature}")
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"top_p must be more than 0 and at most 1, got {top_p}")


def filter_logits(logits, temperature: float, top_k: int | None, top_p: float | None):
    """Logits (B, V) at a temperature above 0, with those outside the top k or the nucleus at minus infinity.

    Colours as likely as the last one kept are kept too, so that the result does not depend on their order.

    Args:
        logits: (B, V) float32.
        temperature: what logits are divided by.
        top_k: keep the k likeliest; None or k >= V keeps all.
        top_p: then keep the smallest set of likeliest colours whose probabilities sum to at least p (Holtzman et
            al., 2020); None or 1 keeps all.
    """
    logits = logits / temperature
    n_vocab = logits.shape[-1]
    if top_k is not None and top_k < n_vocab:
        smallest = ops.top_k(logits, top_k)[0][:, -1:]
        logits = ops.where(logits >= smallest, logits, -np.inf)
    if top_p is not None and top_p < 1:
        descending = ops.flip(ops.sort(logits, axis=-1), axis=-1)
        probabilities = ops.softmax(descending, axis=-1)
        before = ops.cumsum(probabilities, axis=-1) - probabilities
        smallest = ops.min(ops.where(before < top_p, descending, np.inf), axis=-1, keepdims=True)
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


def choose(logits, uniforms, temperature: float, top_k: int | None, top_p: float | None):
    """The next tokens (B,) from logits (B, V): the likeliest at temperature 0, else a draw."""
    if temperature == 0:
        return ops.cast(ops.argmax(logits, axis=-1), "int32")
    return draw(filter_logits(logits, temperature, top_k, top_p), uniforms)


def draw_uniforms(seed: int, first: int, n_images: int, n_tokens: int) -> np.ndarray:
    """One number in [0, 1) a token, float32 (n_images, n_tokens); those of image i of a seed are always the same.

    They have 23 bits, so that their product with a total in float32 is less than the total.
    """
    images = range(first, first + n_images)
    bits = [np.random.default_rng([seed, image]).integers(0, 2**23, n_tokens) for image in images]
    return (np.stack(bits) / 2**23).astype("float32")
