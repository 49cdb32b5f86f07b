"""Checkpoints in OpenAI's format: whatever the shards and the path, all of it is read; damage gets one line."""

import dataclasses
import re
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from checkpoint_files import in_scope, random_weights, training_state, write_checkpoint

from examples import TINY, one_line_error
from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import Notice, UserError
from igpt_tf.model import ImageGPT, ImageGPTClassifier
from igpt_tf.weights.names import HEAD, named_variables
from igpt_tf.weights.openai import OpenAICheckpoint
from igpt_tf.weights.presets import load_palette, open_preset

both_backends = pytest.mark.both_backends
NAME = "model.ckpt-1000000"
WEIGHTS = random_weights(TINY)
GOLDEN = Path(__file__).parents[1] / "goldens" / "ar"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The prefix of a checkpoint as OpenAI's are; for tests that leave it as it is."""
    return write_checkpoint(tmp_path_factory.mktemp("openai") / NAME, training_state(WEIGHTS), 4)


@pytest.fixture
def prefix(tmp_path):
    """The prefix of a checkpoint of weights alone, in 3 shards; to be damaged."""
    return write_checkpoint(tmp_path / NAME, in_scope(WEIGHTS), 3)


def refused(path, match):
    """Loading from `path` is a mistake, explained in one line that names something of it."""
    one_line_error(ImageGPT.from_preset, path, match=match)


def assert_holds(model, weights):
    variables = named_variables(model)
    assert variables.keys() == weights.keys()
    for name, variable in variables.items():
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), weights[name], err_msg=name)


def file_of(prefix, ending):
    return prefix.with_name(prefix.name + ending)


# Reading


@pytest.mark.parametrize("n_shards", [1, 4, 32])
@pytest.mark.parametrize("slots", [("Adam", "Adam_1"), ("adam_m", "adam_v"), ()])
@pytest.mark.slow
def test_every_weight_arrives_and_nothing_of_the_training(tmp_path, n_shards, slots):
    # Enough variables for all the shards.
    config = dataclasses.replace(TINY, n_layer=4)
    weights = random_weights(config)
    prefix = write_checkpoint(tmp_path / NAME, training_state(weights, slots), n_shards)
    assert len(list(tmp_path.glob("*.data-*"))) == n_shards
    assert OpenAICheckpoint(prefix).shapes == {name: array.shape for name, array in weights.items()}
    model = ImageGPT.from_preset(prefix)
    assert model.config == config
    assert_holds(model, weights)


@both_backends
def test_the_first_shard_may_be_8_bytes_long(written):
    assert file_of(written, ".data-00000-of-00004").stat().st_size == 8
    assert file_of(GOLDEN / NAME, ".data-00000-of-00004").stat().st_size == 8
    assert_holds(ImageGPT.from_preset(written), WEIGHTS)


@both_backends
def test_a_checkpoint_without_training_state(prefix):
    assert_holds(ImageGPT.from_preset(prefix), WEIGHTS)


@both_backends
@pytest.mark.parametrize(
    "config",
    [
        ImageGPTConfig(n_px=4, n_vocab=7, n_embd=12, n_head=3, n_layer=1),
        ImageGPTConfig(n_px=3, n_vocab=16, n_embd=8, n_head=1, n_layer=11),
        ImageGPTConfig(n_px=5, n_vocab=9, n_embd=8, n_head=8, n_layer=2, bert=True),
    ],
)
def test_the_variables_alone_tell_the_shape(tmp_path, config):
    weights = random_weights(config)
    model = ImageGPT.from_preset(write_checkpoint(tmp_path / NAME, training_state(weights)))
    assert model.config == config
    assert ("sos" in weights) == (not config.bert)
    assert_holds(model, weights)


def test_the_tensorflow_saver_of_the_original_writes_the_same_format(tmp_path):
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {name: tf.compat.v1.Variable(array) for name, array in in_scope(WEIGHTS).items()}
        session.run(tf.compat.v1.global_variables_initializer())
        prefix = tf.compat.v1.train.Saver(variables).save(session, str(tmp_path / "model.ckpt"), global_step=12)
    assert file_of(Path(prefix), ".meta").exists()
    for path in (prefix, f"{prefix}.meta", tmp_path):
        assert_holds(ImageGPT.from_preset(path), WEIGHTS)


