"""What is to be drawn, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.sampling.filters import Key

if TYPE_CHECKING:
    from igpt_tf.model import ImageGPT


def image_keys(seed: int | Sequence[int], n_images: int) -> list[Key]:
    """(seed, number) of every image; image 0 of each seed of a sequence.

    Raises:
        UserError: if a seed is negative or there is not one for each image.
    """
    seeds = [seed] if isinstance(seed, int | np.integer) else list(seed)
    if isinstance(seed, int | np.integer):
        keys = [(int(seed), number) for number in range(n_images)]
    elif len(seeds) == n_images:
        keys = [(int(number), 0) for number in seeds]
    else:
        raise UserError(f"expected one seed, or one for each of {n_images} images, got {len(seeds)}")
    if min(seeds) < 0:
        raise UserError(f"expected a seed of at least 0, got {min(seeds)}")
    return keys


def check_images(model: ImageGPT, tokens: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (B, T) int32, 0 where they are not known, and booleans (B, T).

    Raises:
        UserError: if the model is a BERT model or something does not fit.
    """
    config = model.config
    if config.bert:
        raise UserError("a BERT model cannot draw pixels one after another; sampling needs an autoregressive model")
    tokens, known = np.asarray(tokens), np.asarray(known)
    if tokens.ndim != 2 or tokens.shape[1] != config.n_tokens or not len(tokens):
        raise UserError(
            f"expected tokens of shape (images, {config.n_tokens}), as the model's images are {config.n_px} pixels "
            f"wide, found {tokens.shape}"
        )
    if known.dtype != bool or known.shape not in (tokens.shape, tokens.shape[1:]):
        raise UserError(
            f"expected `known` as booleans of shape {tokens.shape} or {tokens.shape[1:]}, "
            f"found {known.dtype} {known.shape}"
        )
    known = np.broadcast_to(known, tokens.shape)
    if not np.issubdtype(tokens.dtype, np.integer):
        raise UserError(f"expected integer tokens, found {tokens.dtype}")
    given = tokens[known]
    if given.size and not 0 <= given.min() <= given.max() < config.n_vocab:
        raise UserError(f"expected known tokens from 0 to {config.n_vocab - 1}, found {given.min()} to {given.max()}")
    return np.where(known, tokens, 0).astype("int32"), known
