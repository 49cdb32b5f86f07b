"""The class that most of several looks at an image say it is of."""

import numpy as np

from igpt_tf.errors import UserError


def vote(predictions: np.ndarray, n_class: int, seed: int = 0) -> np.ndarray:
    """The most frequent of several predictions for each image, ties broken at random.

    Args:
        predictions: (votes, N) integers from 0 to n_class - 1; column i are the votes on image i.
        n_class: number of classes C.
        seed: decides between classes with equally many votes; image i of a seed is decided alike however many
            images follow.

    Returns:
        (N,) int64.

    Raises:
        UserError: if there are no votes, or some are for no class.

    Source: section 4.6 of the paper, where BERT models vote over 5 masks of an image.
    """
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or not len(predictions) or predictions.dtype.kind not in "iu":
        raise UserError(f"expected integer votes of shape (votes, N), found {predictions.dtype} {predictions.shape}")
    if predictions.size and not 0 <= predictions.min() <= predictions.max() < n_class:
        raise UserError(
            f"expected votes for classes 0 to {n_class - 1}, found {predictions.min()} to {predictions.max()}"
        )
    if len(predictions) == 1:
        return predictions[0].astype(np.int64)
    counts = (predictions[..., None] == np.arange(n_class)).sum(axis=0)
    # Less than one vote, so that it decides between equals alone; numbers of its own, not those of the masks.
    lots = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).random(counts.shape)
    return (counts + lots).argmax(axis=1)
