"""BERT models: masks, their weights, and majority votes over several masked views of an image."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOperatorIssue=false

import numpy as np
from keras import ops

from igpt_tf.errors import UserError


def vote(predictions: np.ndarray, n_class: int, seed: int = 0) -> np.ndarray:
    """The most frequent of several predictions for each image, ties broken at random.

    Args:
        predictions: (votes, N) integers from 0 to n_class - 1; column i are the votes on image i.
        n_class: number of classes C.
        seed: of the choice between classes with equally many votes; that of image i does not depend on how many
            images follow.

    Returns:
        (N,) int64.

    Raises:
        UserError: if there are no votes, or one is not for a class.

    Source: section 4.6 of the paper, where BERT models vote over 5 masks of an image.
    """
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or not len(predictions) or predictions.dtype.kind not in "iu":
        raise UserError(f"expected integer votes of shape (votes, N), got {predictions.dtype} {predictions.shape}")
    if predictions.size and not 0 <= predictions.min() <= predictions.max() < n_class:
        raise UserError(
            f"expected votes for classes 0 to {n_class - 1}, got {predictions.min()} to {predictions.max()}"
        )
    if len(predictions) == 1:
        return predictions[0].astype(np.int64)
    counts = (predictions[..., None] == np.arange(n_class)).sum(axis=0)
    # Less than one vote, so that it only breaks ties; not the same random numbers as the masks'.
    lots = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).random(counts.shape)
    return (counts + lots).argmax(axis=1)


def masked_weights(mask):
    """Weights (B, T) that sum to 1 over each image's masked tokens and are 0 elsewhere."""
    hidden = 1.0 - ops.cast(mask, "float32")
    return hidden / ops.sum(hidden, axis=1, keepdims=True)


def draw_mask(seed: int, first: int, n_images: int, n_tokens: int, probability: float = 0.15) -> np.ndarray:
    """BERT masks (n_images, n_tokens) uint8, 0 with `probability`; image i of a seed always has the same mask.

    Args:
        seed: of the masks.
        first: number of the first image.
        n_images: number of masks.
        n_tokens: tokens per image.
        probability: of a token to be masked. An image without a masked token gets one.
    """
    masks = np.empty((n_images, n_tokens), np.uint8)
    for row, image in enumerate(range(first, first + n_images)):
        rng = np.random.default_rng([seed, image])
        masks[row] = rng.random(n_tokens) > probability
        if masks[row].all():
            masks[row, rng.integers(n_tokens)] = 0
    return masks


def vote_masks(seed: int, first: int, shape: tuple[int, ...], probability: float, votes: int) -> list[np.ndarray]:
    """The masks (n, T) of the generative loss, then those of the other votes; for no votes, one that shows everything.

    Args:
        seed: of the masks.
        first: number of the first image.
        shape: (n, T).
        probability: of a token to be hidden.
        votes: masks of each image.
    """
    seeds = [seed, *(int(np.random.SeedSequence([seed, vote]).generate_state(1)[0]) for vote in range(1, votes))]
    masks = [draw_mask(one, first, shape[0], shape[1], probability) for one in seeds]
    return masks if votes else [*masks, np.ones(shape, np.uint8)]


def masked_sample_weights(mask: np.ndarray) -> np.ndarray:
    """Weights (n, T) float32 that make Keras' mean over tokens the mean over images of that over masked tokens.

    `mask` (n, T) is 1 where a token is seen; the same as T times `objectives.masked_weights`.
    """
    hidden = 1.0 - mask.astype("float32")
    return hidden * (mask.shape[1] / hidden.sum(axis=1, keepdims=True))
