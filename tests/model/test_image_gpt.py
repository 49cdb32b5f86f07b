"""What a position sees, how weights begin, and that cached, chunked and bfloat16 passes agree with the plain one."""

import dataclasses

import keras
import numpy as np
import pytest
import reference
from keras import ops

from examples import TINY, randomise
from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.model import layers
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.model.layers import QUERY_CHUNK, Attention, causal_attention, rms_norm, softmax_float32
from igpt_tf.weights.names import named_variables

pytestmark = pytest.mark.both_backends
BERT = dataclasses.replace(TINY, bert=True)


def to_numpy(array):
    return ops.convert_to_numpy(array)


def another(token):
    """A colour that is not this one."""
    return (token + 1) % TINY.n_vocab


@pytest.mark.parametrize("position", [0, 20, 62])
def test_logits_depend_on_earlier_tokens_alone(tiny_model, tokens, position):
    changed = tokens.copy()
    changed[:, position] = another(changed[:, position])
    before, after = to_numpy(tiny_model(tokens)), to_numpy(tiny_model(changed))
    np.testing.assert_array_equal(after[:, : position + 1], before[:, : position + 1])
    assert np.abs(after[:, position + 1] - before[:, position + 1]).max() > 1e-3


def test_the_last_token_is_only_predicted(tiny_model, tokens):
    changed = tokens.copy()
    changed[:, -1] = another(changed[:, -1])
    np.testing.assert_array_equal(to_numpy(tiny_model(changed)), to_numpy(tiny_model(tokens)))


def test_bert_sees_every_token_but_the_masked(bert_model, tokens):
    mask = np.ones_like(tokens)
    mask[:, 30] = 0
    before = to_numpy(bert_model({"tokens": tokens, "mask": mask}))

    changed = tokens.copy()
    changed[:, 30] = another(changed[:, 30])
    np.testing.assert_array_equal(to_numpy(bert_model({"tokens": changed, "mask": mask})), before)

    changed = tokens.copy()
    changed[:, 31] = another(changed[:, 31])
    difference = np.abs(to_numpy(bert_model({"tokens": changed, "mask": mask})) - before)
    assert difference[:, 0].max() > 1e-4
    assert difference[:, -1].max() > 1e-4


def test_bert_without_a_mask_sees_everything(bert_model, tokens):
    seen = bert_model({"tokens": tokens, "mask": np.ones_like(tokens)})
    np.testing.assert_array_equal(to_numpy(bert_model(tokens)), to_numpy(seen))
    np.testing.assert_array_equal(to_numpy(bert_model({"tokens": tokens})), to_numpy(seen))


def test_weights_begin_as_in_the_original():
    """Mean and deviation of n normal draws vary by s / sqrt(n) and s / sqrt(2 n): 5 of those are allowed."""
    keras.utils.set_random_seed(0)
    width, n_layer = 128, 3
    config = ImageGPTConfig(n_px=8, n_vocab=64, n_embd=width, n_head=4, n_layer=n_layer)
    deviations = {"wpe": 0.01, "wte": 0.02, "sos": 0.02, "c_fc/w": 0.02, "mlp/c_proj/w": 0.02}
    deviations |= {f"{name}_proj": width**-0.5 for name in "qkv"} | {"attn/c_proj": (width * n_layer) ** -0.5}
    drawn = 0
    for name, variable in named_variables(ImageGPT(config)).items():
        values = to_numpy(variable).astype(np.float64)
        if name.endswith("/g") or name == "wtet":
            np.testing.assert_array_equal(values, float(name != "wtet"))
            continue
        expected = next(deviation for end, deviation in deviations.items() if name.endswith(end))
        assert abs(values.mean()) < 5 * expected / np.sqrt(values.size), name
        assert abs(values.std() - expected) < 5 * expected / np.sqrt(2 * values.size), name
        drawn += 1
    assert drawn == 3 + 6 * n_layer


