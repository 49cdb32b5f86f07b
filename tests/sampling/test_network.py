"""Drawing knows a network by its protocol alone, and the sampler notices every change of the weights."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import invert, softmax

import igpt_tf as igpt
from examples import TINY, Bigrams, randomise
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.sampling import Controls
from igpt_tf.sampling.devices import networks_of
from igpt_tf.sampling.keras_network import ImageGPTNetwork
from igpt_tf.sampling.keys import draw_uniforms, image_keys

pytestmark = pytest.mark.both_backends
(HEIGHT, WIDTH), N_VOCAB = Bigrams.grid, Bigrams.n_vocab


def naive(network, tokens, known, uniforms):
    """Token by token, with whole sums."""
    tokens = np.where(known, tokens, 0)
    for image, position in np.ndindex(tokens.shape):
        if not known[image, position]:
            logits = network.logits(tokens[image, :position].sum(), position)
            tokens[image, position] = invert(softmax(logits.astype("float64")), uniforms[image, position])
    return tokens


@pytest.fixture
def grids():
    """Tokens (7, 24) of a network that is not square."""
    return np.random.default_rng(1).integers(0, N_VOCAB, (7, HEIGHT * WIDTH)).astype("int32")


@pytest.mark.parametrize("n_known", [0, 9, 12])
@pytest.mark.parametrize("n_devices", [1, 2])
def test_any_network_is_drawn_by_the_same_code(grids, n_known, n_devices):
    networks = [Bigrams() for _ in range(n_devices)]
    sampler = igpt.Sampler(networks)
    known = np.broadcast_to(np.arange(HEIGHT * WIDTH) < n_known, grids.shape)
    expected = naive(networks[0], grids, known, draw_uniforms(image_keys(3, 7), HEIGHT * WIDTH))
    np.testing.assert_array_equal(sampler.complete(grids, known, seed=3, batch_size=4), expected)
    shown = list(sampler.stream(grids, known, seed=3))
    assert [rows for rows, _ in shown] == list(range(n_known // WIDTH, HEIGHT + 1))
    np.testing.assert_array_equal(shown[-1][1], expected)
    if not n_known:
        np.testing.assert_array_equal(sampler.sample(7, seed=3), expected)


@pytest.mark.slow
def test_any_network_fills_holes_and_compares_candidates(grids):
    network = Bigrams()
    sampler = igpt.Sampler([network])
    known = np.arange(HEIGHT * WIDTH) % WIDTH > 2
    first = sampler.complete(grids, known, n_particles=8)
    np.testing.assert_array_equal(first[:, known], grids[:, known])
    *_, (rows, streamed) = sampler.stream(grids, known, n_particles=8)
    assert rows == HEIGHT
    np.testing.assert_array_equal(streamed, first)
    best = sampler.complete(grids, known, n_particles=8, best_of=4)
    assert network.score(best, None, 1).sum() < network.score(first, None, 1).sum()
    with pytest.raises(igpt.UserError, match=r"expected tokens of shape \(images, 24\), as .* are 6 x 4 pixels"):
        sampler.complete(grids[:, :20], known[:20])


def test_another_strategy_chooses_other_tokens(grids):
    def never_the_likeliest(logits, uniforms, temperature):
        return ops.cast(ops.argmin(logits, axis=-1), "int32")

    network = Bigrams()
    known = np.arange(HEIGHT * WIDTH) < 23
    found = igpt.Sampler([network], never_the_likeliest).complete(grids, known)
    np.testing.assert_array_equal(found[:, 23], network.logits(grids[:, :23].sum(axis=1), 23).argmin(axis=-1))


def test_weights_are_laid_out_once_and_again_when_they_change(grids):
    network = Bigrams()
    sampler = igpt.Sampler([network])
    known = np.arange(HEIGHT * WIDTH) < 6
    before = sampler.complete(grids, known, batch_size=2)
    sampler.complete(grids, known)
    assert network.n_laid_out == 1
    network.table[7, 9, 2] += 1
    sampler.complete(grids, known)
    assert network.n_laid_out == 2
    network.table[:] = Bigrams(seed=2).table
    assert (sampler.complete(grids, known) != before).any() and network.n_laid_out == 3
    sampler.release()
    sampler.complete(grids, known)
    assert network.n_laid_out == 4


def new_model(tiny_model):
    model = ImageGPT(TINY)
    model.set_weights(tiny_model.get_weights())
    return model


def changes():
    """Ways in which weights change, by name."""

    def fit(model, folder):
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        tokens = np.ones((2, TINY.n_tokens), "int32")
        model.fit(tokens, tokens, batch_size=2, verbose=0)

    def fit_compiled(model, folder):
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=True)
        tokens = np.ones((2, TINY.n_tokens), "int32")
        model.fit(tokens, tokens, batch_size=2, verbose=0)

    def load(model, folder):
        randomise(ImageGPT(TINY), seed=3).save_weights(folder / "other.weights.h5")
        model.load_weights(folder / "other.weights.h5")

    def assign(model, folder):
        values = np.array(model.wpe)
        values[17, 3] = np.nextafter(values[17, 3], np.float32(9))
        model.wpe.assign(values)

    def add(model, folder):
        model.wpe.assign_add(np.full(model.wpe.shape, 1e-3))

    def swap(model, folder):
        values = np.array(model.wte)
        model.wte.assign(values[[1, 0, *range(2, TINY.n_vocab)]])

    def adapt(model, folder):
        model.blocks[0].attn.q_proj.enable_lora(2)

    def quantise(model, folder):
        model.blocks[1].mlp.c_fc.quantize("int8")

    return [fit, fit_compiled, add, load, assign, swap, adapt, quantise]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
@pytest.mark.slow
def test_every_change_of_the_weights_is_noticed(tiny_model, change, tmp_path):
    model = new_model(tiny_model)
    network = ImageGPTNetwork(model)
    before = network.version()
    assert network.version() == before
    kept = [np.array(value) for value in before.values]
    change(model, tmp_path)
    after = network.version()
    assert after != before and network.version() == after
    if change.__name__ not in ("fit", "fit_compiled"):  # which may free them
        for value, expected in zip(before.values, kept, strict=True):
            np.testing.assert_array_equal(np.asarray(value), expected)


def test_a_sampler_draws_with_the_weights_as_they_are(tiny_model, monkeypatch, by_both):
    model = new_model(tiny_model)
    sampler = igpt.Sampler(model)
    before = sampler.sample(2)
    np.testing.assert_array_equal(before, igpt.sample(tiny_model, 2))
    (network,) = sampler._networks
    lay_out = network.lay_out
    laid_out = []
    monkeypatch.setattr(network, "lay_out", lambda: laid_out.append(1) or lay_out())
    np.testing.assert_array_equal(sampler.sample(2), before)
    assert not laid_out
    randomise(model, seed=4)
    found = sampler.sample(2)
    assert laid_out == [1] and (found != before).any()
    np.testing.assert_array_equal(found, igpt.Sampler(model).sample(2))
    # The same sampler also draws with adapters, which are new variables.
    for block in model.blocks:
        block.attn.q_proj.enable_lora(2)
    randomise(model, seed=5)
    np.testing.assert_array_equal(sampler.sample(2), igpt.Sampler(model).sample(2))


def test_networks_are_those_of_the_model_in_a_classifier(tiny_model):
    (network,) = networks_of(igpt.ImageGPTClassifier(tiny_model, 3))
    assert network.config == TINY and network.grid == (8, 8) and network.n_vocab == TINY.n_vocab
    np.testing.assert_array_equal(network.lay_out().wte, np.asarray(tiny_model.wte))


def test_a_model_with_one_quantised_layer_is_drawn_by_keras(tiny_model):
    model = new_model(tiny_model)
    assert not model.is_quantised
    model.blocks[1].mlp.c_fc.quantize("int8")
    assert model.is_quantised and isinstance(networks_of(model)[0], ImageGPTNetwork)


def test_smc_streams_its_likeliest_particle(tiny_model, tokens):
    known = np.ones(TINY.n_tokens, bool)
    known[20:44] = False
    how = {"seed": 2, "n_particles": 4}
    shown = list(igpt.stream(tiny_model, tokens, known, **how))
    assert [rows for rows, _ in shown[:-1]] == [2] * (len(shown) - 1) and shown[-1][0] == TINY.n_px
    assert len(shown) > 2
    for _, partial in shown:
        np.testing.assert_array_equal(partial[:, known], tokens[:, known])
    np.testing.assert_array_equal(shown[-1][1], igpt.complete(tiny_model, tokens, known, batch_size=20, **how))


@pytest.mark.slow
def test_a_stream_of_both_methods_ends_with_the_images_of_complete(tiny_model, tokens):
    hole = np.ones(TINY.n_tokens, bool)
    hole[20:44] = False
    known = np.where(np.arange(5)[:, None] % 2, hole, np.arange(TINY.n_tokens) < 32)
    shown = list(igpt.stream(tiny_model, tokens, known, seed=2, n_particles=4))
    rows = [rows for rows, _ in shown]
    assert rows == sorted(rows) and rows[0] == 2 and rows[-1] == TINY.n_px and rows.count(TINY.n_px) == 1
    expected = igpt.complete(tiny_model, tokens, known, seed=2, n_particles=4)
    np.testing.assert_array_equal(shown[-1][1], expected)


def test_controls_are_those_of_the_public_functions(tiny_model):
    expected = igpt.sample(tiny_model, 2, temperature=0.7, top_k=4)
    np.testing.assert_array_equal(igpt.Sampler(tiny_model).sample(2, Controls(0.7, 4)), expected)
