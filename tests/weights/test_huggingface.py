"""Hugging Face's folders: read with the same numbers as `transformers`, written so that it loads them."""

import json
import shutil
import sys

import keras
import numpy as np
import pytest

from examples import TINY, one_line_error, random_image, randomise
from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import Notice
from igpt_tf.model import ImageGPT, ImageGPTClassifier
from igpt_tf.pictures.palette import Palette
from igpt_tf.weights.convert import convert
from igpt_tf.weights.names import HEAD, named_arrays, shape_table
from igpt_tf.weights.presets import load_palette, open_preset

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SOS = TINY.n_vocab
KINDS = {
    "model": transformers.ImageGPTModel,
    "causal": transformers.ImageGPTForCausalImageModeling,
    "classes": transformers.ImageGPTForImageClassification,
}


def save_theirs(folder, kind="causal", **changes):
    """A folder of their model with random weights and zero biases; returns the model."""
    shape = {"n_positions": 64, "vocab_size": 12, "n_embd": 16, "n_head": 4, "n_layer": 2, "num_labels": 3}
    config = transformers.ImageGPTConfig(**{**shape, **changes})
    torch.manual_seed(0)
    model = KINDS[kind](config).eval()
    for name, tensor in model.named_parameters():
        torch.nn.init.normal_(tensor, std=0.0 if name.endswith("bias") else 0.3)
    model.save_pretrained(folder)
    return model


def theirs_of(tokens):
    """What their model reads for ours: theirs does not put the start of a sequence in front."""
    return torch.tensor(np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=SOS), dtype=torch.long)


def assert_close(found, expected):
    """float32 parity: within 1e-4 of the reference's largest magnitude."""
    found, expected = keras.ops.convert_to_numpy(found), expected.detach().numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def rewrite_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def to_torch_file(folder, legacy=False, **more):
    """Replace the safetensors by the file that their first versions wrote, with its buffers."""
    from safetensors.numpy import load_file

    arrays = {**load_file(folder / "model.safetensors"), **more}
    state = {name: torch.tensor(array) for name, array in arrays.items()}
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.uint8)
    state["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    (folder / "model.safetensors").unlink()


def refused(path, match):
    one_line_error(ImageGPT.from_preset, path, match=match)


# Reading


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_head": 1, "n_layer": 3},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False, "reorder_and_upcast_attn": True},
    ],
    ids=["plain", "deeper", "by_layer", "unscaled"],
)
def test_logits_and_hidden_states(tmp_path, tokens, changes):
    theirs = save_theirs(tmp_path, **changes)
    model = ImageGPT.from_preset(tmp_path)
    with torch.no_grad():
        expected = theirs(theirs_of(tokens), output_hidden_states=True)
    assert_close(model(tokens), expected.logits)
    states = model.hidden_states(tokens)
    for found, there in zip([*states[:-1], model.ln_f(states[-1])], expected.hidden_states, strict=True):
        assert_close(found, there)


def test_another_size_of_palette_and_picture(tmp_path):
    theirs = save_theirs(tmp_path, n_positions=16, vocab_size=6, n_embd=12, n_head=2)
    tokens = np.random.default_rng(0).integers(0, 5, (2, 16))
    inputs = torch.tensor(np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=5))
    model = ImageGPT.from_preset(tmp_path)
    assert model.config == ImageGPTConfig(n_px=4, n_vocab=5, n_embd=12, n_head=2, n_layer=2)
    assert_close(model(tokens), theirs(inputs).logits)


def test_a_classifier(tmp_path, tokens):
    names = {0: "cat", 1: "dog", 2: "owl"}
    theirs = save_theirs(tmp_path, "classes", id2label=names, label2id={name: i for i, name in names.items()})
    with pytest.warns(Notice, match=r"without lm_head\.weight, all logits are 0"):
        classifier = ImageGPTClassifier.from_preset(tmp_path)
    assert classifier.classes == ("cat", "dog", "owl")
    assert_close(classifier(tokens), theirs(theirs_of(tokens)).logits)


