"""Completions given pixels that come later follow the model's own conditional, which `forced` does not."""

import itertools

import numpy as np
import pytest
from reference import token_nats

import igpt_tf as igpt
from examples import TINY, randomise
from igpt_tf.config import ImageGPTConfig
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.sampling import keras_network, known_rows
from igpt_tf.sampling.region import is_prefix
from igpt_tf.sampling.smc import systematic

N_COLORS, N_DRAWS = 3, 20_000
# The middle column of an image of 3 x 3 pixels: what follows tells about each of its pixels.
HOLE = np.array([1, 4, 7])
IMAGE = np.array([0, 0, 2, 1, 0, 0, 2, 0, 1], "int32")


@pytest.fixture(scope="module")
def small_model():
    model = randomise(ImageGPT(ImageGPTConfig(n_px=3, n_vocab=N_COLORS, n_embd=8, n_head=2, n_layer=1)), seed=3)
    model.wtet.assign(2 * model.wtet)
    return model


def exact(model, temperature=1.0):
    """Probabilities (3, 3, 3) of the hole's colours given all other pixels, by trying them all.

    Unknown pixels count as they are drawn, at the temperature; known ones as the model has them.
    """
    images = np.repeat(IMAGE[None], N_COLORS**3, axis=0)
    images[:, HOLE] = list(itertools.product(range(N_COLORS), repeat=3))
    logits = np.asarray(model(images))
    nats = token_nats(images, logits)
    nats[:, HOLE] = token_nats(images, logits / temperature)[:, HOLE]
    likelihoods = np.exp(-nats.sum(axis=1))
    return (likelihoods / likelihoods.sum()).reshape((N_COLORS,) * 3)


def frequencies(model, **how):
    """How often each of the hole's colours is drawn, (3, 3, 3), in 20,000 completions."""
    known = np.ones(9, bool)
    known[HOLE] = False
    found = igpt.complete(model, np.repeat(IMAGE[None], N_DRAWS, axis=0), known, batch_size=N_DRAWS, seed=1, **how)
    np.testing.assert_array_equal(found[:, known], np.repeat(IMAGE[None, known], N_DRAWS, axis=0))
    counts = np.zeros((N_COLORS,) * 3)
    np.add.at(counts, tuple(found[:, HOLE].T), 1)
    return counts / N_DRAWS


def distance(found, expected):
    """Total variation distance of two distributions.

    20,000 exact draws from 27 outcomes are at about 0.01 themselves.
    """
    return np.abs(found - expected).sum() / 2


@pytest.mark.both_backends
@pytest.mark.slow
def test_more_particles_come_nearer_to_the_models_conditional(small_model):
    expected = exact(small_model)
    forced = distance(frequencies(small_model, method="forced"), expected)
    found = [distance(frequencies(small_model, n_particles=n), expected) for n in (1, 4, 16)]
    assert found[0] == forced > 0.1, "a single particle has nothing to choose from"
    assert found[1] < 0.7 * forced and found[2] < 0.5 * found[1] and found[2] < 0.02


@pytest.mark.slow
def test_a_temperature_changes_what_is_drawn_and_not_how_it_is_weighed(small_model):
    """The target is the tempered probabilities of the drawn pixels times the model's own of the known ones."""
    found = frequencies(small_model, n_particles=16, temperature=0.5)
    nearness = distance(found, exact(small_model, 0.5))
    assert nearness < 0.02
    assert distance(found, exact(small_model)) > 5 * nearness


@pytest.mark.both_backends
@pytest.mark.slow
def test_particles_that_go_on_take_their_whole_cache_along(tiny_model, tokens, monkeypatch, by_keras):
    known = np.arange(TINY.n_tokens) % TINY.n_px > 2
    how = {"seed": 2, "n_particles": 8, "batch_size": 40}
    expected = igpt.complete(tiny_model, tokens, known, **how)
    monkeypatch.setattr(keras_network, "MIN_SEGMENT", 1)
    model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    np.testing.assert_array_equal(igpt.complete(model, tokens, known, **how), expected)


def test_prefixes_are_completed_as_before(tiny_model, tokens):
    known = known_rows(TINY.n_px, 4)
    expected = igpt.complete(tiny_model, tokens, known, method="forced", seed=2)
    np.testing.assert_array_equal(igpt.complete(tiny_model, tokens, known, seed=2), expected)


@pytest.mark.slow
def test_an_image_does_not_depend_on_batch_size_or_number(tiny_model, tokens):
    known = np.ones(TINY.n_tokens, bool)
    known[20:44] = False
    expected = igpt.complete(tiny_model, tokens, known, seed=2, n_particles=4, batch_size=20)
    found = igpt.complete(tiny_model, tokens[:3], known, seed=2, n_particles=4, batch_size=1)
    np.testing.assert_array_equal(found, expected[:3])
    assert (igpt.complete(tiny_model, tokens, known, seed=3, n_particles=4, batch_size=20) != expected).any()


def test_systematic_resampling_is_within_one_of_the_weights():
    weights = np.array([0.5, 0.0, 0.26, 0.24])
    for uniform in np.linspace(0, 1, 50, endpoint=False):
        counts = np.bincount(systematic(weights, uniform), minlength=4)
        assert (np.abs(counts - 4 * weights) < 1).all() and counts.sum() == 4


def test_what_a_prefix_is():
    known = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]], bool)
    np.testing.assert_array_equal(is_prefix(known), [True, True, True, False, False])
