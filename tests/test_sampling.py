"""The cached, compiled decoder draws what the naive sampler draws, and every control means what it says."""

import os
import signal

import keras
import numpy as np
import pytest
from conftest import TINY, randomise
from reference import filtered_probabilities, naive_complete
from tqdm import tqdm

import igpt_tf as igpt
from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.model import ImageGPT
from igpt_tf.sampling import decode, known_rows
from igpt_tf.sampling.filters import choose, draw_uniforms, filter_logits

pytestmark = pytest.mark.both_backends
N_TOKENS = TINY.n_tokens


def some_known(tokens, kind):
    """Which tokens are given, for each kind of task."""
    rng = np.random.default_rng(4)
    if kind == "nothing":
        return np.zeros(tokens.shape, bool)
    if kind == "prefix of 4 rows":
        return np.broadcast_to(known_rows(TINY.n_px, 4), tokens.shape)
    if kind == "prefix of 3 rows and a half":
        return np.broadcast_to(np.arange(N_TOKENS) < 28, tokens.shape)
    if kind == "another prefix in each image":
        return np.arange(N_TOKENS) < rng.integers(0, N_TOKENS, (len(tokens), 1))
    return rng.random(tokens.shape) < 0.5


@pytest.mark.parametrize(
    "kind",
    ["nothing", "prefix of 4 rows", "prefix of 3 rows and a half", "another prefix in each image", "anything"],
)
def test_equal_to_the_naive_sampler_token_for_token(tiny_model, tokens, kind):
    known = some_known(tokens, kind)
    found = igpt.complete(tiny_model, tokens, known, seed=7, batch_size=2)
    expected = naive_complete(tiny_model, tokens, known, draw_uniforms(7, 0, len(tokens), N_TOKENS))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[known], tokens[known])


@pytest.mark.parametrize(
    "controls", [{"temperature": 0}, {"temperature": 0.7, "top_k": 3}, {"top_p": 0.6}, {"top_k": 5, "top_p": 0.8}]
)
def test_controls_equal_to_the_naive_sampler(tiny_model, tokens, controls):
    known = known_rows(TINY.n_px, 6)
    found = igpt.complete(tiny_model, tokens, known, seed=1, **controls)
    uniforms = draw_uniforms(1, 0, len(tokens), N_TOKENS)
    known = np.broadcast_to(known, tokens.shape)
    np.testing.assert_array_equal(found, naive_complete(tiny_model, tokens, known, uniforms, **controls))


@pytest.mark.parametrize("n_px", [3, 5])
def test_sizes_that_do_not_divide_into_segments(n_px, monkeypatch):
    monkeypatch.setattr(decode, "MIN_SEGMENT", 1)
    model = randomise(ImageGPT(ImageGPTConfig(n_px=n_px, n_vocab=5, n_embd=8, n_head=2, n_layer=1)))
    found = igpt.sample(model, 3, seed=2)
    nothing = np.zeros((3, n_px**2), bool)
    expected = naive_complete(model, np.zeros((3, n_px**2), int), nothing, draw_uniforms(2, 0, 3, n_px**2))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n_known", [0, 2, 3, 4])
def test_several_segments_equal_the_naive_sampler(tiny_model, tokens, n_known, monkeypatch):
    monkeypatch.setattr(decode, "MIN_SEGMENT", 1)
    model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    known = np.broadcast_to(known_rows(TINY.n_px, n_known), tokens.shape)
    expected = naive_complete(model, tokens, known, draw_uniforms(7, 0, len(tokens), N_TOKENS))
    np.testing.assert_array_equal(igpt.complete(model, tokens, known, seed=7), expected)


def test_weights_that_change_change_the_samples(tiny_model):
    model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    before = igpt.sample(model, 2)
    randomise(model, seed=9)
    assert (igpt.sample(model, 2) != before).any()


def test_an_image_does_not_depend_on_batch_size_or_number(tiny_model):
    expected = igpt.sample(tiny_model, 5, seed=3, batch_size=5)
    np.testing.assert_array_equal(igpt.sample(tiny_model, 5, seed=3, batch_size=2), expected)
    np.testing.assert_array_equal(igpt.sample(tiny_model, 2, seed=3), expected[:2])
    assert (igpt.sample(tiny_model, 5, seed=4) != expected).any()


