"""Known pixels and whole images in one pass, through NumPy's products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from igpt_tf.config import QUERY_CHUNK, ImageGPTConfig
from igpt_tf.sampling.native.elementwise import activate
from igpt_tf.sampling.native.kernels import EPSILON, fill
from igpt_tf.sampling.native.weights import Matrices, padded, unpack
from igpt_tf.sampling.network import Cache


def compute(
    config: ImageGPTConfig,
    weights: Matrices,
    tokens: np.ndarray,
    start: np.ndarray,
    threads: int,
    cache: Cache | None = None,
) -> np.ndarray | None:
    """Compute known tokens (B, P), layer by layer, each image on a core of its own.

    Args:
        config: the model's shape.
        weights: laid out.
        tokens: integers, from the first of an image on.
        start: the start embedding of each image, (B,).
        threads: cores.
        cache: receives keys and values; None: the result is wanted.

    Returns:
        Nats (B, P) float32 of the tokens; None with a cache.
    """
    n_images, n_tokens = tokens.shape
    xs = np.concatenate([weights.sos[start][:, None], weights.wte[tokens[:, :-1]]], axis=1)  # (B, P, D)
    xs += weights.wpe[:n_tokens]
    matrices = unpack(config, weights)
    with ThreadPoolExecutor(min(threads, n_images)) as pool, threadpool_limits(1, "blas"):
        for layer in range(config.n_layer):
            block = [next(matrices) for _ in range(4)]
            list(pool.map(partial(_block, config, block, xs, layer, cache), range(n_images)))
        if cache is not None:
            return None
        return np.stack(
            list(pool.map(partial(_nats, next(matrices)[:, : config.n_vocab], xs, tokens), range(n_images)))
        )


def _block(
    config: ImageGPTConfig,
    matrices: Sequence[np.ndarray],
    xs: np.ndarray,
    layer: int,
    cache: Cache | None,
    image: int,
) -> None:
    """One image of xs (B, P, D) after a block, in place, and its keys and values in the cache."""
    qkv, merge, widen, narrow = matrices
    x = xs[image]
    n_tokens, width = x.shape
    # (3, H, P, E) of (P, 3 D and the rest of a tile)
    parts = (_normalised(x) @ qkv)[:, : 3 * width].reshape(n_tokens, 3, config.n_head, -1).transpose(1, 2, 0, 3)
    q, k, v = map(np.ascontiguousarray, parts)
    if cache is not None:
        fill(cache, image, layer, k, v)
    heads = np.zeros((n_tokens, config.n_head, padded(config)), "float32")
    for first in range(0, n_tokens, QUERY_CHUNK):
        end = min(first + QUERY_CHUNK, n_tokens)
        scores = q[:, first:end] @ k[:, :end].transpose(0, 2, 1)  # (H, C, end)
        scores[:, np.arange(end) > np.arange(first, end)[:, None]] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        attended = (scores @ v[:, :end]) / scores.sum(axis=-1, keepdims=True)  # (H, C, E)
        heads[first:end, :, : config.head_size] = attended.transpose(1, 0, 2)
    x += (heads.reshape(n_tokens, -1) @ merge)[:, :width]
    hidden = (_normalised(x) @ widen)[:, : 4 * width]
    flat = np.ascontiguousarray(hidden).reshape(-1)
    activate(flat, 0, flat.size)
    x += (flat.reshape(hidden.shape) @ narrow)[:, :width]


def _nats(last: np.ndarray, xs: np.ndarray, tokens: np.ndarray, image: int) -> np.ndarray:
    """Nats (P,) of the tokens of one image of xs (B, P, D)."""
    logits = _normalised(xs[image]) @ last
    logits -= logits.max(axis=1, keepdims=True)
    wanted = logits[np.arange(len(logits)), tokens[image]]
    return np.log(np.exp(logits, out=logits).sum(axis=1)) - wanted


def _normalised(x: np.ndarray) -> np.ndarray:
    """RMS norm (P, D) without its scale."""
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + EPSILON)
