"""The front door: what may be named, what comes back from a folder as it was saved, and what is refused in one line."""

import errno
import json
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from checkpoint_files import in_scope, random_weights, training_state, write_checkpoint
from safetensors.numpy import load_file, save_file

from examples import TINY, randomise
from examples import one_line_error as refused
from igpt_tf.cli.opening import check_shape
from igpt_tf.config import ImageGPTConfig
from igpt_tf.model import ImageGPT, ImageGPTClassifier
from igpt_tf.model.initializers import placeholder_weights
from igpt_tf.pictures.palette import Palette
from igpt_tf.storage import places
from igpt_tf.weights.names import HEAD, named_arrays, named_variables, shape_table
from igpt_tf.weights.presets import load_palette, open_preset

load_model, load_classifier = ImageGPT.from_preset, ImageGPTClassifier.from_preset

both_backends = pytest.mark.both_backends
BERT = ImageGPTConfig(n_px=4, n_vocab=11, n_embd=8, n_head=2, n_layer=1, bert=True)
COLORS = np.random.default_rng(3).uniform(-1, 1, (11, 3)).astype("float32")


@pytest.fixture
def folder(tmp_path, tiny_model):
    """A preset of `tiny_model`, to be damaged."""
    tiny_model.save_to_preset(tmp_path / "preset", Palette(COLORS))
    return tmp_path / "preset"


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A working folder of our own, whose `checkpoints` is the only one where names are looked up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "_PACKAGE", tmp_path / "package" / "igpt_tf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("IGPT_HOME", raising=False)
    return tmp_path


def array(values):
    return keras.ops.convert_to_numpy(values)


def assert_same_weights(found, expected):
    found, expected = named_variables(found), named_variables(expected)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(array(found[name]), array(expected[name]), err_msg=name)


def rewrite_config(folder, **fields):
    """Change fields of a preset's config.json; None takes one out."""
    path = folder / "config.json"
    old = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in (old | fields).items() if value is not None}))


def rewrite_weights(folder, change):
    arrays = load_file(folder / "model.safetensors")
    change(arrays)
    save_file(arrays, folder / "model.safetensors")


# There and back


@both_backends
@pytest.mark.parametrize("config", [TINY, BERT])
@pytest.mark.parametrize("palette", [None, Palette(COLORS)])
def test_a_model_comes_back(tmp_path, config, palette):
    model = randomise(ImageGPT(config))
    model.save_to_preset(tmp_path / "new" / "preset", palette=palette)
    files = {"config.json", "model.safetensors"} | ({"palette.npy"} if palette else set())
    assert {path.name for path in (tmp_path / "new" / "preset").iterdir()} == files
    loaded = ImageGPT.from_preset(tmp_path / "new" / "preset")
    assert loaded.config == config
    assert_same_weights(loaded, model)
    assert open_preset(tmp_path / "new" / "preset").n_class is None
    if palette:
        np.testing.assert_array_equal(load_palette(tmp_path / "new" / "preset").colors, COLORS)
    else:
        refused(load_palette, tmp_path / "new" / "preset", match=r"expected a palette of 11 colours .*palette\.npy")


def test_a_model_computes_the_same_after_a_round_trip(tmp_path, tiny_model, tokens, folder):
    expected = array(tiny_model(tokens))
    np.testing.assert_array_equal(array(ImageGPT.from_preset(folder)(tokens)), expected)
    np.testing.assert_array_equal(array(ImageGPT.from_preset(str(folder))(tokens)), expected)


