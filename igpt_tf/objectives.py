"""What the models are trained for and judged by, in nats; bits are nats over ln 2."""

from __future__ import annotations

import math

import numpy as np
from keras import ops

NATS_PER_BIT = math.log(2.0)


def token_nats(tokens, logits):
    """Negative log-likelihood of each token in nats: tokens (B, T), logits (B, T, V) to (B, T) float32."""
    return ops.sparse_categorical_crossentropy(tokens, ops.cast(logits, "float32"), from_logits=True)


def autoregressive_loss(tokens, logits):
    """Mean over all tokens, in nats; paper, equation 1, with each image's sum divided by T."""
    return ops.mean(token_nats(tokens, logits))


def masked_loss(tokens, logits, mask):
    """Mean over images of the mean over their masked tokens, in nats; paper, equation 2.

    `mask` (B, T) is 1 where a token was seen and 0 where it was to be predicted; every image has a 0.
    """
    return ops.mean(ops.sum(token_nats(tokens, logits) * masked_weights(mask), axis=1))


def masked_weights(mask):
    """Weights (B, T) that sum to 1 over each image's masked tokens and are 0 elsewhere."""
    hidden = 1.0 - ops.cast(mask, "float32")
    return hidden / ops.sum(hidden, axis=1, keepdims=True)


def draw_mask(seed: int, first: int, n_images: int, n_tokens: int, probability: float = 0.15) -> np.ndarray:
    """BERT masks (n_images, n_tokens) uint8, 0 with `probability`; image i of a seed has the same mask always.

    Args:
        seed: decides the masks.
        first: number of the first image.
        n_images: how many.
        n_tokens: tokens an image.
        probability: of being masked. An image that would have no masked token gets one.
    """
    masks = np.empty((n_images, n_tokens), np.uint8)
    for row, image in enumerate(range(first, first + n_images)):
        rng = np.random.default_rng([seed, image])
        masks[row] = rng.random(n_tokens) > probability
        if masks[row].all():
            masks[row, rng.integers(n_tokens)] = 0
    return masks
