"""The cached, compiled decoder draws what the naive sampler draws, and every control means what it says."""

import dataclasses
import itertools
import os
import signal

import keras
import numpy as np
import pytest
from reference import filtered_probabilities, naive_complete

import igpt_tf as igpt
from examples import TINY, one_line_error, randomise
from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.progress import ProgressBar
from igpt_tf.sampling import Controls, keras_network, known_rows, sampler
from igpt_tf.sampling.filters import choose, filter_logits
from igpt_tf.sampling.keras_network import ImageGPTNetwork, lay_out
from igpt_tf.sampling.keys import draw_uniforms
from igpt_tf.sampling.native.network import NativeNetwork

pytestmark = pytest.mark.both_backends
N_TOKENS = TINY.n_tokens


def keys(seed, n_images):
    return [(seed, image) for image in range(n_images)]


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
def test_equal_to_the_naive_sampler_token_for_token(tiny_model, tokens, kind, by_both):
    known = some_known(tokens, kind)
    found = igpt.complete(tiny_model, tokens, known, seed=7, batch_size=2, method="forced")
    expected = naive_complete(tiny_model, tokens, known, draw_uniforms(keys(7, len(tokens)), N_TOKENS))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[known], tokens[known])


@pytest.mark.parametrize(
    "controls",
    [{"temperature": 0}, {"temperature": 0.7, "top_k": 3}, {"top_p": 0.6}, {"top_k": 5, "top_p": 0.8}, {"min_p": 0.3}],
)
@pytest.mark.slow
def test_controls_equal_to_the_naive_sampler(tiny_model, tokens, controls, by_both):
    known = known_rows(TINY.n_px, 6)
    found = igpt.complete(tiny_model, tokens, known, seed=1, **controls)
    uniforms = draw_uniforms(keys(1, len(tokens)), N_TOKENS)
    known = np.broadcast_to(known, tokens.shape)
    np.testing.assert_array_equal(found, naive_complete(tiny_model, tokens, known, uniforms, **controls))


@pytest.mark.parametrize("n_px", [3, 5])
@pytest.mark.slow
def test_sizes_that_do_not_divide_into_segments(n_px, monkeypatch, by_both):
    monkeypatch.setattr(keras_network, "MIN_SEGMENT", 1)
    model = randomise(ImageGPT(ImageGPTConfig(n_px=n_px, n_vocab=5, n_embd=8, n_head=2, n_layer=1)))
    found = igpt.sample(model, 3, seed=2)
    nothing = np.zeros((3, n_px**2), bool)
    expected = naive_complete(model, np.zeros((3, n_px**2), int), nothing, draw_uniforms(keys(2, 3), n_px**2))
    np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def model_of_short_segments(tiny_model):
    """The tiny model once more, drawn with a segment of the cache for every quarter of an image."""
    model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras_network, "MIN_SEGMENT", 1)
        return model, igpt.Sampler(keras_network.keras_networks(model))


@pytest.mark.parametrize("n_known", [0, 2, 3, 4])
@pytest.mark.slow
def test_several_segments_equal_the_naive_sampler(model_of_short_segments, tokens, n_known):
    model, drawn = model_of_short_segments
    known = np.broadcast_to(known_rows(TINY.n_px, n_known), tokens.shape)
    expected = naive_complete(model, tokens, known, draw_uniforms(keys(7, len(tokens)), N_TOKENS))
    np.testing.assert_array_equal(drawn.complete(tokens, known, seed=7), expected)


def test_weights_that_change_change_the_samples(tiny_model):
    model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    before = igpt.sample(model, 2)
    randomise(model, seed=9)
    assert (igpt.sample(model, 2) != before).any()


@pytest.mark.slow
def test_an_image_does_not_depend_on_batch_size_or_number(tiny_model, by_both):
    expected = igpt.sample(tiny_model, 5, seed=3, batch_size=5)
    np.testing.assert_array_equal(igpt.sample(tiny_model, 5, seed=3, batch_size=2), expected)
    np.testing.assert_array_equal(igpt.sample(tiny_model, 2, seed=3), expected[:2])
    assert (igpt.sample(tiny_model, 5, seed=4) != expected).any()


