"""The models as Keras' own guides use them: functional models, other precisions, summaries, exports."""

import importlib.util
import re
import warnings

import keras
import numpy as np
import pytest

import igpt_tf as igpt
from examples import TINY, one_line_error, randomise
from igpt_tf.backend import on_tensorflow
from igpt_tf.errors import UserError
from igpt_tf.model import ImageGPT, ImageGPTClassifier
from igpt_tf.training.finetune import add_adapters

pytestmark = pytest.mark.both_backends
FIELDS = {"n_px": 8, "n_vocab": 11, "n_embd": 16, "n_head": 4, "n_layer": 2}


def test_the_fields_of_a_config_are_arguments():
    assert igpt.ImageGPT(**FIELDS).config == TINY
    assert igpt.ImageGPT(TINY, n_layer=1, dtype="float32", name="small").config.n_layer == 1
    one_line_error(igpt.ImageGPT, match="expected n_head to divide n_embd", **{**FIELDS, "n_head": 3})


def test_call_takes_training(tiny_model, tokens):
    np.testing.assert_array_equal(tiny_model.call(tokens, training=True), tiny_model.call(tokens))


@pytest.mark.parametrize("with_head", [False, True])
def test_a_functional_model_of_any_length(tiny_model, tokens, with_head):
    inner = randomise(ImageGPTClassifier(tiny_model, 3)) if with_head else tiny_model
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, inner(inputs))
    assert model.output_shape == ((None, 3) if with_head else (None, None, TINY.n_vocab))
    for length in (TINY.n_tokens, 10):
        part = tokens[:, :length]
        np.testing.assert_allclose(model.predict(part, verbose=0), inner(part), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"expected tokens of shape \(B, 64\)"):
        inner(keras.Input((65,), dtype="int32"))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "mixed_float16"])
def test_float16_does_not_overflow(tiny_model, tokens, dtype):
    half = ImageGPT(TINY, dtype=dtype)
    half.set_weights(tiny_model.get_weights())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits = np.array(half(tokens))
        # Compiling the drawing takes most of the time.
        assert dtype == "mixed_float16" or igpt.sample(half, n=1).shape == (1, TINY.n_tokens)
    assert np.abs(logits - np.array(tiny_model(tokens))).max() < 0.02 * np.abs(logits).max()


def test_adapters_and_int8_exclude_each_other():
    classifier = ImageGPTClassifier(ImageGPT(TINY), 3)
    classifier.quantize("int8")
    one_line_error(add_adapters, classifier, 2, match="expected float weights for LoRA, got quantised ones")
    classifier = ImageGPTClassifier(ImageGPT(TINY), 3)
    add_adapters(classifier, 2)
    one_line_error(classifier.quantize, "int8", match="expected weights without LoRA to quantise, got adapters")


@pytest.mark.parametrize("fields", [{}, {"bert": True}, {"n_start": 3}])
def test_the_rows_of_the_summary_add_up(monkeypatch, fields):
    monkeypatch.setenv("COLUMNS", "120")
    model = ImageGPT(**FIELDS, **fields)
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    rows = [int(found.replace(",", "")) for found in re.findall(r"([\d,]+) [│|]\s*$", text, re.MULTILINE)]
    assert len(rows) == 2 + 1 + (3 if fields.get("bert") else 4)
    assert sum(rows) == model.count_params() and f"{sum(rows):,}" in text
    assert len(model.layers) == 3


@pytest.mark.parametrize("with_head", [False, True])
def test_an_export_computes_the_same(tmp_path, tiny_model, tokens, with_head):
    if not on_tensorflow():
        pytest.skip("the export of JAX needs TensorFlow, and warns of its own accord")
    import tensorflow as tf

    model = randomise(ImageGPTClassifier(tiny_model, 3)) if with_head else tiny_model
    model.export(tmp_path, verbose=False)
    exported = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(exported.serve(tokens), model(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("tf2onnx") is None, reason="onnx, tf2onnx or onnxruntime is NOT installed")
@pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")
@pytest.mark.parametrize("fields", [{}, {"bert": True}], ids=str)
def test_onnx_computes_the_same(tmp_path, tokens, fields):
    if not on_tensorflow():
        pytest.skip("Keras needs TensorFlow for it")
    import onnxruntime

    model = randomise(ImageGPT(TINY, **fields))
    mask = (np.arange(tokens.size).reshape(tokens.shape) % 3 > 0).astype("float32")
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    given = {one.name: mask if "mask" in one.name else tokens for one in session.get_inputs()}
    expected = model({"tokens": tokens, "mask": mask} if model.config.bert else tokens)
    np.testing.assert_allclose(session.run(None, given)[0], expected, rtol=1e-4, atol=1e-5)


def adapt(model):
    projection = model.image_gpt.blocks[0].attn.q_proj
    projection.enable_lora(2)
    projection.lora_kernel_b.assign(np.full(projection.lora_kernel_b.shape, 0.1))


def quantise(model):
    model.quantize("int8")
    assert [variable.dtype for variable in model.variables].count("int8") == 6


@pytest.mark.parametrize("change", [lambda model: None, quantise, adapt], ids=["float", "int8", "lora"])
def test_keras_own_file_computes_the_same(tmp_path, tokens, change):
    model = randomise(ImageGPTClassifier(ImageGPT(TINY, n_layer=1), 3))
    before = np.array(model(tokens))
    change(model)
    if change is quantise:
        np.testing.assert_allclose(model(tokens), before, atol=0.1 * np.abs(before).max())
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(tokens), model(tokens))
