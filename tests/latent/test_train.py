"""Training an autoencoder: it learns, resumes exactly, reads any source, and reports mistakes before it begins."""

import csv
import dataclasses

import imageio.v3 as imageio
import keras
import numpy as np
import pytest

from examples import StopAfter, one_line_error, random_image
from igpt_tf.data.image_rows import ImageRows
from igpt_tf.data.sources.open import open_source
from igpt_tf.errors import SkippedWarning, UsageError, UserError
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.quality import psnr, ssim
from igpt_tf.latent.reconstruct import reconstruct
from igpt_tf.latent.settings import AutoencoderSettings
from igpt_tf.latent.train import PixelLoss, train_autoencoder
from igpt_tf.training.optimizer import new_optimizer

pytestmark = pytest.mark.both_backends
TINY = AutoencoderConfig(min_channel=4, max_channel=4, num_layers=1, latent_channel=2, num_res_blocks=1)
SETTINGS = AutoencoderSettings(steps=12, batch_size=4, learning_rate=2e-2, save_every=4, seed=5)
# Of one colour each: easy to learn.
IMAGES = np.broadcast_to(random_image(10, 1, 1, 3), (10, 8, 8, 3))


def train(folder, settings=SETTINGS, images=IMAGES, callbacks=None, **how):
    keras.utils.set_random_seed(settings.seed)
    model = Autoencoder(TINY)
    return train_autoencoder(model, images, settings, folder, IMAGES[:3], callbacks, **how), model


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """History, model and folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    return *train(folder), folder


def test_it_learns_and_logs_the_quality(finished):
    history, model, folder = finished
    assert len(history) == 3 and history[-1]["val_loss"] < history[0]["val_loss"]
    found = reconstruct(model, IMAGES[:3])
    assert history[-1]["val_psnr"] == pytest.approx(psnr(IMAGES[:3], found).mean(), rel=1e-3)
    assert history[-1]["val_ssim"] == pytest.approx(ssim(IMAGES[:3], found).mean(), abs=1e-3)
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_psnr"]) for row in rows] == [logs["val_psnr"] for logs in history]
    assert (folder / "curves.png").exists()


@pytest.mark.slow
def test_a_run_that_died_resumes_exactly(finished, tmp_path):
    expected, model, _ = finished
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, callbacks=[StopAfter(6)])
    found, resumed = train(tmp_path)
    np.testing.assert_allclose([logs["loss"] for logs in found], [logs["loss"] for logs in expected], rtol=1e-5)
    for a, b in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_another_run_is_refused(finished, tmp_path):
    _, _, folder = finished
    one_line_error(train, folder, dataclasses.replace(SETTINGS, loss="l1"), match="loss was mse and is now l1")
    one_line_error(train, folder, images=IMAGES[::-1].copy(), match="folder holds, got another")


def test_muon_takes_all_convolutions_but_the_first_and_last():
    optimizer = new_optimizer(SETTINGS, 10, 1)
    layers = {
        variable.path.partition("/")[2].removesuffix("/kernel")
        for variable in Autoencoder(AutoencoderConfig(num_res_blocks=1)).variables
        if not optimizer._should_use_adamw(variable)
    }
    blocks = [f"{part}_block0/conv_{i}" for part in ("down0", "down1", "up0", "up1") for i in (1, 2)]
    expected = {("encoder/" if name[0] == "d" else "decoder/") + name for name in ["down1", "up0", *blocks]}
    assert layers == expected


@pytest.mark.parametrize(("kind", "power"), [("mse", 2), ("l1", 1)])
def test_losses_are_means_over_pixels(kind, power):
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 3)).astype("float32")
    expected = (np.abs(a - b) ** power).mean()
    assert float(PixelLoss(kind)(a, b)) == pytest.approx(expected, rel=1e-5)


def test_flips_are_drawn_for_each_image_and_pass(tmp_path, monkeypatch):
    seen = []
    images = random_image(6, 8, 8, 3)
    monkeypatch.setattr("igpt_tf.latent.train.Run.train", lambda run, *_: seen.append(run) or [])
    train(tmp_path, dataclasses.replace(SETTINGS, batch_size=6), images)
    batches = seen[0].batches(0, (0, 1))
    drawn = []
    for step in range(8):
        batch = np.round((batches[step][0] + 1) * 127.5).astype("uint8")
        rows = batches.order[step].rows
        flipped = [(one == images[row][:, ::-1]).all() for one, row in zip(batch, rows, strict=True)]
        assert all(flip or (one == images[row]).all() for flip, one, row in zip(flipped, batch, rows, strict=True))
        drawn.append(np.array(flipped)[np.argsort(rows)])
    assert 0.2 < np.mean(drawn) < 0.8 and len({tuple(row) for row in drawn}) > 4


def test_noise_has_another_level_for_each_image(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("igpt_tf.latent.train.Run.train", lambda run, *_: seen.append(run) or [])
    _, model = train(tmp_path, dataclasses.replace(SETTINGS, batch_size=10, noise=0.5, flip=False), IMAGES)
    inputs, targets = seen[0].batches(0, (0, 1))[0]
    levels = inputs["noise"].std(axis=(1, 2, 3))
    assert inputs["noise"].shape == (10, 4, 4, 2) and len(set(levels.round(6))) == 10 and levels.max() < 0.7
    np.testing.assert_array_equal(inputs["images"], targets)
    maps = keras.ops.convert_to_numpy(model.encode(targets))
    for noise in (inputs["noise"], np.zeros_like(maps)):
        found = model({"images": targets, "noise": noise})
        np.testing.assert_allclose(found, model.decode(maps + noise), atol=1e-5)
    again = seen[0].batches(0, (0, 1))[0][0]["noise"]
    np.testing.assert_array_equal(again, inputs["noise"])


@pytest.fixture
def folder(tmp_path):
    """Five pictures of two classes, one of which is none."""
    for i, image in enumerate(random_image(5, 10, 16, 3)):
        place = tmp_path / "pictures" / "ab"[i // 3] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        imageio.imwrite(place, image)
    (tmp_path / "pictures/a/1.png").write_bytes(b"nonsense")
    return tmp_path / "pictures"


def test_pictures_are_read_when_they_are_needed(folder):
    with pytest.warns(SkippedWarning, match=r"skipped 1 of 5 pictures"):
        rows = ImageRows(open_source(folder), 8)
    assert len(rows) == 4 and rows.size == (8, 8) and rows[:].shape == (4, 8, 8, 3)
    assert rows.labels.tolist() == [0, 0, 1, 1] and rows.classes == ("a", "b")
    np.testing.assert_array_equal(rows[np.array([3, 0])], rows[:][[3, 0]])


def test_arrays_stay_as_they_are_or_are_resized():
    images = random_image(3, 8, 12, 3)
    np.testing.assert_array_equal(ImageRows(images)[1:], images[1:])
    assert ImageRows(images).size == (8, 12) and ImageRows(images, 4)[:].shape == (3, 4, 4, 3)
    grey = ImageRows(images[..., 0])[:]
    np.testing.assert_array_equal(grey, np.repeat(images[..., :1], 3, axis=3))


def test_images_that_no_autoencoder_learns(folder, tmp_path):
    one_line_error(train, tmp_path, images=random_image(4, 7, 8, 3), match="2 divides, got 7 x 8")
    one_line_error(train, tmp_path, images=IMAGES / 255.0, match="expected images, uint8")
    one_line_error(train, tmp_path, images=open_source(folder), match="expected a size for pictures, got none")
    with pytest.raises(UsageError, match="expected one of mse, l1, got 'l2'"):
        AutoencoderSettings(loss="l2")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    model = Autoencoder(TINY)
    model.encoder.variables[0].assign(model.encoder.variables[0] * np.nan)
    with pytest.raises(UserError, match=r"the loss became NaN or infinite by step 1\. There is no checkpoint yet"):
        train_autoencoder(model, IMAGES, SETTINGS, tmp_path)
    assert not list(tmp_path.glob("epoch-*"))
