"""OpenAI's own graph, run once with random weights, is the reference; `goldens/README.md` says what it holds."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from igpt_tf.model import ImageGPT, ImageGPTClassifier
from igpt_tf.model.objectives import autoregressive_loss, masked_loss
from igpt_tf.weights.names import HEAD
from igpt_tf.weights.openai import OpenAICheckpoint
from igpt_tf.weights.presets import open_preset

pytestmark = pytest.mark.both_backends
GOLDENS = Path(__file__).parents[1] / "goldens"


def load(name):
    folder = GOLDENS / name
    return (
        folder / "model.ckpt-1000000",
        json.loads((folder / "config.json").read_text()),
        np.load(folder / "reference.npz"),
    )


def inputs(reference):
    if "mask" in reference:
        return {"tokens": reference["x"], "mask": reference["mask"]}
    return reference["x"]


def assert_close(found, expected):
    """float32 parity: within 1e-4 of the reference's largest magnitude."""
    found = keras.ops.convert_to_numpy(found)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["ar", "bert", "clf"])
def test_logits_and_every_block(name):
    prefix, _, reference = load(name)
    model = ImageGPT.from_preset(prefix)
    logits = model(inputs(reference))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert_close(logits, reference["gen_logits"])
    states = model.hidden_states(inputs(reference))
    assert len(states) == model.config.n_layer + 1
    for i, state in enumerate(states[1:]):
        assert_close(state, reference[f"h{i}_out"])


@pytest.mark.parametrize("name", ["ar", "bert", "clf"])
def test_generative_loss(name):
    prefix, config, reference = load(name)
    logits = ImageGPT.from_preset(prefix)(inputs(reference))
    if name == "bert":
        loss = masked_loss(reference["x"], logits, reference["mask"])
    else:
        loss = autoregressive_loss(reference["x"], logits)
    assert float(loss) == pytest.approx(config["gen_loss"], rel=1e-5)


def test_keras_own_loss_on_the_tokens_is_the_objective():
    prefix, config, reference = load("ar")
    model = ImageGPT.from_preset(prefix)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert model.evaluate(reference["x"], reference["x"], verbose=0) == pytest.approx(config["gen_loss"], rel=1e-5)


def test_classifier_loss_and_accuracy():
    prefix, config, reference = load("clf")
    classifier = ImageGPTClassifier.from_preset(prefix)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)(reference["y"], classifier(reference["x"]))
    assert float(loss) == pytest.approx(config["clf_loss"], rel=1e-5)
    correct = np.argmax(keras.ops.convert_to_numpy(classifier(reference["x"])), -1) == np.argmax(reference["y"], -1)
    assert 100 * correct.mean() == config["accuracy"]


@pytest.mark.parametrize("name", ["ar", "bert", "clf"])
def test_shape_is_inferred_from_the_variables(name):
    prefix, config, _ = load(name)
    preset = open_preset(prefix)
    assert preset.config.to_dict() == {k: config[k] for k in preset.config.to_dict()}
    assert preset.n_class == (config["n_class"] if config["clf"] else None)
    assert (HEAD in OpenAICheckpoint(prefix).shapes) == config["clf"]
