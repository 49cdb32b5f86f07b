"""PSNR and SSIM against numbers and against TensorFlow's."""

import keras
import numpy as np
import pytest

from examples import one_line_error, random_image
from igpt_tf.latent.quality import psnr, quality_metrics, ssim
from igpt_tf.latent.reconstruct import to_inputs

pytestmark = pytest.mark.both_backends
IMAGES = random_image(3, 24, 20, 3)
NOISY = np.clip(IMAGES.astype(int) + np.random.default_rng(1).integers(-30, 30, IMAGES.shape), 0, 255).astype("uint8")


def test_psnr_of_known_errors():
    black = np.zeros((2, 4, 4, 3), np.uint8)
    other = black.copy()
    other[0] += 1  # an error of one level everywhere
    found = psnr(black, other)
    assert found == pytest.approx([20 * np.log10(255), 100], rel=1e-6)
    errors = np.square(IMAGES.astype(float) - NOISY).mean((1, 2, 3))
    np.testing.assert_allclose(psnr(IMAGES, NOISY), 10 * np.log10(255**2 / errors), rtol=1e-5)


def test_ssim_is_tensorflows():
    tf = pytest.importorskip("tensorflow")
    expected = tf.image.ssim(IMAGES, NOISY, 255).numpy()
    np.testing.assert_allclose(ssim(IMAGES, NOISY), expected, atol=2e-5)
    np.testing.assert_allclose(ssim(IMAGES, IMAGES), 1, atol=1e-6)


def test_ssim_of_images_smaller_than_its_window():
    small = random_image(2, 6, 4, 3)
    np.testing.assert_allclose(ssim(small, small), 1, atol=1e-6)
    assert (ssim(small, 255 - small) < 0.5).all()


def test_metrics_are_the_means():
    for metric, function in zip(quality_metrics(), (psnr, ssim), strict=True):
        metric.update_state(to_inputs(IMAGES), to_inputs(NOISY), np.array([1, 1, 0], "float32"))
        assert float(metric.result()) == pytest.approx(function(IMAGES, NOISY)[:2].mean(), rel=1e-5)
        assert isinstance(metric, keras.metrics.Metric)


def test_arrays_that_cannot_be_compared():
    one_line_error(psnr, IMAGES, NOISY[:2], match="expected two arrays of images")
    one_line_error(ssim, IMAGES / 255, NOISY / 255, match=r"uint8, got float64 \(3, 24, 20, 3\)")