def test_numbered_classes_have_no_names(tmp_path):
    save_theirs(tmp_path, "classes", num_labels=4)
    with pytest.warns(Notice):
        preset = open_preset(tmp_path)
    assert (preset.n_class, preset.classes) == (4, None)


def test_a_model_without_a_head(tmp_path, tokens):
    theirs = save_theirs(tmp_path, "model")
    with pytest.warns(Notice, match="features alone"):
        model = ImageGPT.from_preset(tmp_path)
    assert_close(model.features(tokens), theirs(theirs_of(tokens)).last_hidden_state)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_file_of_old_versions_with_its_buffers(tmp_path, tokens, legacy):
    theirs = save_theirs(tmp_path)
    to_torch_file(tmp_path, legacy)
    expected = theirs(theirs_of(tokens)).logits
    assert_close(ImageGPT.from_preset(tmp_path)(tokens), expected)
    assert_close(ImageGPT.from_preset(tmp_path / "pytorch_model.bin")(tokens), expected)


def test_weights_in_several_files(tmp_path, tokens):
    theirs = save_theirs(tmp_path)
    theirs.save_pretrained(tmp_path / "split", max_shard_size=8_000)
    assert len(list((tmp_path / "split").glob("*.safetensors"))) > 1
    assert_close(ImageGPT.from_preset(tmp_path / "split")(tokens), theirs(theirs_of(tokens)).logits)


def test_a_torch_file_that_would_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "trace").touch, ()

    save_theirs(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Trap()}, tmp_path / "pytorch_model.bin")
    refused(tmp_path, match=r"pytorch_model\.bin: expected weights of torch, got another or a damaged file")
    assert not (tmp_path / "trace").exists()


def test_a_torch_file_without_torch(tmp_path, monkeypatch):
    save_theirs(tmp_path)
    to_torch_file(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(tmp_path, match="expected torch, whose format it has, got none: pip install torch")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "gpt2"}, 'expected model_type "imagegpt", as Image GPT has it, got "gpt2"'),
        ({"activation_function": "gelu_new"}, 'activation_function "quick_gelu", .* got "gelu_new"'),
        ({"add_cross_attention": True}, "add_cross_attention false, .* got true"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings false, .* got true"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon 1e-05, .* got 1e-06"),
        ({"n_inner": 48}, "n_inner null or 64, .* got 48"),
        ({"n_positions": 60}, "a square number of n_positions, got 60"),
        ({"n_layer": None}, "n_layer as a positive integer, got None"),
        ({"n_layer": 3}, r"transformer\.h\.2\.ln_1\.weight \(16,\) as config.json says, got none"),
        ({"n_layer": 1}, "the weights of an Image GPT alone, got transformer.h.1"),
        ({"vocab_size": 13}, r"lm_head\.weight \(12, 16\)|wte\.weight \(13, 16\) .* got \(12, 16\)"),
    ],
)
def test_what_image_gpt_is_not_is_refused_by_name(tmp_path, changes, match):
    save_theirs(tmp_path)
    rewrite_config(tmp_path, **changes)
    refused(tmp_path, match=match)


def test_biases_other_than_zero(tmp_path):
    theirs = save_theirs(tmp_path)
    torch.nn.init.ones_(theirs.transformer.h[1].mlp.c_fc.bias)
    theirs.save_pretrained(tmp_path)
    refused(tmp_path, match=r"expected biases of zero, .* got others in transformer\.h\.1\.mlp\.c_fc\.bias")


