"""What a step computes number by number, and how its tasks are shared between threads."""

# Numba declares no types, and a compiled function's arguments have them only when it is called.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import numpy as np

from igpt_tf.sampling.native.compiling import compiled
from igpt_tf.sampling.native.vectors import TILE, exponential


@compiled(fastmath={"reassoc", "nsz", "contract"})
def mean_square(x, at, n):
    """The mean of the squares of n numbers from `at` on."""
    total = np.float32(0.0)
    for j in range(n):
        total += x[at + j] * x[at + j]
    return total / np.float32(n)


@compiled(fastmath={"nnan", "nsz"})
def largest(x, n):
    """The largest of the first n numbers."""
    most = x[0]
    for j in range(1, n):
        most = max(most, x[j])
    return most


@compiled(fastmath={"reassoc", "nsz", "contract"})
def total_of(x, n):
    """The sum of the first n numbers."""
    total = np.float32(0.0)
    for j in range(n):
        total += x[j]
    return total


@compiled()
def exponentials(x, n, most):
    """Replace the first n numbers by e to the power of their distance from the largest."""
    for j in range(n):
        x[j] = exponential(x[j] - most)


@compiled()
def normalise(out, x, stride, n_rows, width, epsilon):
    """RMS norm of rows of `width` numbers, `stride` apart, without its scale."""
    for r in range(n_rows):
        scale = np.float32(1.0) / np.sqrt(mean_square(x, r * stride, width) + epsilon)
        for j in range(width):
            out[r * stride + j] = x[r * stride + j] * scale


@compiled()
def activate(x, first, end):
    """x * sigmoid(1.702 x), in place."""
    for j in range(first, end):
        x[j] = x[j] / (np.float32(1.0) + exponential(np.float32(-1.702) * x[j]))


@compiled()
def share_of(n, thread, n_threads):
    """The first of n tasks of a thread, and the one after its last."""
    return n * thread // n_threads, n * (thread + 1) // n_threads


@compiled()
def add_columns(x, delta, stride, n_rows, first, end):
    """Add columns of rows to those of others."""
    for r in range(n_rows):
        for j in range(r * stride + first, r * stride + end):
            x[j] += delta[j]


@compiled()
def whole(n):
    """n rounded up to whole tiles."""
    return (n + TILE - 1) // TILE * TILE
