"""Slow, obvious twins of what the package does fast."""

import numpy as np


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def filtered_probabilities(logits, temperature=1.0, top_k=None, top_p=None, min_p=None):
    """Probabilities (V,) after temperature, top-k, top-p and min-p, in float64, one colour at a time."""
    probabilities = softmax(np.asarray(logits, np.float64) / temperature)
    if top_k is not None:
        kth = np.sort(probabilities)[::-1][min(top_k, len(probabilities)) - 1]
        probabilities = np.where(probabilities >= kth, probabilities, 0)
        probabilities /= probabilities.sum()
    if top_p is not None:
        total, smallest = 0.0, np.inf
        for probability in np.sort(probabilities)[::-1]:
            if total >= top_p:
                break
            total += probability
            smallest = probability
        probabilities = np.where(probabilities >= smallest, probabilities, 0)
    if min_p is not None:
        probabilities = np.where(probabilities >= min_p * probabilities.max(), probabilities, 0)
    return probabilities / probabilities.sum()


def invert(probabilities, uniform):
    """The first colour at which the cumulative distribution exceeds `uniform`."""
    total = 0.0
    for color, probability in enumerate(probabilities):
        total += probability
        if total > uniform:
            return color
    return int(np.flatnonzero(probabilities)[-1])


def naive_complete(model, tokens, known, uniforms, temperature=1.0, **filters):
    """Run the whole network for every pixel, as the original's sampler does; tokens (B, T)."""
    tokens = np.where(known, tokens, 0).astype("int32")
    model.make_predict_function(force=True)  # compiled once a call, because a model may have changed since the last
    for position in range(tokens.shape[1]):
        logits = model.predict_on_batch(tokens)[:, position]
        for image in range(len(tokens)):
            if known[image, position]:
                continue
            if temperature == 0:
                tokens[image, position] = logits[image].argmax()
            else:
                probabilities = filtered_probabilities(logits[image], temperature, **filters)
                tokens[image, position] = invert(probabilities, uniforms[image, position])
    return tokens


def token_nats(tokens, logits):
    """Negative log-likelihood of each token (B, T) in float64."""
    probabilities = softmax(np.asarray(logits, np.float64))
    return -np.log(np.take_along_axis(probabilities, np.asarray(tokens)[..., None], axis=-1))[..., 0]


def causal_attention(queries, keys, values):
    """The whole matrix of scores with its upper triangle at minus infinity; (B, H, T, E) in float64."""
    scores = np.asarray(queries, np.float64) @ np.swapaxes(np.asarray(keys, np.float64), -1, -2)
    length = scores.shape[-1]
    scores[..., np.triu(np.ones((length, length), bool), k=1)] = -np.inf
    return softmax(scores) @ np.asarray(values, np.float64)
