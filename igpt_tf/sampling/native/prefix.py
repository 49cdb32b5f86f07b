"""Known pixels and whole images in one pass, through NumPy's products of matrices."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from igpt_tf.config import QUERY_CHUNK, ImageGPTConfig
from igpt_tf.sampling.native.elementwise import activate, causal_softmax, normalise
from igpt_tf.sampling.native.kernels import EPSILON, fill
from igpt_tf.sampling.native.weights import Matrices, padded, unpack
from igpt_tf.sampling.network import Cache
from igpt_tf.sampling.workers import require_open

_LIMITING = threading.Lock()


def fill_cache(
    config: ImageGPTConfig, weights: Matrices, tokens: np.ndarray, start: np.ndarray, cache: Cache, threads: int
) -> None:
    """Write the keys and values of images that begin with known tokens to their cache.

    Args:
        config: the model's shape.
        weights: laid out.
        tokens: (B, P) integers.
        start: the start embedding of each image, (B,).
        cache: as `kernels.fill` takes it.
        threads: cores, of which each computes an image at a time.
    """
    with _threads(min(threads, len(tokens))) as pool:
        _blocks(config, weights, unpack(config, weights), tokens, start, cache, pool)


def nats_of(
    config: ImageGPTConfig, weights: Matrices, tokens: np.ndarray, start: np.ndarray, threads: int
) -> np.ndarray:
    """Nats (B, T) float32 of the tokens of whole images; the arguments are those of `fill_cache`."""
    matrices = unpack(config, weights)
    with _threads(min(threads, len(tokens))) as pool:
        xs = _blocks(config, weights, matrices, tokens, start, None, pool)
        last = next(matrices)[:, : config.n_vocab]
        return np.stack(list(pool.map(partial(_nats, last), xs, tokens)))


@contextlib.contextmanager
def _threads(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads, each of which computes NumPy's products on its own core.

    What limits these counts for the process, so one network at a time uses it.
    """
    with _LIMITING, ThreadPoolExecutor(n_threads) as pool, threadpool_limits(1, "blas"):
        yield pool


def _blocks(
    config: ImageGPTConfig,
    weights: Matrices,
    matrices: Iterator[np.ndarray],
    tokens: np.ndarray,
    start: np.ndarray,
    cache: Cache | None,
    pool: ThreadPoolExecutor,
) -> np.ndarray:
    """Tokens (B, P) after all blocks, (B, P, D); no more than one block's matrices are held unpacked."""
    xs = np.concatenate([weights.sos[start][:, None], weights.wte[tokens[:, :-1]]], axis=1)
    xs += weights.wpe[: tokens.shape[1]]
    for layer in range(config.n_layer):
        require_open()
        block = [next(matrices) for _ in range(4)]
        # A list, so that an error in a thread is raised here.
        list(pool.map(partial(_block, config, block, layer, cache), range(len(xs)), xs))
    return xs


def _block(
    config: ImageGPTConfig,
    matrices: Sequence[np.ndarray],
    layer: int,
    cache: Cache | None,
    image: int,
    x: np.ndarray,
) -> None:
    """An image (P, D) after a block, in place, and its keys and values in the cache."""
    qkv, merge, widen, narrow = matrices
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
        causal_softmax(scores, first)
        heads[first:end, :, : config.head_size] = (scores @ v[:, :end]).transpose(1, 0, 2)  # from (H, C, E)
    x += (heads.reshape(n_tokens, -1) @ merge)[:, :width]
    hidden = (_normalised(x) @ widen)[:, : 4 * width]
    flat = np.ascontiguousarray(hidden).reshape(-1)
    activate(flat)
    x += (flat.reshape(hidden.shape) @ narrow)[:, :width]


def _nats(last: np.ndarray, x: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Nats (P,) of the tokens (P,) of an image (P, D) after all blocks."""
    logits = _normalised(x) @ last
    logits -= logits.max(axis=1, keepdims=True)
    wanted = logits[np.arange(len(logits)), tokens]
    return np.log(np.exp(logits, out=logits).sum(axis=1)) - wanted


def _normalised(x: np.ndarray) -> np.ndarray:
    """RMS norm (P, D) without its scale."""
    out = np.empty_like(x)
    n_tokens, width = x.shape
    normalise(out.reshape(-1), x.reshape(-1), width, n_tokens, width, EPSILON)
    return out