def test_another_float_type_is_cast(tmp_path):
    halves = {name: array.astype("float16") for name, array in in_scope(WEIGHTS).items()}
    model = ImageGPT.from_preset(write_checkpoint(tmp_path / NAME, halves))
    assert_holds(model, {name: array.astype("float16").astype("float32") for name, array in WEIGHTS.items()})


@both_backends
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_under_another_dtype_policy(written, policy):
    model = ImageGPT.from_preset(written, dtype=policy)
    for name, variable in named_variables(model).items():
        assert variable.dtype == ("bfloat16" if policy == "bfloat16" else "float32")
        found = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
        np.testing.assert_allclose(found, WEIGHTS[name], rtol=0.01, err_msg=name)


def test_a_model_on_two_devices(written, two_devices):
    with two_devices.scope():
        model = ImageGPT.from_preset(written)
    assert_holds(model, WEIGHTS)


# The head


@both_backends
def test_a_trained_head_gives_a_classifier(tmp_path):
    weights = random_weights(TINY, n_class=10)
    prefix = write_checkpoint(tmp_path / NAME, training_state(weights), 2)
    assert open_preset(prefix).n_class == 10
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(ImageGPTClassifier.from_preset(prefix).clf.wclf), weights[HEAD]
    )
    model = ImageGPT.from_preset(prefix)
    assert_holds(model, {name: array for name, array in weights.items() if name != HEAD})
    new = ImageGPTClassifier.from_preset(prefix, n_class=3)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(new.clf.wclf), np.zeros((3, TINY.n_embd)))


def test_a_head_of_zeros_was_never_trained(tmp_path):
    untrained = {**WEIGHTS, HEAD: np.zeros((10, TINY.n_embd), "float32")}
    prefix = write_checkpoint(tmp_path / NAME, training_state(untrained))
    assert open_preset(prefix).n_class is None
    with pytest.raises(UserError, match="no trained classification head: give n_class"):
        ImageGPTClassifier.from_preset(prefix)
    assert ImageGPTClassifier.from_preset(prefix, n_class=10).n_class == 10


@pytest.mark.parametrize("shape", [(10, 5), (1, TINY.n_embd), (10,), ()])
def test_a_head_that_fits_no_model(tmp_path, shape):
    prefix = write_checkpoint(tmp_path / NAME, in_scope({**WEIGHTS, HEAD: np.ones(shape, "float32")}))
    refused(prefix, f"missing clf/wclf .*left over clf/wclf {'x'.join(map(str, shape)) or 'scalar'}")


# Paths


def test_every_file_of_a_checkpoint_means_it(written):
    endings = ["", ".index", ".data-00000-of-00004", ".data-00003-of-00004"]
    for path in (written.parent, *(file_of(written, ending) for ending in endings)):
        for given in (path, str(path)):
            assert open_preset(given).source == str(written)


@pytest.mark.parametrize("given", [NAME, f"./{NAME}", f"{NAME}.index", ".", "../here"])
def test_relative_paths(prefix, monkeypatch, given):
    here = prefix.parent / "here"
    here.mkdir()
    for file in prefix.parent.glob(f"{NAME}*"):
        file.rename(here / file.name)
    monkeypatch.chdir(here)
    assert_holds(ImageGPT.from_preset(given), WEIGHTS)


def test_a_prefix_without_dots_in_the_working_folder(prefix, monkeypatch):
    for file in prefix.parent.glob(f"{NAME}*"):
        file.rename(file.with_name(file.name.replace(NAME, "mine")))
    monkeypatch.chdir(prefix.parent)
    assert_holds(ImageGPT.from_preset("mine"), WEIGHTS)


def test_the_home_folder(prefix, monkeypatch):
    monkeypatch.setenv("HOME", str(prefix.parent))
    assert_holds(ImageGPT.from_preset(f"~/{NAME}"), WEIGHTS)


def test_names_that_look_like_patterns(tmp_path):
    folder = tmp_path / "a folder?"
    folder.mkdir()
    assert_holds(ImageGPT.from_preset(write_checkpoint(folder / "m*.ckpt-1", in_scope(WEIGHTS), 2)), WEIGHTS)
    folder = folder.rename(tmp_path / "[2020]")
    refused(folder, r"without \[, which TensorFlow takes for a pattern: rename")