def test_known_images_come_back_unchanged(tiny_model, tokens):
    np.testing.assert_array_equal(igpt.complete(tiny_model, tokens, np.ones(N_TOKENS, bool)), tokens)


def test_two_devices_draw_the_images_of_one(tiny_model, tokens, two_devices):
    with two_devices.scope():
        model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    known = known_rows(TINY.n_px, 4)
    expected = igpt.complete(tiny_model, tokens, known, seed=7)
    np.testing.assert_array_equal(igpt.complete(model, tokens, known, seed=7, batch_size=4), expected)


def test_first_pixel_follows_the_models_distribution(tiny_model):
    """4,000 draws against exact probabilities: chi-squared with 10 degrees of freedom, p = 0.001 is 29.6."""
    expected = 4000 * filtered_probabilities(np.asarray(tiny_model(np.zeros((1, N_TOKENS), "int32")))[0, 0])
    logits = np.repeat(np.asarray(tiny_model(np.zeros((1, N_TOKENS), "int32")))[:, 0], 4000, axis=0)
    drawn = choose(keras.ops.convert_to_tensor(logits), draw_uniforms(0, 0, 4000, 1)[:, 0], 1.0, None, None)
    found = np.bincount(np.asarray(drawn), minlength=TINY.n_vocab)
    assert ((found - expected) ** 2 / expected).sum() < 29.6


@pytest.mark.parametrize("temperature, top_k, top_p", [(0.5, None, None), (1, 4, None), (2, None, 0.5), (1, 6, 0.7)])
def test_filtered_probabilities(temperature, top_k, top_p):
    logits = np.random.default_rng(0).normal(size=(20, 30)).astype("float32") * 2
    found = np.asarray(keras.ops.softmax(filter_logits(keras.ops.convert_to_tensor(logits), temperature, top_k, top_p)))
    expected = [filtered_probabilities(row, temperature, top_k, top_p) for row in logits]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_colour_of_no_probability_is_never_drawn():
    logits = np.full((3, 4), -np.inf, "float32")
    logits[:, 2] = 0
    almost_one = np.float32(1 - 2**-23)
    drawn = choose(keras.ops.convert_to_tensor(logits), np.array([0, 0.5, almost_one], "float32"), 1.0, None, None)
    np.testing.assert_array_equal(np.asarray(drawn), [2, 2, 2])


@pytest.mark.parametrize(
    "controls, message",
    [
        ({"temperature": -1}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0}, "top_p must be more than 0"),
        ({"top_p": 1.5}, "top_p must be more than 0"),
        ({"batch_size": 0}, "batch size"),
        ({"n": 0}, "at least 1 image"),
        ({"seed": -1}, "seed"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(tiny_model, controls, message):
    with pytest.raises(UserError, match=message):
        igpt.sample(tiny_model, **{"n": 1, **controls})


def test_ctrl_c_ends_the_work_at_the_next_row(tiny_model, monkeypatch):
    rows = []

    class Bar(tqdm):
        def update(self, count=1):
            rows.append(count)
            if len(rows) == 3:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(decode, "tqdm", Bar)
    with pytest.raises(KeyboardInterrupt):
        igpt.sample(tiny_model, 200, batch_size=1)
    assert len(rows) < 100


def test_a_classifier_draws_with_the_model_in_it(tiny_model):
    drawn = igpt.sample(igpt.ImageGPTClassifier(tiny_model, 3), 2, seed=5)
    np.testing.assert_array_equal(drawn, igpt.sample(tiny_model, 2, seed=5))


def test_wrong_shapes_and_models_are_refused(tiny_model, tokens):
    with pytest.raises(UserError, match=r"expected tokens of shape \(images, 64\)"):
        igpt.complete(tiny_model, tokens[:, :10], np.ones(10, bool))
    with pytest.raises(UserError, match="expected `known` as booleans"):
        igpt.complete(tiny_model, tokens, np.ones(10, bool))
    with pytest.raises(UserError, match="expected known tokens from 0 to 10"):
        igpt.complete(tiny_model, tokens + 5, known_rows(8, 4))
    with pytest.raises(UserError, match="BERT"):
        igpt.sample(ImageGPT(ImageGPTConfig(8, 11, 16, 4, 1, bert=True)), 1)
    with pytest.raises(UserError, match="expected 0 to 8 known rows"):
        known_rows(8, 9)