def test_missing_weights(tmp_path):
    save_theirs(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    refused(tmp_path, match=r"expected weights \(model.safetensors or pytorch_model.bin\), got none")


# Palettes


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clusters: ("preprocessor_config.json", {"feature_extractor_type": "X", "clusters": clusters, "size": 8}),
        lambda clusters: ("processor_config.json", {"image_processor": {"clusters": clusters}}),
    ],
    ids=["old", "new"],
)
def test_the_palette_of_a_processor(tmp_path, palette, wrap):
    save_theirs(tmp_path)
    name, fields = wrap(palette.colors.tolist())
    (tmp_path / name).write_text(json.dumps(fields))
    assert load_palette(tmp_path) == palette


def test_a_processor_without_colours_or_with_wrong_ones(tmp_path):
    save_theirs(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text("{}")
    one_line_error(load_palette, tmp_path, match="expected a palette of 11 colours beside it, got none")
    path.write_text('{"clusters": [[1, 2], [3]]}')
    one_line_error(load_palette, tmp_path, match="expected clusters as a list of colours")


def test_their_processor_finds_the_same_tokens(tmp_path, tiny_model, palette):
    tiny_model.save_to_preset(tmp_path / "ours", palette)
    convert(tmp_path / "ours", tmp_path / "theirs", "huggingface")
    processor = transformers.ImageGPTImageProcessorPil.from_pretrained(tmp_path / "theirs")
    assert dict(processor.size) == {"height": 8, "width": 8}
    images = random_image(4, 8, 8, 3)
    found = processor(list(images), return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(np.reshape(found, (4, 64)), palette.quantize(images))


# The hub


def test_a_name_of_the_hub(tmp_path, monkeypatch, tokens):
    theirs = save_theirs(tmp_path / "there")
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path / "there")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert_close(ImageGPT.from_preset("openai/imagegpt-tiny")(tokens), theirs(theirs_of(tokens)).logits)
    assert asked == [("openai/imagegpt-tiny", ["*config.json", "*.safetensors*"])]
    to_torch_file(tmp_path / "there")
    open_preset("openai/imagegpt-tiny")
    assert asked[-1] == ("openai/imagegpt-tiny", ["*config.json", "*.bin*"])


def test_the_hub_without_its_package_or_the_network(monkeypatch):
    def unreachable(name, allow_patterns):
        raise ConnectionError("no route\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    refused("openai/imagegpt-tiny", match=r"model of the Hugging Face hub, got none \(no route\): check")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("openai/imagegpt-tiny", match="pip install huggingface_hub$")


def test_a_path_in_a_folder_that_is_there_is_no_name_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    refused("runs/mine", match="expected a checkpoint, got none of this name")


# Writing


def arrays_of(path):
    preset = open_preset(path)
    head = [] if preset.n_class is None else [HEAD]
    return {name: preset.read(name) for name in [*shape_table(preset.config), *head]}


def assert_same(path, other):
    found, expected = arrays_of(path), arrays_of(other)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.tobytes() == expected[name].tobytes(), name
    assert load_palette(path) == load_palette(other)


@pytest.fixture
def ours(tmp_path, tiny_model, palette):
    """A preset folder."""
    tiny_model.save_to_preset(tmp_path / "ours", palette)
    return tmp_path / "ours"


@pytest.mark.parametrize("to", ["huggingface", "openai"])
def test_a_round_trip_changes_no_bit(tmp_path, ours, to):
    convert(ours, tmp_path / "there", to)
    convert(tmp_path / "there", tmp_path / "back")
    assert_same(tmp_path / "back", ours)
    for name in ("config.json", "model.safetensors", "palette.npy"):
        assert (tmp_path / "back" / name).read_bytes() == (ours / name).read_bytes()


@pytest.mark.parametrize("to", ["huggingface", "openai"])
def test_a_round_trip_of_a_classifier_and_grey_levels(tmp_path, to):
    names = ["cat", "dog", "owl"]
    model = randomise(ImageGPTClassifier(ImageGPT(TINY), 3, classes=names))
    model.save_to_preset(tmp_path / "ours", Palette(np.linspace(-1, 1, 11)[:, None]))
    convert(tmp_path / "ours", tmp_path / "there", to)
    assert_same(tmp_path / "there", tmp_path / "ours")
    assert open_preset(tmp_path / "there").classes == (tuple(names) if to == "huggingface" else None)


def test_transformers_loads_what_is_written(tmp_path, ours, tiny_model, tokens):
    convert(ours, tmp_path / "theirs", "huggingface")
    model, report = KINDS["causal"].from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert not any(report.values()), report
    assert_close(tiny_model(tokens), model.eval()(theirs_of(tokens)).logits)
    fields = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert fields["architectures"] == ["ImageGPTForCausalImageModeling"]
    assert (fields["tie_word_embeddings"], fields["vocab_size"]) == (False, TINY.n_vocab + 1)


def test_transformers_loads_a_classifier(tmp_path, tokens):
    ours = randomise(ImageGPTClassifier(ImageGPT(TINY), 3, classes=["cat", "dog", "owl"]))
    ours.save_to_preset(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", "huggingface")
    model = KINDS["classes"].from_pretrained(tmp_path / "theirs").eval()
    assert model.config.id2label == {0: "cat", 1: "dog", 2: "owl"}
    assert_close(ours(tokens), model(theirs_of(tokens)).logits)


@pytest.mark.parametrize("n_shards", [1, 5])
def test_openais_own_way_of_restoring(tmp_path, ours, tiny_model, n_shards):
    """TensorFlow 1's `Saver`, given variables of the names in OpenAI's graph."""
    import tensorflow as tf

    convert(ours, tmp_path / "openai", "openai", n_shards)
    assert len(list((tmp_path / "openai").glob("model.ckpt.data-*"))) == n_shards
    latest = tf.train.latest_checkpoint(str(tmp_path / "openai"))
    assert latest == str(tmp_path / "openai" / "model.ckpt")
    arrays = named_arrays(tiny_model)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v1 = tf.compat.v1
        with v1.variable_scope("model"):
            variables = [v1.get_variable(name, array.shape, use_resource=False) for name, array in arrays.items()]
        v1.train.Saver(variables).restore(session, latest)
        for variable, array in zip(session.run(variables), arrays.values(), strict=True):
            np.testing.assert_array_equal(variable, array)


def test_bert_models_cannot_be_said_in_their_format(tmp_path, bert_model):
    bert_model.save_to_preset(tmp_path / "bert")
    one_line_error(
        convert, tmp_path / "bert", tmp_path / "there", "huggingface", match="got a BERT model: .* causal mask"
    )
    assert not (tmp_path / "there").exists()
    convert(tmp_path / "bert", tmp_path / "openai", "openai")
    assert open_preset(tmp_path / "openai").config == bert_model.config


@pytest.mark.parametrize("to", ["huggingface", "openai"])
def test_classes_of_start_embeddings_are_left_out_only_when_asked(tmp_path, palette, to):
    config = ImageGPTConfig(**{**TINY.to_dict(), "n_start": 3})
    model = randomise(ImageGPT(config, classes=["cat", "dog"]))
    model.save_to_preset(tmp_path / "ours", palette)
    one_line_error(convert, tmp_path / "ours", tmp_path / "there", to, match="one start embedding.*`drop_classes`")
    convert(tmp_path / "ours", tmp_path / "there", to, drop_classes=True)
    preset = open_preset(tmp_path / "there")
    assert preset.config == TINY
    np.testing.assert_array_equal(preset.read("sos"), np.asarray(model.sos)[0])


def test_only_a_new_or_empty_folder_is_written(tmp_path, ours):
    one_line_error(convert, ours, ours, match="expected a new or an empty folder to write to, got one with files")
    one_line_error(convert, ours, tmp_path / "a", "gguf", match="expected `to` as one of preset, huggingface, openai")
    one_line_error(convert, ours, tmp_path / "a", "openai", 99, match="`n_shards` from 1 to 21, got 99")
    shutil.rmtree(ours)
    ours.mkdir()
