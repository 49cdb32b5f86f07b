"""The compiled network computes what Keras computes, in any storage, batch and number of threads."""

import dataclasses
import gc
from contextlib import closing

import numpy as np
import pytest

import igpt_tf as igpt
from examples import TINY, randomise
from igpt_tf.config import SIZES, ImageGPTConfig
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.sampling import Controls
from igpt_tf.sampling.keras_network import keras_networks
from igpt_tf.sampling.native.network import NativeNetwork
from igpt_tf.sampling.native.weights import Matrices
from igpt_tf.sampling.workers import ClosedError, run_generators

# Heads that fill no vector, one, several, and one and a half; widths that fill no tile; few pixels and several blocks.
SHAPES = [
    TINY,
    ImageGPTConfig(n_px=12, n_vocab=37, n_embd=48, n_head=2, n_layer=2, n_start=3),
    ImageGPTConfig(n_px=9, n_vocab=16, n_embd=64, n_head=1, n_layer=1),
    ImageGPTConfig(n_px=2, n_vocab=2, n_embd=8, n_head=8, n_layer=1),
    ImageGPTConfig(n_px=2, n_vocab=64, n_embd=192, n_head=2, n_layer=2),
]


def native(model, **how):
    return NativeNetwork(model.config, model.read_weight, model.classes, **how)


def example(config, n_images=5):
    """A model and images of it."""
    model = randomise(ImageGPT(config))
    tokens = np.random.default_rng(1).integers(0, config.n_vocab, (n_images, config.n_tokens)).astype("int32")
    return model, tokens, np.arange(n_images, dtype="int32") % config.n_start


def stepped(network, tokens, start, n_prefix=0):
    """Logits (B, T - P, V) of known images, one position after another behind a prefix of P."""
    weights = network.lay_out()
    past, recent = network.prefill(tokens[:, :n_prefix], start)
    found = []
    for position in range(n_prefix, tokens.shape[1]):
        previous = tokens[:, position - 1] if position else start
        logits, recent = network.step(weights, previous, np.int32(position), past, recent)
        found.append(logits)
    return np.stack(found, axis=1)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_logits_are_those_of_keras(config):
    model, tokens, start = example(config)
    expected = np.asarray(model(model.inputs_of(tokens, start)))
    largest = np.abs(expected).max()
    network = native(model)
    np.testing.assert_allclose(stepped(network, tokens, start), expected, atol=1e-5 * largest)
    for n_prefix in {1, config.n_tokens // 2, config.n_tokens - 1} - {0, config.n_tokens}:
        found = stepped(network, tokens, start, n_prefix)
        np.testing.assert_allclose(found, expected[:, n_prefix:], atol=1e-5 * largest)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_scores_are_those_of_keras(config):
    model, tokens, start = example(config)
    found = native(model).score(tokens, start, batch_size=2)
    (network,) = keras_networks(model)
    np.testing.assert_allclose(found, network.score(tokens, start, 2), atol=1e-4)
    np.testing.assert_array_equal(native(model).score(tokens[3:], start[3:], batch_size=8), found[3:])


@pytest.mark.parametrize("storage, nearness", [("bfloat16", 0.02), ("int8", 0.05)])
@pytest.mark.parametrize("config", SHAPES[:3], ids=str)
def test_other_storages_are_near(config, storage, nearness):
    """Sharp attention amplifies what is rounded; a wrong shift or scale would be off by far more."""
    model, tokens, start = example(config)
    expected = np.asarray(model(model.inputs_of(tokens, start)))
    network = native(model, storage=storage)
    for n_prefix in (0, config.n_tokens // 2):
        found, wanted = stepped(network, tokens, start, n_prefix), expected[:, n_prefix:]
        assert 1e-5 < np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean()) < nearness


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_an_image_is_the_same_bits_in_any_batch_and_on_any_threads(storage):
    model, tokens, start = example(SHAPES[1], n_images=15)
    expected = stepped(native(model, storage=storage, threads=1), tokens, start, 40)
    for n_images in (1, 2, 3, 7, 8, 12):
        network = native(model, storage=storage, threads=1 + n_images % 4)
        found = stepped(network, tokens[:n_images], start[:n_images], 40)
        np.testing.assert_array_equal(found, expected[:n_images])


def test_guidance_and_classes_are_drawn_as_by_keras():
    model, tokens, _ = example(SHAPES[1])
    known = np.arange(144) < 60
    how = {"classes": [0, 1, 0, 1, 1], "seed": 3}
    for controls in (Controls(), Controls(guidance=2.5, temperature=0.8), Controls(top_k=5, top_p=0.9, min_p=0.01)):
        found, expected = (
            igpt.Sampler(networks).complete(tokens, known, controls, **how)
            for networks in ([native(model)], keras_networks(model))
        )
        np.testing.assert_array_equal(found, expected)


def test_a_large_model_is_not_held_twice(monkeypatch):
    """Reading one array at a time: of S, in bfloat16, the largest has a hundredth of all numbers."""
    import tracemalloc

    config = dataclasses.replace(SIZES["s"], n_layer=8)
    arrays = {name: np.float32(0.1) for name in ("wte", "wpe", "sos")}

    def read(name):
        from igpt_tf.weights.names import shape_table

        return np.broadcast_to(arrays.get(name, np.float32(0.01)), shape_table(config)[name])

    tracemalloc.start()
    network = NativeNetwork(config, read, storage="bfloat16")
    weights = network.lay_out()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = sum(array.nbytes for array in weights)
    # Beside them the matrices of a block, as they are read, transposed and rounded.
    assert peak < held + 60e6


def test_closing_a_drawing_ends_its_long_prefix(tiny_model):
    network, tokens = native(tiny_model), np.zeros((2, TINY.n_tokens), "int32")
    ended = []

    def work(device, job):
        yield job
        try:
            while True:
                network.score(tokens, None, 2)
        except ClosedError:
            ended.append(job)

    with closing(run_generators([1], 1, work)) as steps:
        assert next(steps) == 1
    assert ended == [1]


def test_released_weights_are_freed(tiny_model):
    network = native(tiny_model)
    sampler = igpt.Sampler([network])
    before = sampler.sample(2)
    assert sum(isinstance(one, Matrices) for one in gc.get_objects()) == 1
    sampler.release()
    assert not any(isinstance(one, Matrices) for one in gc.get_objects())
    np.testing.assert_array_equal(sampler.sample(2), before)


def test_wrong_use_is_refused(bert_model, tiny_model):
    with pytest.raises(igpt.UserError, match="got a BERT model, which cannot draw"):
        native(bert_model)
    with pytest.raises(igpt.UserError, match="expected `storage` as one of float32, bfloat16, int8, got 'float16'"):
        native(tiny_model, storage="float16")
    with pytest.raises(igpt.UserError, match="tokens from 0 to 10"):
        native(tiny_model).score(np.full((1, 64), 11), None, 1)