@both_backends
@pytest.mark.parametrize("config", [TINY, BERT])
def test_a_classifier_comes_back(tmp_path, config):
    classifier = randomise(ImageGPTClassifier(ImageGPT(config), 3))
    classifier.save_to_preset(tmp_path)
    assert open_preset(tmp_path).n_class == 3
    loaded = ImageGPTClassifier.from_preset(tmp_path)
    assert_same_weights(loaded.image_gpt, classifier.image_gpt)
    np.testing.assert_array_equal(array(loaded.clf.wclf), array(classifier.clf.wclf))
    tokens = np.random.default_rng(0).integers(0, 11, (4, config.n_tokens))
    np.testing.assert_array_equal(array(loaded(tokens)), array(classifier(tokens)))
    # Without its head; with another one.
    assert_same_weights(ImageGPT.from_preset(tmp_path), classifier.image_gpt)
    other = ImageGPTClassifier.from_preset(tmp_path, n_class=5, generative_weight=0.0)
    assert_same_weights(other.image_gpt, classifier.image_gpt)
    assert not array(other.clf.wclf).any()
    assert other.generative_weight == 0


def test_a_model_without_a_head_becomes_a_classifier(folder, tiny_model):
    refused(
        ImageGPTClassifier.from_preset, folder, match="no trained classification head: give n_class to begin a new one"
    )
    classifier = ImageGPTClassifier.from_preset(folder, n_class=4)
    assert_same_weights(classifier.image_gpt, tiny_model)
    assert array(classifier.clf.wclf).shape == (4, TINY.n_embd)


def test_saving_over_a_preset_replaces_all_of_it(folder):
    classifier = randomise(ImageGPTClassifier(ImageGPT(BERT), 3), seed=5)
    classifier.save_to_preset(folder)
    assert_same_weights(ImageGPT.from_preset(folder), classifier.image_gpt)
    refused(load_palette, folder, match="expected a palette of 11 colours")
    model = randomise(ImageGPT(TINY), seed=6)
    model.save_to_preset(folder)
    assert open_preset(folder).n_class is None
    assert_same_weights(ImageGPT.from_preset(folder), model)


@both_backends
def test_what_was_loaded_may_be_saved_over(folder, tiny_model):
    loaded = ImageGPT.from_preset(folder)
    loaded.save_to_preset(folder)
    assert_same_weights(ImageGPT.from_preset(folder), tiny_model)
    assert_same_weights(loaded, tiny_model)


def test_openai_format_to_preset(tmp_path):
    weights = random_weights(TINY, n_class=10)
    prefix = write_checkpoint(tmp_path / "model.ckpt-1000000", training_state(weights), 4)
    ImageGPTClassifier.from_preset(prefix).save_to_preset(tmp_path / "preset")
    found = load_file(tmp_path / "preset" / "model.safetensors")
    assert found.keys() == weights.keys()
    for name in weights:
        np.testing.assert_array_equal(found[name], weights[name], err_msg=name)


def test_the_table_of_shapes_is_that_of_the_model():
    for config in (TINY, BERT):
        shapes = {name: tuple(variable.shape) for name, variable in named_variables(ImageGPT(config)).items()}
        assert shapes == shape_table(config)
        assert len(shapes) == len(ImageGPT(config).variables)


@both_backends
def test_names_do_not_depend_on_the_models_name(folder, tiny_model):
    for name in ("h0", "wpe", "attn", "image_gpt_3"):
        assert_same_weights(ImageGPT.from_preset(folder, name=name), tiny_model)


@both_backends
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_presets_hold_float32_whatever_the_policy(tmp_path, folder, policy):
    model = ImageGPT.from_preset(folder, dtype=policy)
    model.save_to_preset(tmp_path / "again")
    assert {found.dtype for found in load_file(tmp_path / "again" / "model.safetensors").values()} == {
        np.dtype("float32")
    }
    assert_same_weights(ImageGPT.from_preset(tmp_path / "again", dtype=policy), model)


@both_backends
def test_a_preset_of_half_the_bytes(tmp_path, folder, tiny_model):
    tiny_model.save_to_preset(tmp_path / "half", dtype="float16")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {array.dtype for array in stored.values()} == {np.dtype("float16")}
    again = ImageGPT.from_preset(tmp_path / "half")
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in again.weights} == {"float32"}
    for name, array in named_arrays(tiny_model).items():
        np.testing.assert_array_equal(named_arrays(again)[name], array.astype("float16").astype("float32"))


