"""How like an image its reconstruction is: PSNR and SSIM, of 8-bit levels."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from igpt_tf.errors import UserError

# Images without any error count as 100 dB.
LEAST_ERROR = 255.0**2 * 1e-10
# Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004).
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
# Images that are compared at once.
CHUNK = 256


def psnr(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in decibels, float32 (N,); at most 100.

    Args:
        images: (N, height, width, C) uint8.
        others: the same images, reconstructed.

    Raises:
        UserError: if the arrays are others.
    """
    return _compare(psnr_of, images, others)


def ssim(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Structural similarity of each image, at most 1, float32 (N,); windows of 11 pixels, or of all where it is less.

    Args:
        images: (N, height, width, C) uint8.
        others: the same images, reconstructed.

    Raises:
        UserError: if the arrays are others.
    """
    return _compare(ssim_of, images, others)


def psnr_of(levels: Any, others: Any) -> Any:
    """`psnr` of tensors of levels from 0 to 255."""
    error = ops.maximum(ops.mean(ops.square(levels - others), axis=(1, 2, 3)), LEAST_ERROR)
    return 10 * ops.log10(255.0**2 / error)


def ssim_of(levels: Any, others: Any) -> Any:
    """`ssim` of tensors of levels from 0 to 255."""
    levels, others = levels / 255, others / 255
    mean, other_mean = _blur(levels), _blur(others)
    # Both variances appear as their sum alone.
    variances = _blur(ops.square(levels) + ops.square(others)) - ops.square(mean) - ops.square(other_mean)
    covariance = _blur(levels * others) - mean * other_mean
    luminance = (2 * mean * other_mean + K1**2) / (ops.square(mean) + ops.square(other_mean) + K1**2)
    structure = (2 * covariance + K2**2) / (variances + K2**2)
    return ops.mean(luminance * structure, axis=(1, 2, 3))


def to_levels(images: Any) -> Any:
    """Tensors of images in [-1, 1] as levels from 0 to 255, rounded."""
    return ops.round(ops.clip(ops.cast(images, "float32"), -1, 1) * 127.5 + 127.5)


def quality_metrics() -> list[keras.metrics.Metric]:
    """PSNR and SSIM of images in [-1, 1], as metrics of a model."""

    def of(function: Any, name: str) -> keras.metrics.Metric:
        return keras.metrics.MeanMetricWrapper(lambda a, b: function(to_levels(a), to_levels(b)), name)

    return [of(psnr_of, "psnr"), of(ssim_of, "ssim")]


def _blur(images: Any) -> Any:
    """Means (B, height - 10, width - 10, C) under a Gaussian window, by two passes."""
    # Products with matrices: faster than convolutions with one filter for all channels.
    down, across = (ops.convert_to_tensor(_windows(size)) for size in images.shape[1:3])
    return ops.einsum("bhwc,ih,jw->bijc", images, down, across)


def _windows(size: int) -> np.ndarray:
    """The window at each of its places on a line of pixels, (places, size) float32."""
    width = min(WINDOW, size)
    window = np.exp(-np.square(np.arange(width) - (width - 1) / 2) / (2 * SIGMA**2))
    windows = [np.pad(window / window.sum(), (i, size - width - i)) for i in range(size - width + 1)]
    return np.stack(windows).astype("float32")


def _compare(function: Any, images: np.ndarray, others: np.ndarray) -> np.ndarray:
    for array in (images, others):
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape != images.shape or not array.size:
            raise UserError(
                f"expected two arrays of images (N, height, width, C) uint8, got {images.dtype} {images.shape} and "
                f"{others.dtype} {others.shape}"
            )
    parts = [
        function(*(ops.convert_to_tensor(array[i : i + CHUNK].astype("float32")) for array in (images, others)))
        for i in range(0, len(images), CHUNK)
    ]
    return np.concatenate([np.asarray(ops.convert_to_numpy(part)) for part in parts])