def test_the_seed_decides_the_weights():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return ImageGPT(TINY).get_weights()

    for a, b in zip(weights(3), weights(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(weights(3), weights(4), strict=True))


def test_a_new_model_finds_every_colour_as_likely(tokens):
    assert not to_numpy(ImageGPT(TINY)(tokens)).any()


def test_hidden_states_lead_to_the_logits(tiny_model, tokens):
    states = tiny_model.hidden_states(tokens)
    assert [tuple(state.shape) for state in states] == [(5, 64, 16)] * (TINY.n_layer + 1)
    np.testing.assert_allclose(
        to_numpy(tiny_model.logits(tiny_model.ln_f(states[-1]))), to_numpy(tiny_model(tokens)), rtol=1e-6, atol=1e-6
    )


def test_bfloat16_keeps_float32_weights_and_logits(tokens):
    model = randomise(ImageGPT(TINY), scale=0.1)
    half = ImageGPT(TINY, dtype="mixed_bfloat16")
    half.set_weights(model.get_weights())
    assert {keras.backend.standardize_dtype(variable.dtype) for variable in half.variables} == {"float32"}
    assert keras.backend.standardize_dtype(half.hidden_states(tokens)[-1].dtype) == "bfloat16"
    found, expected = half(tokens), to_numpy(model(tokens))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    difference = np.abs(to_numpy(found) - expected).max()
    # bfloat16 has 8 bits: a few roundings of 1 in 256.
    assert 0 < difference < 0.03 * np.abs(expected).max()


def test_norms_and_softmax_compute_in_float32():
    """In bfloat16 a sum of 4096 numbers stops growing long before its end."""
    x = np.random.default_rng(0).normal(size=(3, 4096)).astype("float32")
    rounded = ops.cast(x, "bfloat16")
    x = to_numpy(ops.cast(rounded, "float32")).astype(np.float64)
    norm = rms_norm("norm", "mixed_bfloat16")(rounded)
    assert keras.backend.standardize_dtype(norm.dtype) == "bfloat16"
    np.testing.assert_allclose(
        to_numpy(ops.cast(norm, "float32")), x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5), rtol=2**-8
    )
    np.testing.assert_allclose(
        to_numpy(ops.cast(softmax_float32(rounded), "float32")), reference.softmax(x), rtol=2**-8
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64"])
def test_tokens_of_any_integer_type(tiny_model, tokens, dtype):
    np.testing.assert_array_equal(to_numpy(tiny_model(tokens.astype(dtype))), to_numpy(tiny_model(tokens)))


@pytest.mark.parametrize("shape", [(64,), (2, 65), (2, 8, 8)])
def test_tokens_of_another_shape_are_refused(tiny_model, shape):
    with pytest.raises(UserError, match=r"expected tokens of shape \(B, 64\) for images of 8 pixels, got"):
        tiny_model(np.zeros(shape, "int32"))


def test_a_mask_is_for_bert_models(tiny_model, tokens):
    with pytest.raises(UserError, match="masks are for BERT models"):
        tiny_model({"tokens": tokens, "mask": np.ones_like(tokens)})


@pytest.mark.parametrize("length", [2, QUERY_CHUNK - 1, QUERY_CHUNK, QUERY_CHUNK + 1, 600])
def test_attention_in_chunks_equals_the_whole_matrix(length):
    queries, keys, values = np.random.default_rng(0).normal(size=(3, 1, 2, length, 4)).astype("float32")
    found = causal_attention(*map(ops.convert_to_tensor, (queries, keys, values)))
    np.testing.assert_allclose(to_numpy(found), reference.causal_attention(queries, keys, values), atol=1e-5)


@pytest.mark.slow
def test_plain_keras_trains_it():
    keras.utils.set_random_seed(0)
    model = ImageGPT(dataclasses.replace(TINY, n_layer=1))
    tokens = np.repeat(np.random.default_rng(0).integers(0, TINY.n_vocab, (16, TINY.n_px)), TINY.n_px, axis=1)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(tokens, tokens, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert losses[0] <= np.log(TINY.n_vocab) + 0.01


@pytest.mark.parametrize("causal", [True, False])
def test_the_fused_attention_is_ours(monkeypatch, causal):
    """Where a GPU has a fused kernel for it, which Keras chooses, arguments and result are the same."""
    states = [ops.convert_to_tensor(np.random.default_rng(i).normal(size=(2, 3, 5, 4)), "float32") for i in range(3)]
    expected = to_numpy(layers.attention(*states, causal))
    monkeypatch.setattr(layers, "fuses_attention", lambda dtype: True)
    np.testing.assert_allclose(to_numpy(layers.attention(*states, causal)), expected, atol=1e-6)


def test_attention_to_a_context():
    """To itself it is self-attention; the keys and values come from the context, the queries from x."""
    attention = Attention(16, 4, 2, causal=False)
    attention.build((None, None, 16))
    randomise(attention)
    rng = np.random.default_rng(0)
    x, context = (rng.normal(size=(2, length, 16)).astype("float32") for length in (5, 3))
    np.testing.assert_allclose(attention(x, context=x), attention(x), rtol=1e-5, atol=1e-6)
    q, k, v, c = (
        np.asarray(p.kernel) for p in (attention.q_proj, attention.k_proj, attention.v_proj, attention.c_proj)
    )
    scores = np.einsum("btd,hed,bsf,hef->bhts", x, q, context, k) / np.sqrt(4)
    shares = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    expected = np.einsum("bhts,bsf,hef,hed->btd", shares, context, v, c)
    np.testing.assert_allclose(attention(x, context=context), expected, rtol=1e-4, atol=1e-4)