def test_weights_that_float16_cannot_hold(tmp_path):
    model = ImageGPT(TINY)
    model.weights[0].assign(model.weights[0] * 0 + 1e5)
    refused(model.save_to_preset, tmp_path / "half", None, "float16", match="up to 65504, .* got 100000 in ")
    with pytest.raises(ValueError, match=r"expected float32 or float16 .* got 'int8'"):
        model.save_to_preset(tmp_path / "half", dtype="int8")
    assert not (tmp_path / "half").exists()


def test_from_two_devices(tmp_path, folder, two_devices, tiny_model):
    with two_devices.scope():
        model = ImageGPT.from_preset(folder)
    assert_same_weights(model, tiny_model)
    model.save_to_preset(tmp_path / "again")
    assert_same_weights(ImageGPT.from_preset(tmp_path / "again"), tiny_model)


@both_backends
def test_split_over_two_devices_of_jax(folder, tiny_model, monkeypatch):
    if keras.backend.backend() != "jax":
        pytest.skip("keras.distribution.ModelParallel is JAX's")
    from keras.src.backend.jax import core

    # Keras does to tiny weights what it does to large ones: it creates them where they belong.
    monkeypatch.setattr(core, "should_shard_at_init", lambda layout, shape: True)
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"], keras.distribution.list_devices("cpu")[:2])
    layout = keras.distribution.LayoutMap(mesh)
    layout["h.*/mlp/c_fc/kernel"] = (None, "model")
    with keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch").scope():
        model = ImageGPT.from_preset(folder)
        assert len(model.blocks[0].mlp.c_fc.kernel.value.sharding.device_set) == 2
    assert_same_weights(model, tiny_model)


@both_backends
def test_only_an_assigned_weight_changes(folder):
    model = ImageGPT.from_preset(folder)
    before = {name: array(variable).copy() for name, variable in named_variables(model).items()}
    model.compile(keras.optimizers.SGD(0.1), "mse")
    changed = model.blocks[0].attn.q_proj.kernel
    changed.assign_add(keras.ops.ones(changed.shape))
    for name, variable in named_variables(model).items():
        expected = before[name] + (name == "h0/attn/q_proj")
        np.testing.assert_array_equal(array(variable), expected, err_msg=name)


@both_backends
def test_weights_are_drawn_unless_they_are_loaded():
    with placeholder_weights():
        placeholder = ImageGPT(TINY)
    for model, drawn in ((placeholder, False), (ImageGPT(TINY), True)):
        assert bool(array(model.wpe).any()) == drawn
        kernels = [array(block.attn.q_proj.kernel) for block in model.blocks]
        assert np.array_equal(*kernels) != drawn


# LoRA, quantisation, Keras' own files


@both_backends
def test_lora_is_merged_when_saved(tmp_path, folder, tokens, tiny_model):
    model = ImageGPT.from_preset(folder)
    layers = [model.blocks[0].attn.q_proj, model.blocks[1].attn.c_proj, model.blocks[1].mlp.c_fc]
    for layer in layers:
        layer.enable_lora(2)
    assert_same_weights(model, tiny_model)
    np.testing.assert_allclose(array(model(tokens)), array(tiny_model(tokens)), rtol=1e-5, atol=1e-5)
    for layer in layers:
        layer.lora_kernel_b.assign(np.random.default_rng(0).normal(size=layer.lora_kernel_b.shape))
    expected = array(model(tokens))
    assert not np.allclose(expected, array(tiny_model(tokens)))
    model.save_to_preset(tmp_path / "merged")
    np.testing.assert_allclose(array(ImageGPT.from_preset(tmp_path / "merged")(tokens)), expected, rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "merged.keras")
    loaded = keras.models.load_model(tmp_path / "merged.keras")
    np.testing.assert_allclose(array(loaded(tokens)), expected, rtol=1e-4, atol=1e-4)


