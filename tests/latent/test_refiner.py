"""A refiner predicts each finer code from those before it and all coarser ones, and is drawn with a cache."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from reference import invert, softmax, token_nats

import igpt_tf as igpt
from examples import one_line_error, randomise
from igpt_tf.errors import UserError
from igpt_tf.latent.refiner import Refiner
from igpt_tf.latent.refiner_config import RefinerConfig
from igpt_tf.model.layers import attention
from igpt_tf.sampling import Controls, keras_network
from igpt_tf.sampling.keys import draw_uniforms, image_keys

pytestmark = pytest.mark.both_backends
CONFIG = RefinerConfig(
    coarse_height=2,
    coarse_width=3,
    coarse_vocab=7,
    height=4,
    width=6,
    n_vocab=5,
    num_enc_layers=1,
    num_dec_layers=2,
    self_attn_heads=4,
    cross_attn_heads=2,
    in_dim=8,
    hidden_dim=16,
    hidden_activation="silu",
    use_sliding_window=True,
    sliding_window=7,
)
N_COARSE, N_TOKENS = 6, 24
RNG = np.random.default_rng(1)
COARSE = RNG.integers(0, 7, (5, N_COARSE)).astype("int32")
TOKENS = RNG.integers(0, 5, (5, N_TOKENS)).astype("int32")


@pytest.fixture(scope="module")
def model():
    return randomise(Refiner(CONFIG, ("coarse-codes", "fine-codes")))


def logits_of(model, coarse, tokens):
    return np.asarray(model({"coarse": coarse, "tokens": tokens})).astype("float64")


def naive(model, coarse, tokens, known, seed):
    """Token by token, with a full pass for each."""
    tokens = np.where(known, tokens, 0).astype("int32")
    known = np.broadcast_to(known, tokens.shape)
    uniforms = draw_uniforms(image_keys(seed, len(tokens)), N_TOKENS)
    model.make_predict_function(force=True)
    for position in range(N_TOKENS):
        logits = model.predict_on_batch({"coarse": coarse, "tokens": tokens})[:, position].astype("float64")
        drawn = [invert(softmax(row), uniform) for row, uniform in zip(logits, uniforms[:, position], strict=True)]
        tokens[:, position] = np.where(known[:, position], tokens[:, position], drawn)
    return tokens


@pytest.mark.parametrize("position", [7, 23])
def test_logits_depend_on_the_window_and_all_coarser_codes(model, position):
    before = logits_of(model, COARSE, TOKENS)
    changed = TOKENS.copy()
    changed[:, position] = (changed[:, position] + 1) % 5
    differs = np.abs(logits_of(model, COARSE, changed) - before).max(axis=(0, 2)) > 1e-5
    # Position p reads token p - 1; two blocks of 7 positions reach 12 further back.
    np.testing.assert_array_equal(np.flatnonzero(differs), np.arange(position + 1, min(position + 14, N_TOKENS)))
    for cell in range(N_COARSE):
        other = COARSE.copy()
        other[:, cell] = (other[:, cell] + 1) % 7
        assert (np.abs(logits_of(model, other, TOKENS) - before).max(axis=(0, 2)) > 1e-5).all()


def test_a_finer_code_reads_the_coarser_one_that_covers_it(model):
    expected = [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    np.testing.assert_array_equal(model.cell_of.reshape(4, 6), expected)
    cells, _ = model.encode(ops.convert_to_tensor(COARSE))
    with_cells, without = (np.asarray(model.embed(ops.convert_to_tensor(TOKENS), one)) for one in (cells, 0 * cells))
    np.testing.assert_allclose(with_cells - without, np.asarray(cells)[:, model.cell_of], atol=1e-5)


@pytest.mark.parametrize("length, window", [(5, 3), (600, 3), (600, 256), (600, 300)])
def test_a_sliding_window_in_chunks_is_one_mask(length, window):
    states = np.random.default_rng(0).normal(size=(3, 1, 2, length, 4)).astype("float32")
    found = attention(*map(ops.convert_to_tensor, states), causal=True, window=window)
    queries, keys, values = states.astype("float64")
    scores = queries @ np.swapaxes(keys, -1, -2)
    back = np.arange(length)[:, None] - np.arange(length)
    scores[..., (back < 0) | (back >= window)] = -np.inf
    np.testing.assert_allclose(np.asarray(found), softmax(scores) @ values, atol=1e-5)


@pytest.mark.parametrize("n_known", [0, 15])
def test_cached_drawing_equals_the_full_pass(model, n_known):
    known = np.arange(N_TOKENS) < n_known
    expected = naive(model, COARSE, TOKENS, known, seed=3)
    found = igpt.complete(model, TOKENS, known, classes=COARSE, seed=3, batch_size=5)
    np.testing.assert_array_equal(found, expected)
    if not n_known:
        np.testing.assert_array_equal(igpt.sample(model, 5, classes=COARSE, seed=3, batch_size=5), expected)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"use_sliding_window": False, "in_dim": 16}, {"sliding_window": 1}])
def test_other_refiners_in_several_segments_equal_the_full_pass(change, monkeypatch):
    """A segment of the cache for every row, which the window reaches into."""
    monkeypatch.setattr(keras_network, "MIN_SEGMENT", 1)
    other = randomise(Refiner(dataclasses.replace(CONFIG, **change)))
    known = np.arange(N_TOKENS) < 8
    expected = naive(other, COARSE, TOKENS, known, seed=3)
    np.testing.assert_array_equal(igpt.complete(other, TOKENS, known, classes=COARSE, seed=3), expected)


@pytest.mark.slow
def test_an_image_is_the_same_in_any_batch(model):
    expected = igpt.sample(model, 5, classes=COARSE, seed=4, batch_size=5)
    np.testing.assert_array_equal(igpt.sample(model, 5, classes=COARSE, seed=4, batch_size=2), expected)
    np.testing.assert_array_equal(igpt.sample(model, 2, classes=COARSE[:2], seed=4), expected[:2])
    one = igpt.complete(model, TOKENS[:1], np.zeros(N_TOKENS, bool), classes=COARSE[3], seed=[4])
    assert (one != expected[3]).any() or (COARSE[3] == COARSE[0]).all()
    batches = igpt.sample_batches(model, [3, 8], classes=COARSE, seed=4, batch_size=1)
    drawn = {int(numbers[0]): tokens[0] for numbers, tokens in batches}
    np.testing.assert_array_equal(drawn[3], expected[3])
    *_, (rows, streamed) = igpt.stream(model, n=5, classes=COARSE, seed=4)
    assert rows == 4
    np.testing.assert_array_equal(streamed, expected)


@pytest.mark.slow
def test_holes_are_filled_and_candidates_compared_given_the_coarser_codes(model):
    known = np.arange(N_TOKENS) % 6 != 2
    how = {"classes": COARSE, "n_particles": 8, "batch_size": 40}
    first = igpt.complete(model, TOKENS, known, **how)
    np.testing.assert_array_equal(first[:, known], TOKENS[:, known])
    best = igpt.complete(model, TOKENS, known, best_of=3, **how)
    nats = [token_nats(one, logits_of(model, COARSE, one)).sum(axis=1) for one in (first, best)]
    assert (nats[1] <= nats[0] + 1e-3).all()
    found = igpt.complete(model, TOKENS, known, classes=COARSE, beam_width=40)
    searched = token_nats(found, logits_of(model, COARSE, found)).sum(axis=1)
    assert (searched <= nats[1] + 1e-3).all()


def test_scores_are_those_given_the_coarser_codes(model):
    expected = token_nats(TOKENS, logits_of(model, COARSE, TOKENS))
    np.testing.assert_allclose(igpt.score(model, TOKENS, classes=COARSE, batch_size=2), expected, rtol=1e-4, atol=1e-4)
    one_line_error(igpt.score, model, TOKENS, match="expected coarser codes of shape .* to refine, got none")
    message = r"finer ones of shape \(N, 24\) of the same images, got \(5, 6\) and \(5, 4\)"
    one_line_error(igpt.score, model, TOKENS[:, :4], classes=COARSE, match=message)


def test_a_preset_keeps_weights_shape_and_codebooks(model, tmp_path):
    model.save_to_preset(tmp_path)
    copy = Refiner.from_preset(tmp_path)
    assert (copy.config, copy.codebooks) == (CONFIG, ("coarse-codes", "fine-codes"))
    np.testing.assert_array_equal(logits_of(copy, COARSE, TOKENS), logits_of(model, COARSE, TOKENS))
    model.save_to_preset(tmp_path, dtype="float16")
    rounded = logits_of(Refiner.from_preset(tmp_path), COARSE, TOKENS)
    np.testing.assert_allclose(rounded, logits_of(model, COARSE, TOKENS), atol=0.1)
    one_line_error(igpt.ImageGPT.from_preset, tmp_path, match="expected an Image GPT, got a refiner")
    (tmp_path / "config.json").write_text('{"n_px": 8}')
    one_line_error(Refiner.from_preset, tmp_path, match="expected the preset of a refiner, got one of another kind")


@pytest.mark.slow
def test_keras_saves_and_loads_it(model, tmp_path):
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.config == CONFIG and copy.codebooks == model.codebooks
    np.testing.assert_allclose(logits_of(copy, COARSE, TOKENS), logits_of(model, COARSE, TOKENS), atol=1e-5)


def test_what_is_no_refiner_is_refused(model):
    for change, message in (
        ({"height": 0}, "expected height as a positive integer, got 0"),
        ({"cross_attn_heads": 3}, "expected cross_attn_heads to divide hidden_dim, got cross_attn_heads=3"),
        ({"hidden_activation": "softmax"}, "expected hidden_activation as one of quick_gelu, .*, got 'softmax'"),
        ({"use_sliding_window": 1}, "expected use_sliding_window as true or false, got 1"),
    ):
        one_line_error(dataclasses.replace, CONFIG, **change, match=message)
    fields = CONFIG.to_dict()
    assert RefinerConfig.from_dict(fields) == CONFIG
    one_line_error(
        RefinerConfig.from_dict, {**fields, "hiden_dim": 2}, match=r"got hiden_dim \(did you mean hidden_dim"
    )
    del fields["n_vocab"]
    one_line_error(RefinerConfig.from_dict, fields, match="got none named n_vocab")
    for classes, message in (
        (None, r"expected coarser codes of shape \(2, 6\) or \(6,\) to refine, got none"),
        (COARSE[:, :5], r"expected coarser codes of shape \(2, 6\) or \(6,\) to refine, got \(5, 5\)"),
        (COARSE[:2] + 5, "expected tokens from 0 to 6, got .*: were they made with another codebook"),
    ):
        one_line_error(igpt.sample, model, 2, classes=classes, match=message)
    with pytest.raises(UserError, match="expected `guidance` 1, as there are always coarser codes"):
        igpt.Sampler(model).sample(2, Controls(guidance=2.0), classes=COARSE[:2])
    with pytest.raises(UserError, match=r"expected tokens of shape \(B, 24\), got \(5, 4\)"):
        model({"coarse": COARSE, "tokens": TOKENS[:, :4]})
