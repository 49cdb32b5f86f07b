"""The losses of both objectives, in nats; bits are nats over ln 2."""

from __future__ import annotations

import math

from keras import ops

from igpt_tf.model.bert import masked_weights

NATS_PER_BIT = math.log(2.0)


def token_nats(tokens, logits):
    """Negative log-likelihood of each token in nats: tokens (B, T), logits (B, T, V) to (B, T) float32."""
    return ops.sparse_categorical_crossentropy(tokens, ops.cast(logits, "float32"), from_logits=True)


def autoregressive_loss(tokens, logits):
    """Mean over all tokens, in nats; paper, equation 1, with each image's sum divided by T."""
    return ops.mean(token_nats(tokens, logits))


def masked_loss(tokens, logits, mask):
    """Mean over images of the mean over their masked tokens, in nats; paper, equation 2.

    `mask` (B, T) is 1 where a token is seen and 0 where it is to be predicted; every image has a 0.
    """
    return ops.mean(ops.sum(token_nats(tokens, logits) * masked_weights(mask), axis=1))
