"""Pretraining: the loss falls, a stopped run goes on exactly, mistakes are told before any training."""

import dataclasses

import keras
import numpy as np
import pytest
from conftest import TINY

from igpt_tf.backend import count_devices, device_scope, list_cpus
from igpt_tf.data.batches import TrainingBatches
from igpt_tf.errors import UserError
from igpt_tf.model import ImageGPT
from igpt_tf.objectives import draw_mask
from igpt_tf.training.pretrain import PretrainSettings, pretrain

pytestmark = pytest.mark.both_backends
SETTINGS = PretrainSettings(epochs=3, batch_size=4, learning_rate=1e-2, warmup_steps=3, save_every=4, seed=5)


def stripes(n_images=11, seed=0):
    """Images whose rows each have one colour: easy to learn."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, TINY.n_vocab, (n_images, TINY.n_px)), TINY.n_px, axis=1).astype("uint16")


def new_model():
    keras.utils.set_random_seed(SETTINGS.seed)
    return ImageGPT(TINY)


class StopAfter(keras.callbacks.Callback):
    """Stands for a process that dies at some step."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        """Count down."""
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_the_loss_falls_and_the_history_tells_it(tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=10, save_every=80)
    history = pretrain(new_model(), stripes(64), settings, tmp_path, stripes(8, seed=1))
    assert history[0]["loss"] <= np.log(TINY.n_vocab) + 0.01
    assert history[-1]["val_loss"] < 0.7 * np.log(TINY.n_vocab)


@pytest.mark.parametrize("steps", [2, 6])
def test_a_run_that_died_goes_on_exactly(tmp_path, steps):
    whole = new_model()
    expected = pretrain(whole, stripes(), SETTINGS, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        pretrain(new_model(), stripes(), SETTINGS, tmp_path / "cut", callbacks=[StopAfter(steps)])
    resumed = new_model()
    found = pretrain(resumed, stripes(), SETTINGS, tmp_path / "cut")
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in expected], rtol=1e-6)
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


def test_two_devices_train_and_go_on_like_one(tmp_path):
    expected = pretrain(new_model(), stripes(), SETTINGS, tmp_path / "one")
    with device_scope(list_cpus()[:2]):
        first, second = new_model(), new_model()
    assert count_devices(first) == 2
    with pytest.raises(KeyboardInterrupt):
        pretrain(first, stripes(), SETTINGS, tmp_path / "two", callbacks=[StopAfter(6)])
    found = pretrain(second, stripes(), SETTINGS, tmp_path / "two")
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in expected], rtol=1e-5)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = pretrain(new_model(), stripes(), SETTINGS, tmp_path)
    assert pretrain(new_model(), stripes(), SETTINGS, tmp_path, callbacks=[StopAfter(1)]) == first


def test_another_run_in_the_folder_is_refused(tmp_path):
    pretrain(new_model(), stripes(), SETTINGS, tmp_path)
    with pytest.raises(UserError, match="n_images was 11 and is now 12"):
        pretrain(new_model(), stripes(12), SETTINGS, tmp_path)


def test_every_example_is_seen_once_a_pass_and_the_order_depends_on_the_step_alone():
    tokens = np.arange(10)[:, None]
    batches = TrainingBatches(tokens, batch_size=4, seed=3)
    # Out of order, and twice, as Keras may ask.
    items = {i: batches[i][0][:, 0] for i in (0, 4, 0, 1, 2, 3, 1)}
    seen = np.concatenate([items[i] for i in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert list(seen[:10]) != list(seen[10:])
    later = TrainingBatches(tokens, batch_size=4, seed=3, first=2)
    np.testing.assert_array_equal(later[1][0][:, 0], items[3])


def test_processes_share_every_batch():
    tokens = np.arange(11)[:, None]
    whole = TrainingBatches(tokens, batch_size=6, seed=3)
    shares = [TrainingBatches(tokens, batch_size=6, seed=3, share=(i, 3)) for i in range(3)]
    for step in range(4):
        np.testing.assert_array_equal(np.concatenate([share[step][0] for share in shares]), whole[step][0])


def test_masks_and_augmentation_belong_to_the_example_not_to_the_batch():
    def augment(tokens, generators):
        return tokens + np.array([generator.integers(1000) for generator in generators])[:, None]

    def mask(first, n_images, n_tokens):
        return draw_mask(7, first, n_images, n_tokens)

    tokens = np.zeros((5, 9), "uint8")
    whole = TrainingBatches(tokens, batch_size=4, augment=augment, mask=mask)
    halves = TrainingBatches(tokens, batch_size=2, augment=augment, mask=mask)
    values = []
    for step in range(5):
        for name in ("tokens", "mask"):
            parts = [halves[2 * step + i][0][name] for i in (0, 1)]
            np.testing.assert_array_equal(np.concatenate(parts), whole[step][0][name])
        values.extend(whole[step][1][:, 0])
    assert len(set(values)) > 15, "an example is augmented anew in every pass"