@both_backends
def test_a_quantised_model_is_not_saved_as_what_it_is_not(tmp_path, folder):
    model = ImageGPT.from_preset(folder)
    model.blocks[0].attn.q_proj.quantize("int8")
    refused(model.save_to_preset, tmp_path / "int8", match="got int8 in h0/attn/q_proj: save the model before")
    assert not (tmp_path / "int8").exists()


@both_backends
@pytest.mark.parametrize("config", [TINY, BERT])
def test_keras_own_format(tmp_path, config):
    tokens = np.random.default_rng(0).integers(0, 11, (4, config.n_tokens))
    model = randomise(ImageGPT(config))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, ImageGPT)
    assert loaded.config == config
    assert_same_weights(loaded, model)
    np.testing.assert_array_equal(array(loaded(tokens)), array(model(tokens)))
    classifier = randomise(ImageGPTClassifier(model, 4, generative_weight=0.5))
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    assert isinstance(loaded, ImageGPTClassifier)
    assert (loaded.n_class, loaded.generative_weight) == (4, 0.5)
    assert_same_weights(loaded.image_gpt, model)
    np.testing.assert_array_equal(array(loaded(tokens)), array(classifier(tokens)))
    # And from there to a preset.
    loaded.save_to_preset(tmp_path / "preset")
    assert_same_weights(ImageGPT.from_preset(tmp_path / "preset"), model)


def test_keras_own_format_keeps_the_dtype_policy(tmp_path, folder):
    ImageGPT.from_preset(folder, dtype="mixed_bfloat16").save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.compute_dtype == "bfloat16"
    assert loaded.blocks[0].attn.q_proj.compute_dtype == "bfloat16"


# Names


def test_bundled_names(at_home, tiny_model):
    tiny_model.save_to_preset(at_home / "package" / "checkpoints" / "tiny-stripes", Palette(COLORS))
    assert_same_weights(ImageGPT.from_preset("tiny-stripes"), tiny_model)
    assert load_palette("tiny-stripes") == Palette(COLORS)
    # What lies in the working folder comes first.
    mine = randomise(ImageGPT(TINY), seed=9)
    mine.save_to_preset(at_home / "checkpoints" / "tiny-stripes")
    assert_same_weights(ImageGPT.from_preset("tiny-stripes"), mine)
    own = randomise(ImageGPT(TINY), seed=10)
    own.save_to_preset("tiny-stripes")
    assert_same_weights(ImageGPT.from_preset("tiny-stripes"), own)


def test_names_are_found_in_the_users_folders_too(at_home, tiny_model, monkeypatch):
    other = randomise(ImageGPT(TINY), seed=9)
    other.save_to_preset(at_home / "cache" / "igpt" / "mine")
    assert_same_weights(ImageGPT.from_preset("mine"), other)
    assert places.download_folder() == at_home / "cache" / "igpt"
    monkeypatch.setenv("IGPT_HOME", str(at_home / "models"))
    tiny_model.save_to_preset(at_home / "models" / "mine")
    assert_same_weights(ImageGPT.from_preset("mine"), tiny_model)
    assert places.download_folder() == at_home / "models"
    refused(load_model, "mien", match=rf"did you mean mine\?.*looked in checkpoints, .*{at_home}/models, .*cache/igpt$")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("igpt-s", "--model s --ckpt 1000000 --clusters"),
        ("igpt-m", "--model m --ckpt 1000000 --clusters"),
        ("igpt-l-bert", "--model l --ckpt 1000000 --bert --clusters"),
    ],
)
def test_official_names(at_home, name, command):
    refused(
        ImageGPT.from_preset,
        name,
        match=f"{name}: expected a downloaded checkpoint, got none, or part of one, in checkpoints, .*cache/igpt: "
        f"fetch it with `igpt download {command}`, or its weights alone with `yes`$",
    )
    (at_home / "checkpoints" / name).mkdir(parents=True)
    (at_home / "checkpoints" / name / ".model.ckpt-1000000.data-00000-of-00032.part").touch()
    refused(load_model, name, match="got none, or part of one")
    weights = random_weights(TINY)
    write_checkpoint(at_home / "checkpoints" / name / "model.ckpt-1000000", training_state(weights), 4)
    np.save(at_home / "checkpoints" / "kmeans_centers.npy", COLORS)
    np.testing.assert_array_equal(array(ImageGPT.from_preset(name).wte), weights["wte"])
    np.testing.assert_array_equal(load_palette(name).colors, COLORS)