def test_hidden_files_are_no_checkpoints(prefix):
    shutil.copy(file_of(prefix, ".index"), prefix.with_name(f"._{NAME}.index"))
    assert_holds(ImageGPT.from_preset(prefix.parent), WEIGHTS)


def test_a_folder_without_a_checkpoint(tmp_path):
    refused(tmp_path, r"expected a folder with one checkpoint \(\*\.index\), got none")


def test_a_folder_with_two_checkpoints(tmp_path):
    for step in (131000, 1000000):
        write_checkpoint(tmp_path / f"model.ckpt-{step}", in_scope(WEIGHTS))
    refused(tmp_path, f"got 2 .*model.ckpt-1000000, model.ckpt-131000.*name one, as in {tmp_path}/model.ckpt-1000000")
    assert_holds(ImageGPT.from_preset(tmp_path / "model.ckpt-131000"), WEIGHTS)


@pytest.mark.parametrize("saved_in", ["", "/gone/", "sub/"])
def test_the_state_file_of_a_folder_chooses(tmp_path, saved_in):
    newer = random_weights(TINY, seed=1)
    for step, weights in ((9, newer), (131000, WEIGHTS)):
        write_checkpoint(tmp_path / f"model.ckpt-{step}", in_scope(weights))
    paths = [f'all_model_checkpoint_paths: "{saved_in}model.ckpt-{step}"' for step in (131000, 9)]
    lines = [f'model_checkpoint_path: "{saved_in}model.ckpt-9"', *paths]
    (tmp_path / "checkpoint").write_text("\n".join(lines) + "\n")
    assert_holds(ImageGPT.from_preset(tmp_path), newer)
    # One that is gone chooses nothing.
    (tmp_path / "checkpoint").write_text(lines[0].replace("-9", "-10"))
    refused(tmp_path, "got 2 .*name one")


def test_a_prefix_that_is_not_there(prefix):
    refused(prefix.with_name("model.ckpt-131000"), f"got none of this name: {prefix.parent} holds {NAME}")
    refused(prefix.parent / "typo" / NAME, f"got no folder {prefix.parent}/typo")
    (prefix.parent / "empty").mkdir()
    refused(prefix.parent / "empty" / NAME, "empty holds none")


def test_a_file_of_another_kind(prefix):
    other = prefix.with_name("kmeans_centers.npy")
    np.save(other, np.zeros((11, 3), "float32"))
    refused(other, r"kmeans_centers\.npy: expected .* got a file of another kind")


# Damage


def test_missing_shards_are_named(prefix):
    file_of(prefix, ".data-00001-of-00003").unlink()
    refused(prefix, r"expected 3 shards, got all but model\.ckpt-1000000\.data-00001-of-00003: download them again")
    file_of(prefix, ".data-00002-of-00003").unlink()
    refused(prefix.parent, "expected 3 shards, got all but .*, ")
    file_of(prefix, ".data-00000-of-00003").unlink()
    refused(prefix, "expected its shards .*, got none")


def test_a_missing_index(prefix):
    file_of(prefix, ".index").unlink()
    refused(prefix, r"\.index: expected the index of 3 shards, got nothing")


def test_shards_left_from_an_older_save(prefix):
    file_of(prefix, ".data-00004-of-00032").write_bytes(b"old")
    file_of(prefix, ".data-00000-of-00001").write_bytes(b"")
    (prefix.parent / f"{NAME}.data-00000-of-00003.part").write_bytes(b"a download that was stopped")
    file_of(prefix, ".data-00000-of-00001").unlink()
    assert_holds(ImageGPT.from_preset(prefix), WEIGHTS)


@pytest.mark.parametrize("left", [0, 1, 0.5, -1])
def test_a_truncated_shard_is_refused_before_anything_is_read(prefix, left):
    shard = file_of(prefix, ".data-00002-of-00003")
    data = shard.read_bytes()
    shard.write_bytes(data[: int(left * len(data)) if isinstance(left, float) else left])
    with pytest.raises(UserError, match=r"expected \d+ bytes in 3 shards, got \d+, so one is truncated") as caught:
        open_preset(prefix)
    assert "\n" not in str(caught.value)


