"""Training an autoencoder with its codebook: both learn, a run resumes exactly, and what does not fit is refused."""

import dataclasses

import keras
import numpy as np
import pytest

from examples import StopAfter, one_line_error, random_image
from igpt_tf.latent.adapt import CodedAutoencoder, adapt
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.codebook import Codebook, row_by_row
from igpt_tf.latent.codebook_report import codebook_psnr
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.nearest_units import nearest_units
from igpt_tf.latent.settings import AutoencoderSettings

pytestmark = pytest.mark.both_backends
TINY = AutoencoderConfig(min_channel=4, max_channel=4, num_layers=1, latent_channel=2, num_res_blocks=1)
SETTINGS = AutoencoderSettings(steps=12, batch_size=5, learning_rate=2e-2, save_every=4, seed=5)
# Of one colour each: easy to learn.
IMAGES = np.broadcast_to(random_image(10, 1, 1, 3), (10, 8, 8, 3))
UNITS = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")


def codebook_of(model, size=1):
    units = np.tile(UNITS, (1, size * size))
    return Codebook(units, size, size, (1, 6), row_by_row(6, (1, 6)), model.digest())


def begin():
    keras.utils.set_random_seed(0)
    model = Autoencoder(TINY)
    return model, codebook_of(model)


def test_both_learn_and_stay_together(tmp_path):
    model, codebook = begin()
    before = codebook_psnr(codebook, model, IMAGES)
    found, logs = adapt(model, codebook, IMAGES, SETTINGS, tmp_path, IMAGES[:3])
    found.require_autoencoder(model)
    assert not np.array_equal(found.units, UNITS) and found.positions is codebook.positions
    assert codebook_psnr(found, model, IMAGES) > before + 0.5
    assert logs[-1]["val_psnr"] == pytest.approx(codebook_psnr(found, model, IMAGES[:3]), rel=1e-3)


@pytest.mark.slow
def test_a_run_that_died_resumes_exactly(tmp_path):
    model, codebook = begin()
    expected, _ = adapt(model, codebook, IMAGES, SETTINGS, tmp_path / "whole")
    other, codebook = begin()
    with pytest.raises(KeyboardInterrupt):
        adapt(other, codebook, IMAGES, SETTINGS, tmp_path / "died", callbacks=[StopAfter(6)])
    resumed, codebook = begin()
    found, _ = adapt(resumed, codebook, IMAGES, SETTINGS, tmp_path / "died")
    np.testing.assert_allclose(found.units, expected.units, rtol=1e-4, atol=1e-6)
    for a, b in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    one_line_error(adapt, *begin(), IMAGES[::-1].copy(), SETTINGS, tmp_path / "died", match="folder holds, got another")


def test_the_model_decodes_the_nearest_units():
    model, _ = begin()
    images = np.random.default_rng(1).uniform(-1, 1, (2, 8, 8, 3)).astype("float32")
    coded = CodedAutoencoder(model, UNITS)
    maps = keras.ops.convert_to_numpy(model.encode(images))
    chosen = UNITS[nearest_units(maps.reshape(-1, 2), UNITS)].reshape(maps.shape)
    np.testing.assert_allclose(coded(images), model.decode(chosen), atol=1e-5)
    assert float(coded.losses[0]) == pytest.approx(1.25 * np.square(maps - chosen).mean(), rel=1e-4)


def test_what_does_not_fit(tmp_path):
    model, codebook = begin()
    keras.utils.set_random_seed(1)
    one_line_error(adapt, Autoencoder(TINY), codebook, IMAGES, SETTINGS, tmp_path, match="made with this autoencoder")
    large = codebook_of(model, 2)
    one_line_error(adapt, model, large, IMAGES, SETTINGS, tmp_path, match="single positions .* got patches of 2 x 2")
    noisy = dataclasses.replace(SETTINGS, noise=0.1)
    one_line_error(adapt, model, codebook, IMAGES, noisy, tmp_path, match="expected no noise beside a codebook")
    assert not list(tmp_path.iterdir())
