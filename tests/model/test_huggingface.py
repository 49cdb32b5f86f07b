"""Hugging Face's own implementation, given the same random weights, finds the same numbers."""

import keras
import numpy as np
import pytest

from benchmarks.theirs import new_theirs, put_weights
from examples import TINY, randomise
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.model.objectives import autoregressive_loss, token_nats

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = pytest.mark.both_backends
SOS = TINY.n_vocab


@pytest.fixture(scope="module")
def model():
    return randomise(ImageGPT(TINY))


@pytest.fixture(scope="module")
def theirs(model):
    """Their model with our weights."""
    model_there, _ = new_theirs(TINY)
    put_weights(model_there.eval(), model)
    return model_there


@pytest.fixture
def expected(theirs, tokens):
    """What they find; their inputs have the start of a sequence in front, which ours add themselves."""
    inputs = torch.tensor(np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=SOS), dtype=torch.long)
    labels = torch.nn.functional.pad(torch.tensor(tokens[:, :-1], dtype=torch.long), (1, 0), value=-100)
    with torch.no_grad():
        return theirs(inputs, labels=labels, output_hidden_states=True)


def assert_close(found, expected):
    """float32 parity: within 1e-4 of the reference's largest magnitude."""
    found, expected = keras.ops.convert_to_numpy(found), expected.numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_logits(model, tokens, expected):
    assert_close(model(tokens), expected.logits)


def test_every_hidden_state(model, tokens, expected):
    states = model.hidden_states(tokens)
    assert len(states) == len(expected.hidden_states) == TINY.n_layer + 1
    for found, theirs in zip(states[:-1], expected.hidden_states[:-1], strict=True):
        assert_close(found, theirs)
    # Their last one is normalised.
    assert_close(model.ln_f(states[-1]), expected.hidden_states[-1])


def test_loss(model, tokens, expected):
    """Theirs leaves the last token out, as its labels are shifted."""
    nats = keras.ops.convert_to_numpy(token_nats(tokens, model(tokens)))
    assert nats[:, :-1].mean() == pytest.approx(float(expected.loss), rel=1e-5)
    every = torch.nn.functional.cross_entropy(expected.logits.flatten(0, 1), torch.tensor(tokens).long().flatten())
    assert float(autoregressive_loss(tokens, model(tokens))) == pytest.approx(float(every), rel=1e-5)
