"""A run trains any Keras model, such as one that maps continuous images to themselves."""

import keras
import numpy as np
import pytest

from examples import StopAfter
from igpt_tf.data.batches import TrainingBatches
from igpt_tf.data.order import ExampleOrder
from igpt_tf.errors import UserError
from igpt_tf.training.run import Run
from igpt_tf.training.settings import RunSettings

pytestmark = pytest.mark.both_backends
SETTINGS = RunSettings(steps=12, batch_size=4, learning_rate=1e-2, save_every=4, seed=5)
IMAGES = np.random.default_rng(0).normal(size=(10, 6, 6, 1)).astype("float32")


def autoencoder(folder, callbacks=None, **identity):
    """The history of a run of a small autoencoder, and the model."""
    keras.utils.set_random_seed(SETTINGS.seed)
    layers = [
        keras.layers.Conv2D(4, 3, 2, "same", activation="silu", name="encoder"),
        keras.layers.Conv2DTranspose(1, 3, 2, "same", name="decoder"),
    ]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers])

    def batches(first, share):
        order = ExampleOrder(len(IMAGES), SETTINGS.micro_batch_size, SETTINGS.seed, share)
        return TrainingBatches(order, lambda examples: (IMAGES[examples.rows],) * 2, first)

    validation = (IMAGES[:3], IMAGES[:3], np.ones((3, 6, 6), "float32"))
    loss = keras.losses.MeanSquaredError()
    run = Run(model, SETTINGS, len(IMAGES), batches, loss, {"data": "noise", **identity}, validation)
    return run.train(folder, callbacks), model


@pytest.mark.slow
def test_an_autoencoder_is_trained_and_resumed(tmp_path):
    expected, model = autoencoder(tmp_path / "whole")
    assert expected[-1]["loss"] < expected[0]["loss"] and len(expected) == 3
    error = np.square(np.asarray(model(IMAGES[:3])) - IMAGES[:3]).mean()
    assert expected[-1]["val_loss"] == pytest.approx(error, rel=1e-5)
    with pytest.raises(KeyboardInterrupt):
        autoencoder(tmp_path / "stopped", [StopAfter(6)])
    found, resumed = autoencoder(tmp_path / "stopped")
    assert [logs["loss"] for logs in found] == pytest.approx([logs["loss"] for logs in expected], rel=1e-5)
    for a, b in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_run_of_another_identity_is_refused(tmp_path):
    autoencoder(tmp_path)
    with pytest.raises(UserError, match=r"holds, got another \(data was noise and is now stripes\): give its settings"):
        autoencoder(tmp_path, data="stripes")
