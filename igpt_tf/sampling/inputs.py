"""What is to be drawn, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from igpt_tf.config import check_tokens
from igpt_tf.errors import UserError, whole_number
from igpt_tf.sampling.filters import Key

if TYPE_CHECKING:
    from igpt_tf.model.image_gpt import ImageGPT


def image_keys(seed: int | Sequence[int], n_images: int) -> list[Key]:
    """(seed, number) of every image; image 0 of each seed of a sequence.

    Raises:
        UserError: if a seed is no whole number of at least 0 or there is not one for each image.
    """
    if not isinstance(seed, Sequence) and np.ndim(seed) == 0:
        seed = whole_number("a seed", seed, 0)
        return [(seed, number) for number in range(n_images)]
    seeds = [whole_number("a seed", one, 0) for one in seed]
    if len(seeds) != n_images:
        raise UserError(f"expected one seed, or one for each of {n_images} images, got {len(seeds)}")
    return [(seed, 0) for seed in seeds]


def check_images(model: ImageGPT, tokens: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (B, T) int32, 0 where they are not known, and booleans (B, T).

    Raises:
        UserError: if the model is a BERT model or something does not fit.
    """
    if model.config.bert:
        raise UserError("a BERT model cannot draw pixels one after another; sampling needs an autoregressive model")
    tokens, known = np.asarray(tokens), np.asarray(known)
    fits = known.dtype == bool and known.shape in (tokens.shape, tokens.shape[1:])
    nothing = np.zeros_like(tokens)
    given = np.where(known, tokens, nothing) if fits else nothing
    check_tokens(model.config, given)
    if not fits:
        raise UserError(
            f"expected `known` as booleans of shape {tokens.shape} or {tokens.shape[1:]}, "
            f"found {known.dtype} {known.shape}"
        )
    return given.astype("int32"), np.broadcast_to(known, tokens.shape)
