"""One step of a transformer on a processor: products, attention and norms, as Numba compiles them.

Weights and caches are stored in float32, bfloat16 (as uint16) or int8; all arithmetic is in float32. Every number is
summed in an order that depends neither on the batch nor on the threads, so that an image is the same in any company.
"""

# Numba declares no types, and a compiled function's arguments have them only when it is called.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from igpt_tf.config import NORM_EPSILON
from igpt_tf.sampling.native.compiling import compiled
from igpt_tf.sampling.native.elementwise import (
    activate,
    add_columns,
    exponentials,
    largest,
    normalise,
    scale_by,
    share_of,
    whole,
)
from igpt_tf.sampling.native.vectors import (
    BLOCK,
    LANES,
    TILE,
    WIDE,
    as_int,
    ask_for,
    barrier,
    rows_1,
    rows_2,
    rows_4,
    rows_8,
    vectors_1,
    vectors_4,
)

EPSILON = np.float32(NORM_EPSILON)


@compiled()
def multiply(out, o_stride, x, x_stride, n_rows, weights, w_at, scales, s_at, n_in, first, end):
    """Rows `out[r] = x[r] @ w` for the tiles of outputs from `first` to `end`.

    Args:
        out: float32, rows of o_stride numbers.
        o_stride: at least the number of outputs rounded up to whole tiles.
        x: float32, rows of x_stride numbers.
        x_stride: at least n_in.
        n_rows: B.
        weights: one matrix after another, each as tiles (tiles, n_in, TILE).
        w_at: where the matrix begins.
        scales: of int8, one of each output; others are not scaled.
        s_at: where those of the matrix begin.
        n_in: inputs.
        first: tile.
        end: the tile after the last.
    """
    for tile in range(first, end):
        at, to = w_at + tile * n_in * TILE, tile * TILE
        r = 0
        if WIDE:
            while r + 8 <= n_rows:
                rows_8(out, r * o_stride + to, o_stride, x, r * x_stride, x_stride, weights, at, TILE, n_in)
                r += 8
            while r + 4 <= n_rows:
                rows_4(out, r * o_stride + to, o_stride, x, r * x_stride, x_stride, weights, at, TILE, n_in)
                r += 4
        while r + 2 <= n_rows:
            rows_2(out, r * o_stride + to, o_stride, x, r * x_stride, x_stride, weights, at, TILE, n_in)
            r += 2
        if r < n_rows:
            rows_1(out, r * o_stride + to, o_stride, x, r * x_stride, x_stride, weights, at, TILE, n_in)
        if len(scales):
            for r in range(n_rows):
                row = out[r * o_stride + to : r * o_stride + to + TILE]
                scale_by(row, scales[s_at + to : s_at + to + TILE])


def store(cache, at, stride, scales, scale_at, x):
    """Write numbers to a cache, `stride` apart; of int8 with a scale of their own."""
    raise NotImplementedError("compiled code calls what `_store` returns")


@overload(store)
def _store(cache, at, stride, scales, scale_at, x):
    """What stores numbers as the cache's type."""
    if cache.dtype == types.uint16:

        def store_bfloat16(cache, at, stride, scales, scale_at, x):
            for j in range(len(x)):
                bits = as_int(x[j])
                # To the nearest, and of two to the even one.
                rounded = bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))
                cache[at + j * stride] = np.uint16((rounded >> np.int32(16)) & np.int32(0xFFFF))

        return store_bfloat16
    if cache.dtype == types.int8:

        def store_int8(cache, at, stride, scales, scale_at, x):
            most = np.float32(1e-30)
            for j in range(len(x)):
                most = max(most, abs(x[j]))
            scales[scale_at] = most / np.float32(127.0)
            for j in range(len(x)):
                cache[at + j * stride] = np.int8(np.rint(x[j] * np.float32(127.0) / most))

        return store_int8

    def store_float32(cache, at, stride, scales, scale_at, x):
        for j in range(len(x)):
            cache[at + j * stride] = x[j]

    return store_float32


