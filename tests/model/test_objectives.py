"""Losses are what the paper writes down, and an image's mask is its own."""

import keras
import numpy as np
import pytest
import reference

from igpt_tf.model.bert import draw_mask, masked_weights
from igpt_tf.model.objectives import NATS_PER_BIT, autoregressive_loss, masked_loss, token_nats

pytestmark = pytest.mark.both_backends
N_VOCAB = 7


@pytest.fixture
def batch():
    """Tokens (3, 10), logits (3, 10, 7) of which some are far off, and a mask with 1, 4 and all 10 tokens hidden."""
    rng = np.random.default_rng(0)
    mask = np.ones((3, 10), "uint8")
    mask[0, 9] = mask[1, :4] = mask[2] = 0
    logits = (20 * rng.normal(size=(3, 10, N_VOCAB))).astype("float32")
    return rng.integers(0, N_VOCAB, (3, 10)).astype("int32"), logits, mask


def to_numpy(array):
    return keras.ops.convert_to_numpy(array)


def test_nats_of_each_token(batch):
    tokens, logits, _ = batch
    expected = reference.token_nats(tokens, logits)
    np.testing.assert_allclose(to_numpy(token_nats(tokens, logits)), expected, rtol=1e-5, atol=1e-6)


def test_nats_are_float32_whatever_the_logits(batch):
    tokens, logits, _ = batch
    logits = keras.ops.cast(logits, "bfloat16")
    nats = token_nats(tokens, logits)
    assert keras.backend.standardize_dtype(nats.dtype) == "float32"
    exact = reference.token_nats(tokens, to_numpy(keras.ops.cast(logits, "float32")))
    np.testing.assert_allclose(to_numpy(nats), exact, rtol=1e-5, atol=1e-6)


def test_autoregressive_loss_is_the_mean_over_all_tokens(batch):
    tokens, logits, _ = batch
    expected = reference.token_nats(tokens, logits).mean()
    assert float(autoregressive_loss(tokens, logits)) == pytest.approx(expected, rel=1e-5)


def test_masked_loss_is_the_originals(batch):
    """`src/model.py`: an image's loss over its masked tokens divided by their number, then the mean over images."""
    tokens, logits, mask = batch
    nats = reference.token_nats(tokens, logits)
    expected = np.mean([sum(nats[i][mask[i] == 0]) / sum(mask[i] == 0) for i in range(3)])
    assert float(masked_loss(tokens, logits, mask)) == pytest.approx(expected, rel=1e-5)


def test_masked_weights_are_one_image_by_image(batch):
    mask = batch[2]
    weights = to_numpy(masked_weights(mask))
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert not weights[mask == 1].any()


def test_a_bit_is_a_choice_of_two():
    assert reference.token_nats(np.array([1]), np.zeros((1, 2)))[0] / NATS_PER_BIT == pytest.approx(1)


def test_an_image_has_the_same_mask_whatever_is_drawn_with_it():
    masks = draw_mask(3, 0, 8, 64)
    np.testing.assert_array_equal(draw_mask(3, 5, 3, 64), masks[5:])
    np.testing.assert_array_equal(draw_mask(3, 6, 1, 64), masks[6:7])
    assert (draw_mask(4, 0, 8, 64) != masks).any()
    assert len(np.unique(masks, axis=0)) == 8


def test_every_image_has_a_token_to_predict():
    masks = draw_mask(0, 0, 200, 9, probability=0.01)
    assert ((masks == 0).sum(axis=1) >= 1).all()
    # The one that is hidden where none was drawn is not always the same.
    assert (masks == 0).any(axis=0).all()


@pytest.mark.parametrize("probability", [0.15, 0.5])
def test_fraction_of_masked_tokens(probability):
    """100,000 draws, whose fraction has a deviation of at most 0.0016: 5 of those are allowed."""
    hidden = draw_mask(0, 0, 100, 1000, probability) == 0
    assert abs(hidden.mean() - probability) < 5 * np.sqrt(probability * (1 - probability) / hidden.size)
