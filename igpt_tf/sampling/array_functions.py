"""The functions of `keras.ops` that drawing calls, for NumPy's arrays: what draws them needs no Keras."""

from __future__ import annotations

from typing import Any

import numpy as np


def ops_of(array: Any) -> Any:
    """`keras.ops`, or its twin for an array of NumPy's."""
    if isinstance(array, np.ndarray | np.generic):
        return NUMPY
    from keras import ops

    return ops


class _NumPy:
    """NumPy's functions, and those of `keras.ops` that it lacks; arrays as there, and none is changed in place."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def cast(self, array: np.ndarray, dtype: str) -> np.ndarray:
        return np.asarray(array).astype(dtype, copy=False)

    def convert_to_numpy(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(array)

    def log_softmax(self, logits: np.ndarray) -> np.ndarray:
        below = logits - logits.max(axis=-1, keepdims=True)
        return below - np.log(np.exp(below).sum(axis=-1, keepdims=True))

    def softmax(self, logits: np.ndarray, axis: int = -1) -> np.ndarray:
        shares = np.exp(logits - logits.max(axis=axis, keepdims=True))
        return shares / shares.sum(axis=axis, keepdims=True)

    def slice_update(self, array: np.ndarray, start: tuple[int, ...], values: np.ndarray) -> np.ndarray:
        updated = array.copy()
        updated[tuple(slice(at, at + n) for at, n in zip(start, values.shape, strict=True))] = values
        return updated

    def sparse_categorical_crossentropy(
        self, tokens: np.ndarray, logits: np.ndarray, from_logits: bool = True
    ) -> np.ndarray:
        return -np.take_along_axis(self.log_softmax(logits), np.asarray(tokens)[..., None], axis=-1)[..., 0]

    def top_k(self, array: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        best = np.argsort(-array, axis=-1, kind="stable")[..., :k]
        return np.take_along_axis(array, best, axis=-1), best


NUMPY: Any = _NumPy()
