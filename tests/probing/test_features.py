"""Features are the means of each layer's normalised states, whatever the batch, the devices and where they go."""

import keras
import numpy as np
import pytest
from keras import ops

from examples import TINY, randomise
from igpt_tf.errors import UserError
from igpt_tf.model.bert import draw_mask
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.probing.features import extract_features

pytestmark = pytest.mark.both_backends


def rms(states, scale):
    """The original's norm, in NumPy."""
    return states / np.sqrt((states**2).mean(-1, keepdims=True) + 1e-5) * ops.convert_to_numpy(scale)


def expected_features(model, inputs, norm="block"):
    """The obvious way: all states at once, each normalised by what reads it, then the mean."""
    features = []
    for layer, states in enumerate(model.hidden_states(inputs)):
        states = ops.convert_to_numpy(states).astype("float64")
        at_end = layer == model.config.n_layer
        scale = {
            "block": model.ln_f.scale if at_end else model.blocks[layer % TINY.n_layer].ln_1.scale,
            "ln_2": model.ln_f.scale if at_end else model.blocks[layer % TINY.n_layer].ln_2.scale,
            "ln_f": model.ln_f.scale,
        }
        features.append((states if norm == "none" else rms(states, scale[norm])).mean(axis=1))
    return np.stack(features)


@pytest.mark.parametrize("norm", ["block", "ln_2", "ln_f", "none"])
def test_means_of_the_normalised_states_of_every_layer(tiny_model, tokens, norm):
    found = extract_features(tiny_model, tokens, norm=norm)
    assert found.shape == (TINY.n_layer + 1, 5, TINY.n_embd) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected_features(tiny_model, tokens, norm), atol=2e-5)


def test_the_last_layer_is_what_the_classifier_reads(tokens):
    classifier = randomise(ImageGPTClassifier(ImageGPT(TINY), 3))
    features = extract_features(classifier, tokens, [TINY.n_layer])[0]
    logits = features @ ops.convert_to_numpy(classifier.clf.wclf).T
    np.testing.assert_allclose(logits, ops.convert_to_numpy(classifier(tokens)), atol=2e-5)


@pytest.mark.parametrize("layers", [[2], [0], [2, 0], [1, 1]])
def test_layers_come_as_they_were_asked_for(tiny_model, tokens, layers):
    np.testing.assert_allclose(
        extract_features(tiny_model, tokens, layers), expected_features(tiny_model, tokens)[layers], atol=2e-5
    )


def test_no_further_than_the_highest_layer(tokens):
    model = randomise(ImageGPT(TINY))
    expected = expected_features(model, tokens)[:2]
    for variable in (*model.blocks[1].attn.variables, *model.blocks[1].mlp.variables):
        variable.assign(np.full(variable.shape, np.nan, "float32"))
    np.testing.assert_allclose(extract_features(model, tokens, [0, 1]), expected, atol=2e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_batches_change_nothing(tiny_model, many_tokens, batch_size):
    found = extract_features(tiny_model, many_tokens, batch_size=batch_size)
    np.testing.assert_allclose(found, expected_features(tiny_model, many_tokens), atol=2e-5)


def test_new_weights_are_seen(tokens):
    model = randomise(ImageGPT(TINY))
    before = extract_features(model, tokens)
    randomise(model, seed=1)
    found = extract_features(model, tokens)
    assert np.abs(found - before).max() > 0.1
    np.testing.assert_allclose(found, expected_features(model, tokens), atol=2e-5)


def test_bert_sees_all_or_what_the_seed_leaves(bert_model, many_tokens):
    found = extract_features(bert_model, many_tokens)
    np.testing.assert_allclose(found, expected_features(bert_model, many_tokens), atol=2e-5)
    masked = extract_features(bert_model, many_tokens, batch_size=2, mask_seed=7, mask_probability=0.3)
    mask = draw_mask(7, 0, *many_tokens.shape, 0.3)
    expected = expected_features(bert_model, {"tokens": many_tokens, "mask": mask})
    np.testing.assert_allclose(masked, expected, atol=2e-5)
    assert np.abs(masked - found).max() > 1e-2


@pytest.mark.slow
def test_two_devices_find_what_one_does(tiny_model, many_tokens, two_devices):
    with two_devices.scope():
        copy = ImageGPT(TINY)
    copy.set_weights(tiny_model.get_weights())
    found = extract_features(copy, many_tokens, batch_size=3)
    np.testing.assert_allclose(found, expected_features(tiny_model, many_tokens), atol=2e-5)


def test_means_are_float32_in_mixed_precision(tiny_model, tokens):
    model = ImageGPT(TINY, dtype="mixed_bfloat16")
    model.set_weights(tiny_model.get_weights())
    found, expected = extract_features(model, tokens), expected_features(tiny_model, tokens)
    assert found.dtype == np.float32
    # A mean of T numbers in bfloat16 would have 8 bits.
    assert not np.array_equal(found, np.asarray(keras.ops.cast(found, "bfloat16"), "float32"))
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_features_may_go_to_disk(tiny_model, many_tokens, tmp_path):
    expected = extract_features(tiny_model, many_tokens, batch_size=2)
    found = extract_features(tiny_model, many_tokens, batch_size=2, out=tmp_path / "new" / "features.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, expected)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["features.npy"]
    into = np.zeros_like(expected)
    assert extract_features(tiny_model, many_tokens, batch_size=2, out=into) is into
    np.testing.assert_array_equal(into, expected)


def test_nothing_half_written_is_left(tiny_model, many_tokens, tmp_path):
    many_tokens[-1] = TINY.n_vocab
    with pytest.raises(UserError, match="another palette"):
        extract_features(tiny_model, many_tokens, batch_size=2, out=tmp_path / "features.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": [0, 3]}, "expected layers from 0 to 2, got 3"),
        ({"layers": [-1]}, "expected layers from 0 to 2, got -1"),
        ({"layers": []}, "expected layers from 0 to 2, got none"),
        ({"norm": "ln_1"}, "expected `norm` as one of block, ln_2, ln_f, none, got 'ln_1'"),
        ({"mask_seed": 0}, "expected no `mask_seed`, as this model is autoregressive, got 0"),
        ({"batch_size": 0}, "expected `batch_size` as a whole number of at least 1, got 0"),
        ({"out": np.empty((1, 2, 3))}, "expected `out` of shape (3, 5, 16), got (1, 2, 3)"),
    ],
)
def test_mistakes(tiny_model, tokens, arguments, message):
    with pytest.raises(UserError) as caught:
        extract_features(tiny_model, tokens, **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("change", [lambda tokens: tokens[:0], lambda tokens: tokens[:, 1:], lambda tokens: tokens / 1])
def test_tokens_that_do_not_fit(tiny_model, tokens, change):
    with pytest.raises(UserError):
        extract_features(tiny_model, change(tokens))
