"""What a step computes number by number, and how its tasks are shared between threads."""

# Numba declares no types, and a compiled function's arguments have them only when it is called.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import numpy as np

from igpt_tf.sampling.native.compiling import compiled
from igpt_tf.sampling.native.vectors import TILE, exponential

# Loops run over whole slices from 0 on: an index that might be negative would keep them from running in vectors.


@compiled(fastmath={"reassoc", "nsz", "contract"})
def mean_square(x):
    """The mean of the squares."""
    total = np.float32(0.0)
    for j in range(len(x)):
        total += x[j] * x[j]
    return total / np.float32(len(x))


@compiled(fastmath={"nnan", "nsz"})
def largest(x):
    """The largest number."""
    most = x[0]
    for j in range(len(x)):
        most = x[j] if x[j] > most else most
    return most


@compiled(fastmath={"reassoc", "nsz", "contract"})
def exponentials(x, most):
    """Replace numbers by e to the power of their distance from the largest; returns their sum."""
    total = np.float32(0.0)
    for j in range(len(x)):
        x[j] = exponential(x[j] - most)
        total += x[j]
    return total


@compiled()
def causal_softmax(scores, first):
    """Softmax in place over the keys up to each query, (H, C, K); the first query is number `first`, others get 0."""
    n_head, n_queries, _ = scores.shape
    for head in range(n_head):
        for query in range(n_queries):
            visible, hidden = scores[head, query, : first + query + 1], scores[head, query, first + query + 1 :]
            share = np.float32(1.0) / exponentials(visible, largest(visible))
            for j in range(len(visible)):
                visible[j] *= share
            hidden[:] = np.float32(0.0)


@compiled()
def scale_by(x, factors):
    """Multiply numbers by others, in place."""
    for j in range(len(x)):
        x[j] *= factors[j]


@compiled()
def normalise(out, x, stride, n_rows, width, epsilon):
    """RMS norm of rows of `width` numbers, `stride` apart, without its scale."""
    for r in range(n_rows):
        row, normal = x[r * stride : r * stride + width], out[r * stride : r * stride + width]
        scale = np.float32(1.0) / np.sqrt(mean_square(row) + epsilon)
        for j in range(len(row)):
            normal[j] = row[j] * scale


@compiled()
def activate(x):
    """x * sigmoid(1.702 x), in place."""
    for j in range(len(x)):
        x[j] = x[j] / (np.float32(1.0) + exponential(np.float32(-1.702) * x[j]))


@compiled()
def share_of(n, thread, n_threads):
    """The first of n tasks of a thread, and the one after its last."""
    return n * thread // n_threads, n * (thread + 1) // n_threads


@compiled()
def add_columns(x, delta, stride, n_rows, first, end):
    """Add columns of rows to those of others."""
    for r in range(n_rows):
        row, more = x[r * stride + first : r * stride + end], delta[r * stride + first : r * stride + end]
        for j in range(len(row)):
            row[j] += more[j]


@compiled()
def whole(n):
    """n rounded up to whole tiles."""
    return (n + TILE - 1) // TILE * TILE