def test_known_images_come_back_unchanged(tiny_model, tokens):
    np.testing.assert_array_equal(igpt.complete(tiny_model, tokens, np.ones(N_TOKENS, bool)), tokens)


@pytest.mark.slow
def test_two_devices_draw_the_images_of_one(tiny_model, tokens, two_devices, by_keras):
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
    drawn = choose(keras.ops.convert_to_tensor(logits), draw_uniforms(keys(0, 4000), 1)[:, 0], np.float32(1.0))
    found = np.bincount(np.asarray(drawn), minlength=TINY.n_vocab)
    assert ((found - expected) ** 2 / expected).sum() < 29.6


@pytest.mark.parametrize(
    "controls",
    [
        {"temperature": 0.5},
        {"top_k": 4},
        {"top_k": 40},
        {"temperature": 2, "top_p": 0.5},
        {"top_k": 6, "top_p": 0.7},
        {"top_p": 0.7, "min_p": 0.2},
        {"min_p": 1},
    ],
)
def test_filtered_probabilities(controls):
    logits = np.random.default_rng(0).normal(size=(20, 30)).astype("float32") * 2
    filtered = filter_logits(keras.ops.convert_to_tensor(logits), **Controls(**controls).values())
    expected = [filtered_probabilities(row, **controls) for row in logits]
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(filtered)), expected, atol=1e-6)


def test_a_colour_of_no_probability_is_never_drawn():
    logits = np.full((3, 4), -np.inf, "float32")
    logits[:, 2] = 0
    almost_one = np.float32(1 - 2**-23)
    drawn = choose(keras.ops.convert_to_tensor(logits), np.array([0, 0.5, almost_one], "float32"), np.float32(1.0))
    np.testing.assert_array_equal(np.asarray(drawn), [2, 2, 2])


