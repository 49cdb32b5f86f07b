"""Rows of tokens, in memory or on disk, and what tells some from others."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from igpt_tf.storage.digests import digest

# Rows that stand for all of an array without a fingerprint of its own.
SAMPLED_ROWS = 256


class Tokens(Protocol):
    """Rows of integers that may lie on disk: an array, a `TokenStore`, some rows of one.

    `tokens[rows]`, with a slice or an integer array (n,), is an array (n, T) in memory.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray: ...


def sample_rows(tokens: Tokens) -> np.ndarray:
    """At most 256 rows (n, T), evenly spaced from the first to the last."""
    rows = np.unique(np.linspace(0, len(tokens) - 1, SAMPLED_ROWS).astype(int))
    return np.asarray(tokens[rows])


def fingerprint(tokens: Tokens) -> str:
    """A short name for the content: the tokens' own `fingerprint`, else a digest of `sample_rows`."""
    own = getattr(tokens, "fingerprint", None)
    if own is not None:
        return str(own)
    sample = np.ascontiguousarray(sample_rows(tokens).astype("<i4"))
    return digest(f"{len(tokens)} {sample.shape}", sample)