def test_two_steps_of_an_official_model(at_home):
    for step in (131000, 1000000):
        prefix = at_home / "checkpoints" / "igpt-s" / f"model.ckpt-{step}"
        prefix.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(prefix, in_scope(random_weights(TINY)))
    refused(load_model, "igpt-s", match=r"got 2 .*name one, as in checkpoints/igpt-s/model\.ckpt-1000000")


@pytest.mark.parametrize("name", ["nonsense", "igpt-xl", "igpt-s-1.5", "igpt_s", "", "nonsense\0"])
def test_a_name_that_does_not_exist(at_home, tiny_model, name):
    tiny_model.save_to_preset(at_home / "checkpoints" / "tiny-stripes")
    (at_home / "nonsense.png").touch()
    refused(
        ImageGPT.from_preset,
        name,
        match="expected .* or one of tiny-stripes, igpt-s, igpt-m, igpt-l .*got no such model",
    )


def test_the_home_folder(folder, tiny_model, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert_same_weights(ImageGPT.from_preset("~/preset"), tiny_model)
    tiny_model.save_to_preset("~/saved")
    assert_same_weights(ImageGPT.from_preset(folder.parent / "saved"), tiny_model)
    refused(load_model, "~nobody-of-this-name/preset", match="expected a folder, got nothing")


@pytest.mark.parametrize("given", [".", "./", "../preset", "config.json", "./model.safetensors", "model.safetensors"])
def test_every_file_of_a_preset_means_it(folder, tiny_model, monkeypatch, given):
    monkeypatch.chdir(folder)
    assert_same_weights(ImageGPT.from_preset(given), tiny_model)


def test_paths_that_the_system_refuses(folder):
    refused(load_model, "a" * 300, match=r"cannot be read \(File name too long")
    refused(load_model, folder / "config.json" / "deeper", match="got no folder")


def test_a_folder_without_permission(folder, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", denied)
    refused(load_model, folder, match=r"preset: .* cannot be read \(Permission denied")


@both_backends
def test_a_preset_needs_no_tensorflow(folder, tiny_model, monkeypatch):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("the backend is TensorFlow")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert_same_weights(ImageGPT.from_preset(folder), tiny_model)


# Damage


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"not json", b"[1, 2]", b"null", b"\xff\xfe\x00", b"[" * 200_000, b'{"n_px": 1e999', b"7" * 5000],
)
def test_a_config_that_is_not_a_json_object(folder, content):
    (folder / "config.json").write_bytes(content)
    refused(load_model, folder, match=r"config\.json: expected a JSON object with the model's shape, got ")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"n_pixels": 8}, r"expected the fields .*, got \['n_pixels'\] too"),
        ({"n_embd": "16"}, "expected n_embd as a positive integer, got '16'"),
        ({"n_layer": 2.0}, "expected n_layer as a positive integer, got 2.0"),
        ({"n_px": -8}, "expected n_px as a positive integer, got -8"),
        ({"n_head": True}, "expected n_head as a positive integer, got True"),
        ({"n_head": 3}, "expected n_head to divide n_embd"),
        ({"bert": 1}, "expected bert as true or false, got 1"),
        ({"n_class": "ten"}, "expected n_class as an integer from 2 on, got 'ten'"),
        ({"n_class": 1}, "expected n_class as an integer from 2 on, got 1"),
        ({"n_class": [10]}, "expected n_class as an integer from 2 on"),
    ],
)
def test_a_config_with_wrong_fields(folder, fields, match):
    rewrite_config(folder, **fields)
    refused(load_model, folder, match=match)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"n_embd": 32}, "expected n_embd 32 as config.json says, got n_embd 16 in model.safetensors"),
        (
            {"n_layer": 1_000_000_000},
            "expected n_layer 1000000000 as config.json says, got n_layer 2 in model.safetensors",
        ),
        (
            {"n_head": 2, "n_px": 9},
            "expected n_px 9, n_head 2 as config.json says, got n_px 8, n_head 4 in model.safetensors",
        ),
        ({"bert": True}, "expected bert true as config.json says, got bert false in model.safetensors"),
        ({"n_class": 10}, "expected n_class 10 as config.json says, got n_class null in model.safetensors"),
        ({"n_vocab": None}, "expected n_vocab 512 as config.json says, got n_vocab 11 in model.safetensors"),
    ],
)
def test_a_config_that_contradicts_the_weights(folder, fields, match):
    rewrite_config(folder, **fields)
    refused(load_model, folder, match=match)