@pytest.mark.parametrize(
    "controls, message",
    [
        ({"temperature": -1}, "`temperature` as a number of at least 0"),
        ({"temperature": float("nan")}, "`temperature` as a number of at least 0"),
        ({"temperature": None}, "`temperature` as a number of at least 0, got None"),
        ({"top_p": "much"}, "`top_p` as a number above 0 and at most 1, got much"),
        ({"top_k": 0}, "`top_k` as a whole number of at least 1, got 0"),
        ({"top_k": 2.7}, "`top_k` as a whole number of at least 1, got 2.7"),
        ({"top_p": 0}, "`top_p` as a number above 0"),
        ({"top_p": 1.5}, "`top_p` as a number above 0"),
        ({"min_p": -0.1}, "`min_p` as a number from 0"),
        ({"batch_size": 0}, "`batch_size` as a whole number of at least 1"),
        ({"batch_size": 2.5}, "`batch_size` as a whole number of at least 1, got 2.5"),
        ({"n": 0}, "`n` as a whole number of at least 1"),
        ({"n": 2.5}, "`n` as a whole number of at least 1, got 2.5"),
        ({"seed": -1}, "`seed` as a whole number of at least 0"),
        ({"seed": 1.5}, "`seed` as a whole number of at least 0, got 1.5"),
        ({"seed": None}, "`seed` as a whole number of at least 0, got None"),
        ({"seed": [1.9]}, "`seed` as a whole number of at least 0, got 1.9"),
        ({"seed": True}, "`seed` as a whole number of at least 0, got True"),
        ({"seed": [1, 2]}, "one for each of 1 images, got 2"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(tiny_model, controls, message):
    with pytest.raises(UserError, match=message) as error:
        igpt.sample(tiny_model, **{"n": 1, **controls})
    assert len(str(error.value).splitlines()) == 1


def test_numbers_of_completions_and_batches_that_mean_nothing_are_refused(tiny_model, tokens):
    for name in ("n_particles", "best_of"):
        with pytest.raises(UserError, match=f"expected `{name}` as a whole number of at least 1, got 2.5"):
            igpt.complete(tiny_model, tokens, known_rows(8, 7), **{name: 2.5})
    with pytest.raises(UserError, match="expected `numbers` as a whole number of at least 0, got -1"):
        next(igpt.sample_batches(tiny_model, [-1]))


def test_numbers_may_be_numpys(tiny_model):
    expected = igpt.sample(tiny_model, 2, seed=[3, 4], top_k=4)
    found = igpt.sample(tiny_model, np.int64(2), seed=np.array([3, 4]), batch_size=np.int32(8), top_k=np.uint8(4))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_more_colours_than_any_palette_has_are_all_colours(tiny_model):
    np.testing.assert_array_equal(igpt.sample(tiny_model, 1, top_k=3_000_000_000), igpt.sample(tiny_model, 1))


def test_filters_that_let_everything_through_are_left_out():
    assert Controls(top_p=1, min_p=0) == Controls()
    logits = np.zeros((1, 40_000), "float32")
    kept = np.asarray(filter_logits(logits, **Controls(top_p=1.0).values())) > -np.inf
    assert kept.all()


def test_ctrl_c_ends_the_work_at_the_next_row(tiny_model, monkeypatch):
    rows = []

    class Bar(ProgressBar):
        def update(self, count=1):
            rows.append(count)
            if len(rows) == 3:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sampler, "ProgressBar", Bar)
    # Shells have what runs in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            igpt.sample(tiny_model, 200, batch_size=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(rows) < 100


def test_a_classifier_draws_with_the_model_in_it(tiny_model):
    drawn = igpt.sample(igpt.ImageGPTClassifier(tiny_model, 3), 2, seed=5)
    np.testing.assert_array_equal(drawn, igpt.sample(tiny_model, 2, seed=5))


def test_a_model_with_several_start_embeddings_draws_with_the_first():
    model = randomise(ImageGPT(dataclasses.replace(TINY, n_start=3)))
    nothing = np.zeros((4, N_TOKENS), bool)
    expected = naive_complete(model, nothing.astype(int), nothing, draw_uniforms(keys(6, 4), N_TOKENS))
    np.testing.assert_array_equal(igpt.sample(model, 4, seed=6), expected)


def test_wrong_shapes_and_models_are_refused(tiny_model, tokens):
    with pytest.raises(UserError, match=r"expected tokens of shape \(images, 64\)"):
        igpt.complete(tiny_model, tokens[:, :10], np.ones(10, bool))
    with pytest.raises(UserError, match="expected `known` as booleans"):
        igpt.complete(tiny_model, tokens, np.ones(10, bool))
    with pytest.raises(UserError, match=r"got bool \(10,\)"):
        igpt.complete(tiny_model, tokens + 100, np.ones(10, bool))
    with pytest.raises(UserError, match="expected integer tokens"):
        igpt.complete(tiny_model, tokens / 2, known_rows(8, 4))
    with pytest.raises(UserError, match="expected tokens from 0 to 10"):
        igpt.complete(tiny_model, tokens + 5, known_rows(8, 4))
    with pytest.raises(UserError, match="expected an autoregressive model, got a BERT model"):
        igpt.sample(ImageGPT(ImageGPTConfig(8, 11, 16, 4, 1, bert=True)), 1)
    with pytest.raises(UserError, match="expected `rows` from 0 to 8"):
        known_rows(8, 9)


@pytest.mark.parametrize("segment", [4, 8, 16])
@pytest.mark.parametrize("n_prefix", [0, 4, 8, 12])
def test_steps_over_a_cache_equal_the_full_pass(n_prefix, segment, monkeypatch):
    config = dataclasses.replace(TINY, n_px=4)
    model = randomise(ImageGPT(config))
    tokens = np.random.default_rng(1).integers(0, config.n_vocab, (5, 16)).astype("int32")
    expected = np.asarray(model(tokens))
    monkeypatch.setattr(keras_network, "MIN_SEGMENT", segment)
    drawn = ImageGPTNetwork(model)
    weights = drawn.lay_out()
    start = np.zeros(5, "int32")
    past, recent = drawn.prefill(drawn.put(tokens[:, :n_prefix]), drawn.put(start))
    for position in range(n_prefix, config.n_tokens):
        previous = tokens[:, position - 1] if position else start
        logits, recent = drawn.step(weights, previous, position, past, recent)
        np.testing.assert_allclose(np.asarray(logits), expected[:, position], atol=1e-4 * np.abs(expected).max())
        if (position + 1) % config.n_px == 0:
            drawn.end_row((position + 1) // config.n_px, past, recent)


def test_every_image_may_have_its_own_seed(tiny_model):
    found = igpt.sample(tiny_model, 3, seed=[5, 9, 5])
    for row, seed in zip(found, [5, 9, 5], strict=True):
        np.testing.assert_array_equal(row, igpt.sample(tiny_model, 1, seed=seed)[0])


def test_batches_are_the_images_of_their_numbers(tiny_model):
    expected = igpt.sample(tiny_model, 6, seed=3)
    batches = igpt.sample_batches(tiny_model, [5, 0, 3], seed=3, batch_size=2)
    found = dict(zip(*map(np.concatenate, zip(*batches, strict=True)), strict=True))
    assert list(found) == [5, 0, 3]
    drawn = list(igpt.Sampler(tiny_model).sample_rows([5, 0, 3], seed=3, batch_size=2))
    assert sum(rows for _, rows, _ in drawn) == 2 * TINY.n_px and max(rows for _, rows, _ in drawn) == 1
    for number, tokens in found.items():
        np.testing.assert_array_equal(tokens, expected[number])


@pytest.mark.parametrize("seed", [0, 2**40, 2**70])
def test_all_ways_draw_the_same_images_of_a_seed(tiny_model, seed):
    expected = igpt.sample(tiny_model, 2, seed=seed)
    ((_, batch),) = igpt.sample_batches(tiny_model, [0, 1], seed=seed, batch_size=2)
    np.testing.assert_array_equal(batch, expected)
    *_, (_, streamed) = igpt.stream(tiny_model, expected, np.zeros(N_TOKENS, bool), seed=seed)
    np.testing.assert_array_equal(streamed, expected)


def test_batches_are_drawn_as_they_are_asked_for(tiny_model):
    """Numbers without end: no more than a batch is drawn before it is taken."""
    taken = []
    batches = igpt.sample_batches(tiny_model, (taken.append(i) or i for i in itertools.count()), batch_size=2)
    for _ in range(2):
        next(batches)
    batches.close()
    assert len(taken) <= 8


def test_a_stream_shows_the_rows_as_they_are_drawn(tiny_model, tokens):
    known = known_rows(TINY.n_px, 3)
    known[-2:] = True
    expected = igpt.complete(tiny_model, tokens, known, seed=2, method="forced")
    shown = list(igpt.stream(tiny_model, tokens, known, seed=2, method="forced"))
    assert [n_rows for n_rows, _ in shown] == [3, 4, 5, 6, 7, 8]
    for n_rows, partial in shown:
        np.testing.assert_array_equal(partial[:, : n_rows * TINY.n_px], expected[:, : n_rows * TINY.n_px])
        np.testing.assert_array_equal(partial[:, known], tokens[:, known])


@pytest.mark.slow
def test_the_best_of_several_is_the_likeliest(tiny_model, tokens):
    known = known_rows(TINY.n_px, 2)
    totals = igpt.score(tiny_model, igpt.complete(tiny_model, tokens, known, seed=1)).sum(axis=1)
    best = igpt.complete(tiny_model, tokens, known, seed=1, best_of=8)
    assert (igpt.score(tiny_model, best).sum(axis=1) <= totals).all(), "the first candidate is the one of best_of=1"
    assert (igpt.score(tiny_model, best).sum(axis=1) < totals).any()


@pytest.mark.parametrize("region", [known_rows(8, 5), np.arange(N_TOKENS) % 8 > 1])
@pytest.mark.slow
def test_candidates_are_compared_image_by_image(tiny_model, tokens, region):
    """Finished images are yielded before all are drawn, and are those of one batch of everything."""
    how = {"seed": 1, "best_of": 3, "n_particles": 2}
    expected = igpt.complete(tiny_model, tokens, region, batch_size=100, **how)
    batches = igpt.Sampler(tiny_model).complete_batches(tokens, region, batch_size=6, **how)
    numbers, filled = map(np.concatenate, zip(next(batches), next(batches), strict=True))
    batches.close()
    np.testing.assert_array_equal(numbers, range(4))
    np.testing.assert_array_equal(filled, expected[:4])
    np.testing.assert_array_equal(igpt.complete(tiny_model, tokens, region, batch_size=6, **how), expected)


@pytest.mark.parametrize("controls", [{"temperature": 0}, {"top_k": 1}, {"min_p": 1}])
def test_the_likeliest_colours_need_one_candidate_and_no_particles(tiny_model, tokens, controls, monkeypatch):
    known = np.arange(N_TOKENS) % 8 > 1
    expected = igpt.complete(tiny_model, tokens, known, method="forced", **controls)

    def useless(*args, **kwargs):
        raise AssertionError("nothing is to be weighed or compared")

    monkeypatch.setattr(sampler, "draw_conditioned", useless)
    monkeypatch.setattr(NativeNetwork, "score", useless)
    found = igpt.complete(tiny_model, tokens, known, method="smc", best_of=3, **controls)
    np.testing.assert_array_equal(found, expected)


def test_other_values_of_the_controls_are_not_compiled_anew(tiny_model, monkeypatch, by_keras):
    traced = []
    step = ImageGPTNetwork.step
    monkeypatch.setattr(ImageGPTNetwork, "step", lambda *args: traced.append(args) or step(*args))
    model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    bold = igpt.sample(model, 2, temperature=2, top_p=0.99)
    n_traced = len(traced)
    tame = igpt.sample(model, 2, temperature=0, top_p=0.3, seed=4)
    assert 0 < n_traced == len(traced) and (tame != bold).any()


def projections(model):
    return [
        layer
        for block in model.blocks
        for layer in (*(getattr(block.attn, f"{name}_proj") for name in "qkvc"), block.mlp.c_fc, block.mlp.c_proj)
    ]


@pytest.mark.slow
def test_adapters_draw_as_the_naive_sampler(tiny_model):
    model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    before = igpt.sample(model, 3)
    for layer in projections(model):
        layer.enable_lora(2)
    randomise(model, seed=4)
    nothing = np.zeros((3, N_TOKENS), bool)
    expected = naive_complete(model, nothing.astype(int), nothing, draw_uniforms(keys(0, 3), N_TOKENS))
    np.testing.assert_array_equal(igpt.sample(model, 3), expected)
    assert (expected != before).any()


@pytest.mark.slow
def test_quantised_weights_are_laid_out_as_they_are(tiny_model):
    model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    expected = lay_out(model)["blocks"]
    for layer in projections(model):
        layer.quantize("int8")
    for found, block in zip(lay_out(model)["blocks"], expected, strict=True):
        for name, matrix in block.items():
            matrix = np.asarray(matrix)
            np.testing.assert_allclose(np.asarray(found[name]), matrix, atol=np.abs(matrix).max() / 64, err_msg=name)
            assert (np.asarray(found[name]) != matrix).any()
    assert igpt.sample(model, 1).shape == (1, N_TOKENS)


@pytest.mark.slow
def test_whole_images_are_streamed(tiny_model):
    *_, (rows, tokens) = igpt.stream(tiny_model, n=2, seed=3)
    assert rows == tiny_model.config.n_px
    np.testing.assert_array_equal(tokens, igpt.sample(tiny_model, n=2, seed=3))


def test_streaming_needs_images_or_their_number(tiny_model, tokens):
    for how in ({}, {"n": 2, "tokens": tokens}, {"n": 0}, {"tokens": tokens}):
        one_line_error(lambda how=how: next(igpt.stream(tiny_model, **how)), match="expected `(n|tokens)`")
