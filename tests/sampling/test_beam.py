"""Beam search finds what an exhaustive search finds, and a narrow one what its slow twin finds."""

import itertools

import numpy as np
import pytest
from reference import softmax

import igpt_tf as igpt
from examples import TINY, Bigrams, randomise
from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.sampling import Controls, keras_network

pytestmark = pytest.mark.both_backends
N_TOKENS = 24


@pytest.fixture
def grids():
    """Tokens (3, 24) of a toy network."""
    return np.random.default_rng(1).integers(0, Bigrams.n_vocab, (3, N_TOKENS)).astype("int32")


def likeliest(score, image, known):
    """The image (T,) with the unknown tokens that no others surpass, by trying them all."""
    hole = np.flatnonzero(~known)
    images = np.repeat(image[None], 5 ** len(hole), axis=0)
    images[:, hole] = list(itertools.product(range(5), repeat=len(hole)))
    return images[score(images).sum(axis=1).argmin()]


def naive_search(network, image, known, width):
    """The beams of one image as a list, token by token."""
    beams = [(0.0, ())]
    for position in range(N_TOKENS):
        longer = []
        for score, tokens in beams:
            log_p = np.log(softmax(network.logits(sum(tokens), position).astype("float64")))
            possible = [image[position]] if known[position] else range(5)
            longer += [(score + log_p[token], (*tokens, token)) for token in possible]
        beams = sorted(longer, reverse=True)[:width]
    return np.array(beams[0][1])


@pytest.mark.parametrize("hole", [[0, 1, 2], [5, 6, 7], [0, 9, 21], [21, 22, 23]])
def test_wide_beams_find_the_likeliest_of_all(grids, hole):
    """125 of 125 ways to fill a hole: pixels after it count too."""
    toy = Bigrams()
    known = ~np.isin(np.arange(N_TOKENS), hole)
    found = igpt.Sampler([toy]).complete(grids, known, Controls(beam_width=125))
    for image, expected in zip(found, grids, strict=True):
        np.testing.assert_array_equal(image, likeliest(lambda one: toy.score(one, None, 1), expected, known))


@pytest.mark.parametrize("width", [1, 7])
def test_narrow_beams_are_those_of_the_slow_search(grids, width):
    toy = Bigrams()
    known = np.arange(N_TOKENS) % 5 == 1
    sampler = igpt.Sampler([toy, Bigrams()])
    found = sampler.complete(grids, known, Controls(beam_width=width), batch_size=4)
    np.testing.assert_array_equal(found, [naive_search(toy, image, known, width) for image in grids])
    *_, (rows, streamed) = sampler.stream(grids, known, Controls(beam_width=width))
    assert rows == 4
    np.testing.assert_array_equal(streamed, found)
    whole = naive_search(toy, grids[0], np.zeros(N_TOKENS, bool), width)
    np.testing.assert_array_equal(sampler.sample(2, Controls(beam_width=width)), [whole, whole])
    ((numbers, drawn),) = list(igpt.Sampler([toy]).sample_batches([3], Controls(beam_width=width)))
    assert numbers == [3]
    np.testing.assert_array_equal(drawn[0], whole)


@pytest.mark.slow
def test_beams_take_their_whole_cache_along(monkeypatch, by_both):
    """A model of 3 x 3 pixels of 5 colours: 25 of 25 beginnings before the last unknown one, in several segments."""
    monkeypatch.setattr(keras_network, "MIN_SEGMENT", 1)
    model = randomise(ImageGPT(ImageGPTConfig(n_px=3, n_vocab=5, n_embd=8, n_head=2, n_layer=1, n_start=3)), seed=3)
    model.wtet.assign(3 * model.wtet)
    images = np.random.default_rng(2).integers(0, 5, (2, 9)).astype("int32")
    known = np.isin(np.arange(9), [0, 2, 3, 4, 7, 8])
    found = igpt.complete(model, images, known, beam_width=25, classes=[0, 1])
    for number, one in enumerate(images):
        expected = likeliest(lambda image, number=number: igpt.score(model, image, classes=number), one, known)
        np.testing.assert_array_equal(found[number], expected)
    guided = igpt.complete(model, images, known, beam_width=3, classes=[0, 1], guidance=2.0)
    np.testing.assert_array_equal(guided[:, known], images[:, known])


@pytest.mark.slow
def test_one_beam_takes_the_likeliest_colour(tiny_model):
    expected = igpt.sample(tiny_model, 1, temperature=0)
    np.testing.assert_array_equal(igpt.sample(tiny_model, 1, beam_width=1, best_of=3), expected)


@pytest.mark.slow
def test_the_best_of_several_samples_is_the_likeliest(tiny_model):
    best = igpt.sample(tiny_model, 3, best_of=4, seed=2)
    first = igpt.sample(tiny_model, 3, seed=2)
    known = np.zeros(TINY.n_tokens, bool)
    np.testing.assert_array_equal(best, igpt.complete(tiny_model, first, known, best_of=4, seed=2))
    nats = [igpt.score(tiny_model, one).sum(axis=1) for one in (best, first)]
    assert (nats[0] <= nats[1]).all() and (nats[0] < nats[1]).any()


@pytest.mark.parametrize("other", [{"temperature": 0.8}, {"temperature": 0}, {"top_k": 3}, {"top_p": 0.5}])
def test_a_search_draws_nothing(other):
    (name,) = other
    with pytest.raises(UserError, match=f"expected `beam_width` without `{name}`, as a search draws nothing at random"):
        Controls(beam_width=2, **other)


def test_what_is_no_search_is_refused(tiny_model, tokens):
    with pytest.raises(UserError, match="expected `beam_width` as a whole number of at least 1, got 0"):
        igpt.sample(tiny_model, 1, beam_width=0)
    with pytest.raises(UserError, match="expected `method` auto, as `beam_width` asks for a search, got 'smc'"):
        igpt.complete(tiny_model, tokens, np.ones(64, bool), beam_width=2, method="smc")
    assert Controls(beam_width=2, top_p=1.0, min_p=0).beam_width == 2
