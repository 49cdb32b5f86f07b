"""The random numbers of images: which numbers an image draws depends on its key alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from igpt_tf.errors import UserError, whole_number

# The user's seed, the image's number under it, the number of its candidate, and with smc that of its particle.
Key = tuple[int, ...]


def image_keys(seed: int | Sequence[int], n_images: int) -> list[Key]:
    """The keys of images 0, 1, ... of one seed, or of image 0 of each seed of a sequence.

    Raises:
        UserError: if a seed is no whole number of at least 0, or a sequence has not one for each image.
    """
    if not isinstance(seed, Sequence | np.ndarray) or np.ndim(seed) == 0:
        one = whole_number("seed", seed, 0)
        return [(one, number, 0) for number in range(n_images)]
    keys = [(whole_number("seed", one, 0), 0, 0) for one in seed]
    if len(keys) != n_images:
        raise UserError(f"expected one `seed`, or one for each of {n_images} images, got {len(keys)}")
    return keys


def candidate_seeds(seed: int, n_pictures: int, n: int) -> list[int]:
    """A seed for each of n completions of each picture: completion k is the same however many are asked for."""
    return [
        int(np.random.SeedSequence((seed, picture, k)).generate_state(1, np.uint64)[0])
        for picture in range(n_pictures)
        for k in range(n)
    ]


def draw_uniforms(keys: Iterable[Key], n_tokens: int) -> np.ndarray:
    """Numbers in [0, 1), one per token: float32 (keys, n_tokens), always the same for the same key.

    They have 23 bits, so that their product with a float32 total is less than the total.
    """
    bits = [np.random.default_rng(one).integers(0, 2**23, n_tokens) for one in keys]
    return (np.stack(bits) / 2**23).astype("float32")