def test_a_config_that_contradicts_the_head(tmp_path, tiny_model):
    ImageGPTClassifier(tiny_model, 3).save_to_preset(tmp_path)
    rewrite_config(tmp_path, n_class=10)
    refused(
        ImageGPTClassifier.from_preset,
        tmp_path,
        match="expected n_class 10 as config.json says, got n_class 3 in model.safetensors",
    )
    rewrite_config(tmp_path, n_class=None)
    refused(
        ImageGPTClassifier.from_preset,
        tmp_path,
        match="expected n_class null as config.json says, got n_class 3 in model.safetensors",
    )
    rewrite_config(tmp_path, n_class=3)
    rewrite_weights(tmp_path, lambda arrays: arrays.update({HEAD: np.ones((3, 5), "float32")}))
    refused(load_classifier, tmp_path, match="missing clf/wclf 3x16; left over clf/wclf 3x5")


@pytest.mark.parametrize("left", [0, 7, 100, -1])
def test_truncated_weights(folder, left):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    refused(
        ImageGPT.from_preset,
        folder,
        match=r"model\.safetensors: expected whole weights, got .* damaged ones .*: copy them again",
    )


@pytest.mark.parametrize(
    "content",
    [b"<html>" * 300, (1 << 62).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]", b"\0" * 64],
)
def test_weights_that_are_none(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    refused(load_model, folder, match=r"model\.safetensors: ")


def test_missing_files(folder):
    config = (folder / "config.json").read_text()
    (folder / "config.json").unlink()
    refused(load_model, folder, match=r"config\.json: expected .* got nothing: copy it again")
    refused(load_model, folder / "model.safetensors", match=r"config\.json: expected .* got nothing")
    (folder / "model.safetensors").unlink()
    (folder / "config.json").write_text(config)
    refused(ImageGPT.from_preset, folder, match=r"model\.safetensors: expected the preset's weights, got nothing")
    (folder / "model.safetensors").mkdir()
    refused(load_model, folder, match=r"model\.safetensors: ")


def test_other_weights(folder):
    rewrite_weights(
        folder, lambda arrays: arrays.update({"extra": np.zeros((2, 5), "float32"), "ln_f/g": arrays["wte"]})
    )
    refused(load_model, folder, match="missing ln_f/g 16; left over extra 2x5, ln_f/g 11x16$")
    rewrite_weights(folder, lambda arrays: [arrays.pop(name) for name in list(arrays) if name.startswith("h0")])
    refused(load_model, folder, match=r"model\.safetensors: expected the variables of an Image GPT")
    rewrite_weights(folder, lambda arrays: arrays.update({"wpe": np.zeros((64, 16), "int8")}))
    refused(load_model, folder, match="expected F16, F32, F64 weights, got I8 in wpe")


def test_weights_of_another_float_type(folder, tiny_model):
    rewrite_weights(folder, lambda arrays: arrays.update({name: arrays[name].astype("float64") for name in arrays}))
    assert_same_weights(ImageGPT.from_preset(folder), tiny_model)


def test_a_palette_of_a_wrong_size(tmp_path, folder, tiny_model):
    refused(tiny_model.save_to_preset, tmp_path / "new", Palette(COLORS[:5]), match="a palette of 11 colours, got 5")
    assert not (tmp_path / "new").exists()
    Palette(COLORS[:5]).save(folder / "palette.npy")
    refused(load_palette, folder, match=f"expected a palette of 11 colours beside it, got 5 in {folder}/palette.npy")
    (folder / "palette.npy").write_bytes(b"\x93NUMPY")
    refused(load_palette, folder, match="palette.npy")
    assert_same_weights(ImageGPT.from_preset(folder), tiny_model)


def test_a_folder_of_another_model_of_hugging_face(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    refused(load_model, tmp_path, match='expected model_type "imagegpt", as Image GPT has it, got "gpt2"')


def test_nothing_that_is_read_can_run_code(folder):
    """No pickle is ever opened: a file that would leave a trace if it was loaded leaves none."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (folder / "trace",)

    np.save(folder / "palette.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    refused(load_palette, folder, match="pickled Python objects")
    for name in ("model.safetensors", "config.json"):
        (folder / name).write_bytes((folder / "palette.npy").read_bytes())
        refused(load_model, folder, match=name)
    assert not (folder / "trace").exists()


def test_a_folder_that_cannot_be_written(tmp_path, tiny_model):
    (tmp_path / "file").touch()
    refused(tiny_model.save_to_preset, tmp_path / "file" / "preset", match="cannot write")
    (tmp_path / "preset" / "model.safetensors").mkdir(parents=True)
    refused(tiny_model.save_to_preset, tmp_path / "preset", match="cannot write")
    assert [path.name for path in (tmp_path / "preset").iterdir()] == ["model.safetensors"]


def test_a_failed_save_leaves_the_old_weights(folder, tiny_model, monkeypatch):
    def disk_full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    refused(randomise(ImageGPT(TINY), seed=8).save_to_preset, folder, match="cannot write .*No space left on device")
    assert_same_weights(ImageGPT.from_preset(folder), tiny_model)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "palette.npy"}


# What the user typed


def test_a_shape_that_agrees_is_welcome():
    check_shape(TINY)
    check_shape(TINY, n_embd=16, n_head=4, n_layer=2, n_px=8, n_vocab=11, bert=False)
    check_shape(TINY, n_embd=16, n_head=None, n_layer=None, bert=None)
    check_shape(BERT, bert=True)


@pytest.mark.parametrize(
    ("typed", "match"),
    [
        (
            {"n_embd": 512},
            "^expected n_embd 16, as the checkpoint says, got --n_embd 512: leave out --n_embd, or give another .*$",
        ),
        ({"n_px": 32, "n_head": 4, "n_layer": 24}, "^expected n_px 8, n_layer 2, .* got --n_px 32, --n_layer 24: "),
        ({"n_vocab": 0}, "^expected n_vocab 11, as the checkpoint says, got --n_vocab 0: "),
        ({"bert": True}, "^expected bert false, .* got --bert: leave out --bert"),
    ],
)
def test_a_shape_that_contradicts_is_refused(typed, match):
    refused(check_shape, TINY, **typed, match=match)


def test_others_may_read_a_preset(tmp_path, tiny_model):
    tiny_model.save_to_preset(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "config.json").stat().st_mode
