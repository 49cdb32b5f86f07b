"""Attention maps: against a slow twin in NumPy, and what a causal model cannot see."""

import dataclasses

import numpy as np
import pytest
from keras import ops
from reference import softmax

import igpt_tf as igpt
from examples import TINY, one_line_error, randomise
from igpt_tf.errors import UsageError


def slow_maps(model, tokens, layer):
    """One head and one position after the other, in float64."""
    attn = model.blocks[layer - 1].attn
    x = np.asarray(model.blocks[layer - 1].ln_1(model.hidden_states(tokens)[layer - 1]), np.float64)
    query, key = (np.asarray(one.kernel, np.float64) for one in (attn.q_proj, attn.k_proj))  # (H, E, D)
    n_images, n_tokens, _ = x.shape
    maps = np.zeros((n_images, len(query), n_tokens, n_tokens))
    for image in range(n_images):
        for head in range(len(query)):
            for t in range(n_tokens):
                seen = t + 1 if attn.causal else n_tokens
                scores = (x[image, :seen] @ key[head].T) @ (query[head] @ x[image, t]) / np.sqrt(query.shape[1])
                maps[image, head, t, :seen] = softmax(scores)
    return maps


@pytest.mark.both_backends
@pytest.mark.parametrize("name", ["tiny_model", "bert_model"])
@pytest.mark.parametrize("layer", [1, 2])
def test_maps_are_those_of_a_slow_twin(request, tokens, name, layer):
    model = request.getfixturevalue(name)
    maps = igpt.attention_maps(model, tokens, layer, batch_size=2)
    assert maps.shape == (5, TINY.n_head, TINY.n_tokens, TINY.n_tokens) and maps.dtype == np.float32
    np.testing.assert_allclose(maps, slow_maps(model, tokens, layer), atol=2e-5)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)


def test_some_positions_are_rows_of_all(tiny_model, tokens):
    maps = igpt.attention_maps(tiny_model, tokens, 2)
    np.testing.assert_array_equal(igpt.attention_maps(tiny_model, tokens, 2, [63, 0, 5]), maps[:, :, [63, 0, 5]])
    assert not np.triu(maps[0, 0], 1).any()
    np.testing.assert_array_equal(maps[:, :, 0, 0], 1)


def test_the_maps_weigh_the_values(tiny_model, tokens):
    block = tiny_model.blocks[1]
    x = block.ln_1(tiny_model.hidden_states(tokens)[1])
    values = np.asarray(block.attn.keys_values(x)[1])
    attended = block.attn.merge(ops.convert_to_tensor(igpt.attention_maps(tiny_model, tokens, 2) @ values))
    np.testing.assert_allclose(np.asarray(attended), np.asarray(block.attn(x)), atol=1e-4)


def test_a_model_of_classes_reads_images_of_none(tokens):
    model = randomise(igpt.ImageGPT(dataclasses.replace(TINY, n_start=3)))
    np.testing.assert_allclose(igpt.attention_maps(model, tokens, 1), slow_maps(model, tokens, 1), atol=2e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "expected `layer` from 1 to 2, got 0"),
        ((3,), "expected `layer` from 1 to 2, got 3"),
        ((1, [64]), "expected `positions` from 0 to 63, got 64"),
        ((1, [-1]), "expected `positions` from 0 to 63, got -1"),
        ((1, []), "expected `positions` from 0 to 63, got none"),
    ],
)
def test_mistakes(tiny_model, tokens, arguments, message):
    one_line_error(igpt.attention_maps, tiny_model, tokens, *arguments, match=message)
    with pytest.raises(UsageError):
        igpt.attention_maps(tiny_model, tokens, *arguments)
