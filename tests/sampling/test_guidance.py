"""Drawing by class and with guidance: the model's own distributions, mixed as the papers say."""

import dataclasses

import numpy as np
import pytest
from reference import invert, softmax

import igpt_tf as igpt
from examples import TINY, randomise
from igpt_tf.errors import UserError
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.sampling import known_rows
from igpt_tf.sampling.keys import draw_uniforms, image_keys
from igpt_tf.scoring import classes as classes_of
from igpt_tf.scoring.classes import class_nats, evaluate_classes

pytestmark = pytest.mark.both_backends
CONFIG = dataclasses.replace(TINY, n_px=4, n_start=3)
CLASSES = ("cat", "dog")
N_TOKENS = CONFIG.n_tokens
TOKENS = np.random.default_rng(3).integers(0, CONFIG.n_vocab, (5, N_TOKENS)).astype("int32")


@pytest.fixture(scope="module")
def model():
    return randomise(ImageGPT(CONFIG, CLASSES))


def logits_of(model, tokens, start):
    return np.asarray(model({"tokens": tokens, "start": np.full(len(tokens), start)})).astype("float64")


def naive(model, tokens, known, start, guidance, seed):
    """Token by token, with two full passes for each; returns tokens (B, T)."""
    tokens = np.where(known, tokens, 0).astype("int32")
    uniforms = draw_uniforms(image_keys(seed, len(tokens)), N_TOKENS)
    for position in range(N_TOKENS):
        of_class, of_none = (logits_of(model, tokens, one)[:, position] for one in (start, 0))
        drawn = [
            invert(softmax(row), uniform)
            for row, uniform in zip(of_none + guidance * (of_class - of_none), uniforms[:, position], strict=True)
        ]
        tokens[:, position] = np.where(known[position], tokens[:, position], drawn)
    return tokens


@pytest.mark.parametrize("guidance", [1.0, 2.5, 0.0])
@pytest.mark.parametrize("n_known", [0, 2])
def test_guided_images_are_those_of_two_full_passes(model, guidance, n_known):
    known = known_rows(CONFIG.n_px, n_known)
    expected = naive(model, TOKENS, known, 2, guidance, seed=3)
    found = igpt.complete(model, TOKENS, known, classes="dog", guidance=guidance, seed=3, batch_size=2)
    np.testing.assert_array_equal(found, expected)
    *_, (rows, streamed) = igpt.stream(model, TOKENS, known, classes="dog", guidance=guidance, seed=3)
    assert rows == CONFIG.n_px
    np.testing.assert_array_equal(streamed, expected)


def test_every_image_has_its_own_class(model):
    both = igpt.sample(model, 4, classes=["cat", 1, "dog", 0], seed=5)
    for classes, rows in (("cat", [0, 3]), ("dog", [1, 2])):
        np.testing.assert_array_equal(igpt.sample(model, 4, classes=classes, seed=5)[rows], both[rows])
    without = igpt.sample(model, 4, seed=5)
    np.testing.assert_array_equal(igpt.sample(model, 4, classes="cat", guidance=0, seed=5), without)
    assert (without != both).any()


def test_images_of_numbers_have_the_classes_in_turn(model):
    expected = igpt.sample(model, 5, classes=[0, 1, 0, 1, 0], seed=5)
    batches = igpt.sample_batches(model, [4, 1], classes=[0, 1], seed=5)
    found = dict(zip(*map(np.concatenate, zip(*batches, strict=True)), strict=True))
    for number in (4, 1):
        np.testing.assert_array_equal(found[number], expected[number])


@pytest.mark.slow
def test_holes_are_filled_with_guidance_and_resampled(model):
    known = np.arange(N_TOKENS) % 4 != 1
    found = igpt.complete(model, TOKENS, known, classes="cat", guidance=2.0, n_particles=8)
    np.testing.assert_array_equal(found[:, known], TOKENS[:, known])
    best = igpt.complete(model, TOKENS, known, classes="cat", guidance=2.0, n_particles=8, best_of=3)
    first, kept = (igpt.score(model, one, classes="cat").sum(1) for one in (found, best))
    assert (kept <= first + 1e-3).all()


def test_scores_are_those_of_the_class(model, monkeypatch):
    for start, classes in enumerate((None, "cat", "dog")):
        logits = logits_of(model, TOKENS, start)
        expected = -np.log(np.take_along_axis(softmax(logits), TOKENS[..., None], axis=-1))[..., 0]
        np.testing.assert_allclose(igpt.score(model, TOKENS, classes=classes), expected, rtol=1e-4, atol=1e-4)
    table = np.stack([igpt.score(model, TOKENS, classes=one).sum(1) for one in (None, "cat", "dog")], axis=1)
    np.testing.assert_allclose(class_nats(model, TOKENS, batch_size=2), table, rtol=1e-4)
    # Two images at once.
    monkeypatch.setattr(classes_of, "BATCHES_A_CHUNK", 1)
    np.testing.assert_allclose(class_nats(model, TOKENS, batch_size=2), table, rtol=1e-4)


def test_the_likeliest_class_is_compared_with_the_labels(model):
    table = class_nats(model, TOKENS)
    labels = table[:, 1:].argmin(axis=1)
    labels[0] = 1 - labels[0]
    found = evaluate_classes(model, TOKENS, labels, batch_size=2)
    assert (found.images, found.accuracy) == (5, pytest.approx(80))
    assert found.nats == pytest.approx(table[:, 0].mean() / N_TOKENS, rel=1e-5)
    assert found.given_nats == pytest.approx(table[np.arange(5), labels + 1].mean() / N_TOKENS, rel=1e-5)
    with pytest.raises(UserError, match="expected labels from 0 to 1, got 2"):
        evaluate_classes(model, TOKENS, np.full(5, 2))


def test_a_model_of_classes_classifies_by_likelihood(model):
    nats = class_nats(model, TOKENS)[:, 1:]
    expected = np.exp(-nats) / np.exp(-nats).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(igpt.classify(model, TOKENS, batch_size=2), expected, rtol=1e-3)
    with pytest.raises(UserError, match="expected a model that was trained with classes"):
        igpt.classify(ImageGPT(TINY), TOKENS)


def test_what_a_model_does_not_know_is_refused(model):
    with pytest.raises(UserError, match="expected `classes` to guide towards, got `guidance` alone"):
        igpt.sample(model, 1, guidance=2)
    with pytest.raises(UserError, match="expected `guidance` as a number of at least 0, got -1"):
        igpt.sample(model, 1, classes="cat", guidance=-1)
    with pytest.raises(UserError, match="expected one of cat, dog, got 'frog'"):
        igpt.sample(model, 1, classes="frog")
    with pytest.raises(UserError, match="expected a model that was trained with classes"):
        class_nats(ImageGPT(TINY), TOKENS)