@compiled()
def attend(out, o, q, q_at, keys, k_at, values, v_at, k_scales, v_scales, s_at, scores, n, size, padded):
    """Attention of a head's query to n positions.

    Args:
        out: float32; receives `padded` numbers.
        o: where.
        q: float32, the query, already scaled.
        q_at: where.
        keys: of the cache: blocks (blocks, E, BLOCK) of one head.
        k_at: where they begin.
        values: of the cache: (T, padded) of one head.
        v_at: where they begin.
        k_scales: of int8, one of each position.
        v_scales: the same of values.
        s_at: where the head's scales begin.
        scores: float32, room for T numbers rounded up to whole blocks.
        n: positions.
        size: E, of a head.
        padded: E rounded up to whole vectors.
    """
    for block in range((n + BLOCK - 1) // BLOCK):
        vectors_1(scores, block * BLOCK, 0, q, q_at, 0, keys, k_at + block * BLOCK * size, BLOCK, size)
    visible = scores[:n]
    if len(k_scales):
        scale_by(visible, k_scales[s_at : s_at + n])
    share = np.float32(1.0) / exponentials(visible, largest(visible))
    if len(v_scales):
        scale_by(visible, v_scales[s_at : s_at + n])
    column = 0
    while column + 4 * LANES <= padded:
        vectors_4(out, o + column, 0, scores, 0, 0, values, v_at + column, padded, n)
        column += 4 * LANES
    while column < padded:
        vectors_1(out, o + column, 0, scores, 0, 0, values, v_at + column, padded, n)
        column += LANES
    found = out[o : o + padded]
    for j in range(len(found)):
        found[j] *= share


@compiled()
def fill(cache, image, layer, new_keys, new_values):
    """Write the keys and values (H, P, E) of the first positions of an image's layer to the cache."""
    keys, values, k_scales, v_scales = cache
    _, n_layer, n_head, room, padded = values.shape
    _, n_tokens, size = new_keys.shape
    flat_keys, flat_values = keys.reshape(-1), values.reshape(-1)
    flat_k_scales, flat_v_scales = k_scales.reshape(-1), v_scales.reshape(-1)
    for head in range(n_head):
        place = (image * n_layer + layer) * n_head + head
        scale_at = place * room if len(flat_k_scales) else 0
        for t in range(n_tokens):
            at = place * room * size + t // BLOCK * BLOCK * size + t % BLOCK
            store(flat_keys, at, BLOCK, flat_k_scales, scale_at + t, new_keys[head, t])
            at = (place * room + t) * padded
            store(flat_values, at, 1, flat_v_scales, scale_at + t, new_values[head, t])


@compiled()
def step(
    thread,
    n_threads,
    counters,
    shape,
    position,
    x,
    normal,
    scores,
    delta,
    qkv,
    heads,
    hidden,
    logits,
    weights,
    scales,
    keys,
    values,
    k_scales,
    v_scales,
):
    """One thread's part of a position of all images: the logits, with the position's keys and values cached.

    Args:
        thread: number of the thread.
        n_threads: all of which must call this at once.
        counters: of `barrier`.
        shape: int64: images, blocks, heads, size of a head, tokens of the vocabulary, room for positions.
        position: of the token, from 0.
        x: (B * stride,) the sum of its embeddings.
        normal: scratch like x, of each thread.
        scores: scratch, of each thread.
        delta: scratch like x.
        qkv: scratch, (B, queries, keys and values).
        heads: scratch, (B, heads and their padding).
        hidden: scratch, (B, 4 D).
        logits: (B, V), V rounded up to whole tiles.
        weights: all matrices, as `multiply` reads them.
        scales: of int8, of all matrices.
        keys: (B, L, H, blocks, E, BLOCK), flat.
        values: (B, L, H, T, E rounded up to whole vectors), flat.
        k_scales: of int8, (B, L, H, T), flat.
        v_scales: the same of values.
    """
    n_rows, n_layer, n_head, size, n_vocab, room = shape
    width = n_head * size
    padded = (size + LANES - 1) // LANES * LANES
    stride, qkv_stride, hidden_stride, vocab_stride = whole(width), whole(3 * width), whole(4 * width), whole(n_vocab)
    n_cached, w_at, s_at = len(k_scales) > 0, 0, 0
    columns = share_of(stride // TILE, thread, n_threads)
    for layer in range(n_layer):
        normalise(normal, x, stride, n_rows, width, EPSILON)
        first, end = share_of(qkv_stride // TILE, thread, n_threads)
        multiply(qkv, qkv_stride, normal, stride, n_rows, weights, w_at, scales, s_at, width, first, end)
        w_at, s_at = w_at + qkv_stride * width, s_at + qkv_stride
        if not barrier(counters, n_threads):
            return
        first, end = share_of(n_rows * n_head, thread, n_threads)
        for task in range(first, end):
            row, head = task // n_head, task % n_head
            place = (row * n_layer + layer) * n_head + head
            k_at, v_at, at = place * room * size, place * room * padded, row * qkv_stride + head * size
            position_at = place * room if n_cached else 0
            block = position // BLOCK * BLOCK * size + position % BLOCK
            if task + 1 < end:
                following = ((task + 1) // n_head * n_layer + layer) * n_head + (task + 1) % n_head
                ask_for(keys, following * room * size + position // BLOCK * BLOCK * size, BLOCK * size)
                ask_for(keys, following * room * size, position * size)
                ask_for(values, following * room * padded, position * padded)
            new_key, new_value = qkv[at + width : at + width + size], qkv[at + 2 * width : at + 2 * width + size]
            store(keys, k_at + block, BLOCK, k_scales, position_at + position, new_key)
            store(values, v_at + position * padded, 1, v_scales, position_at + position, new_value)
            attend(
                heads,
                (row * n_head + head) * padded,
                qkv,
                at,
                keys,
                k_at,
                values,
                v_at,
                k_scales,
                v_scales,
                position_at,
                scores,
                position + 1,
                size,
                padded,
            )
        if not barrier(counters, n_threads):
            return
        multiply(delta, stride, heads, n_head * padded, n_rows, weights, w_at, scales, s_at, n_head * padded, *columns)
        w_at, s_at = w_at + stride * n_head * padded, s_at + stride
        add_columns(x, delta, stride, n_rows, columns[0] * TILE, columns[1] * TILE)
        if not barrier(counters, n_threads):
            return
        normalise(normal, x, stride, n_rows, width, EPSILON)
        first, end = share_of(hidden_stride // TILE, thread, n_threads)
        multiply(hidden, hidden_stride, normal, stride, n_rows, weights, w_at, scales, s_at, width, first, end)
        w_at, s_at = w_at + hidden_stride * width, s_at + hidden_stride
        for row in range(n_rows):
            activate(hidden[row * hidden_stride + first * TILE : row * hidden_stride + end * TILE])
        if not barrier(counters, n_threads):
            return
        multiply(delta, stride, hidden, hidden_stride, n_rows, weights, w_at, scales, s_at, 4 * width, *columns)
        w_at, s_at = w_at + stride * 4 * width, s_at + stride
        add_columns(x, delta, stride, n_rows, columns[0] * TILE, columns[1] * TILE)
        if not barrier(counters, n_threads):
            return
    normalise(normal, x, stride, n_rows, width, EPSILON)
    first, end = share_of(vocab_stride // TILE, thread, n_threads)
    multiply(logits, vocab_stride, normal, stride, n_rows, weights, w_at, scales, s_at, width, first, end)
    barrier(counters, n_threads)