def test_a_truncated_shard_beside_one_that_is_too_long(prefix):
    short, long = (file_of(prefix, f".data-0000{i}-of-00003") for i in (1, 2))
    data = short.read_bytes()
    short.write_bytes(data[: len(data) // 2])
    long.write_bytes(long.read_bytes() + data)
    refused(prefix, "got a damaged one .*: download it again")


@pytest.mark.parametrize("shard", [0, 1, 2])
@pytest.mark.parametrize("position", [0, 0.4, -1])
def test_one_flipped_bit_in_a_shard(prefix, shard, position):
    path = file_of(prefix, f".data-0000{shard}-of-00003")
    data = bytearray(path.read_bytes())
    data[int(position * len(data)) if isinstance(position, float) else position] ^= 4
    path.write_bytes(data)
    refused(prefix, r"variable model/\S+: expected a whole checkpoint, got a damaged one .*: download it again")


def test_a_damaged_index(prefix):
    index = file_of(prefix, ".index")
    data = index.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 1
    pages = [b"<!DOCTYPE html><title>404</title>" * 50, b"\0" * len(data)]
    for damaged in (b"", data[:10], data[: len(data) // 2], data[:-1], bytes(flipped), *pages):
        index.write_bytes(damaged)
        refused(prefix, r"\.index: expected a whole checkpoint, got a damaged one .*: download it again")


@pytest.mark.parametrize("seed", range(5))
def test_an_index_of_noise_never_ends_in_anything_but_a_line(prefix, seed):
    index = file_of(prefix, ".index")
    data = np.frombuffer(index.read_bytes(), "uint8").copy()
    rng = np.random.default_rng(seed)
    data[rng.integers(0, len(data), 8)] = rng.integers(0, 256, 8)
    index.write_bytes(data.tobytes())
    refused(prefix, ".")


def test_a_folder_in_place_of_a_shard(prefix):
    shard = file_of(prefix, ".data-00002-of-00003")
    shard.unlink()
    shard.mkdir()
    refused(prefix, "shard|damaged")


# Other variables than an Image GPT's


def test_missing_and_left_over_variables_are_listed_with_shapes(tmp_path):
    weights = dict(WEIGHTS)
    del weights["h1/mlp/c_fc/w"], weights["ln_f/g"]
    weights["h1/attn/bias"] = np.zeros((3, 4), "float32")
    weights["wte"] = weights["wte"][:-1]
    prefix = write_checkpoint(tmp_path / NAME, training_state(weights))
    refused(
        prefix,
        f"^{re.escape(str(prefix))}: expected the weights of an Image GPT .*n_embd 16.*: "
        "missing h1/mlp/c_fc/w 16x64, ln_f/g 16, wte 11x16; left over h1/attn/bias 3x4, wte 10x16$",
    )


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("model/extra", np.zeros((2, 5), "float32"), "extra 2x5"),
        ("model/h0/attn/extra", np.zeros((2, 5), "float32"), "h0/attn/extra 2x5"),
        ("other/wpe/v", np.zeros((2, 5), "float32"), "other/wpe/v 2x5"),
        ("learning_rate", np.float32(0.1), "learning_rate scalar"),
        ("step", np.int64(3), "step scalar"),
        ("model/step", np.int64(3), "step scalar"),
        ("model/wte/Adafactor_vr", np.zeros(11, "float32"), "wte/Adafactor_vr 11"),
        ("note", np.array("import os"), "note scalar"),
    ],
)
def test_what_no_image_gpt_has_is_left_out_in_one_line(tmp_path, name, value, shown):
    prefix = write_checkpoint(tmp_path / NAME, {**in_scope(WEIGHTS), name: value})
    with pytest.warns(Notice, match=f"^{prefix}: left out variables that the model does not have: {shown}$"):
        assert_holds(ImageGPT.from_preset(prefix), WEIGHTS)


def test_a_missing_weight_is_refused_beside_one_too_many(tmp_path):
    weights = {name: array for name, array in WEIGHTS.items() if name != "ln_f/g"}
    prefix = write_checkpoint(tmp_path / NAME, {**in_scope(weights), "step": np.int64(3)})
    refused(prefix, "missing ln_f/g 16; left over step scalar$")


def test_long_lists_are_cut(tmp_path):
    extra = {f"model/extra_{i:04d}": np.zeros(1, "float32") for i in range(3000)}
    with pytest.warns(Notice, match="and 2992 more$"):
        open_preset(write_checkpoint(tmp_path / NAME, {**in_scope(WEIGHTS), **extra}))


def test_a_lost_block(tmp_path):
    weights = {name: array for name, array in WEIGHTS.items() if not name.startswith("h1/")}
    weights["h900000/ln_1/g"] = WEIGHTS["h1/ln_1/g"]
    refused(write_checkpoint(tmp_path / NAME, in_scope(weights)), "expected blocks h0 to h900000, got none named h1")


@pytest.mark.parametrize(
    ("variables", "match"),
    [
        (
            {"dense/kernel": np.zeros((3, 4), "float32")},
            "expected the variables of an Image GPT .* got dense/kernel 3x4",
        ),
        ({"global_step": np.int64(3)}, "expected the variables of an Image GPT .* got none"),
        (
            {**in_scope(WEIGHTS), "model/wpe": np.zeros((63, 16), "float32")},
            "expected a square number of positions in wpe, got 63",
        ),
        ({**in_scope(WEIGHTS), "model/wpe": np.zeros(64, "float32")}, "got h0/attn/c_proj 4x4x16"),
        (
            {**in_scope(WEIGHTS), "model/h0/attn/q_proj": np.zeros((5, 4, 16), "float32")},
            "expected n_head to divide n_embd",
        ),
        (
            {**in_scope(WEIGHTS), "model/wpe": np.zeros((0, 16), "float32")},
            "expected n_px as a positive integer, got 0",
        ),
        ({**in_scope(WEIGHTS), "model/wte": np.zeros((11, 16), "int32")}, "got int32 in model/wte"),
        ({**in_scope(WEIGHTS), "wpe": WEIGHTS["wpe"]}, "got names both with and without model/"),
    ],
)
def test_not_an_image_gpt(tmp_path, variables, match):
    refused(write_checkpoint(tmp_path / NAME, variables), match)


def test_a_keras_checkpoint_is_another_kind(tmp_path):
    import tensorflow as tf

    tf.train.Checkpoint(weight=tf.Variable(1.0)).write(str(tmp_path / NAME))
    refused(tmp_path / NAME, "expected float weights of an Image GPT|expected the variables of an Image GPT")


# What else it takes


@both_backends
def test_without_tensorflow(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    refused(written, "install tensorflow, or save it as a preset")


def test_without_a_palette(written):
    with pytest.raises(UserError, match=r"expected a palette of 11 colours .* got none .*kmeans_centers\.npy"):
        load_palette(written)


def test_the_palette_beside_the_checkpoint_or_one_folder_up(prefix):
    folder = prefix.parent / "igpt-tiny"
    folder.mkdir()
    for file in prefix.parent.glob(f"{NAME}*"):
        file.rename(folder / file.name)
    colors = np.random.default_rng(0).uniform(-1, 1, (11, 3)).astype("float32")
    np.save(prefix.parent / "kmeans_centers.npy", colors)
    np.testing.assert_array_equal(load_palette(folder).colors, colors)
    np.save(folder / "kmeans_centers.npy", -colors)
    np.testing.assert_array_equal(load_palette(folder / NAME).colors, -colors)
    for wrong in (folder, prefix.parent):
        np.save(wrong / "kmeans_centers.npy", colors[:5])
    with pytest.raises(UserError, match="expected a palette of 11 colours beside it, got 5 in "):
        load_palette(folder)


@both_backends
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel's peak is read as Linux tells it")
@pytest.mark.slow
def test_memory_is_little_more_than_the_model(tmp_path):
    config = ImageGPTConfig(n_px=8, n_vocab=64, n_embd=512, n_head=8, n_layer=6)
    weights = random_weights(config)
    prefix = write_checkpoint(tmp_path / NAME, training_state(weights), 8)
    n_bytes = sum(array.nbytes for array in weights.values())
    del weights
    ImageGPT.from_preset(prefix)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    model = ImageGPT.from_preset(prefix)
    assert model.count_params() * 4 == n_bytes
    assert memory("VmHWM") - before < 1.5 * n_bytes


def memory(field):
    """Bytes of this process: VmRSS now, VmHWM at the peak."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])
