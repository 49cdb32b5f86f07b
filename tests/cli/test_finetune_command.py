"""Fine-tuning and classifying from the command line: what is printed and kept, and one line for every mistake."""

import csv
import json

import imageio.v3 as imageio
import numpy as np
import pytest

from examples import TINY, randomise, run, write_preset
from igpt_tf.cli.main import main
from igpt_tf.data.sources.open import open_source
from igpt_tf.data.store.store import tokenize
from igpt_tf.model import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.pictures.palette import Palette
from igpt_tf.weights.presets import open_preset

pytestmark = pytest.mark.both_backends
COURSE = ["--epochs", 20, "--batch_size", 4, "--learning_rate", 0.01, "--save_every", 20, "--augment"]
LEVELS = np.linspace(-1, 1, TINY.n_vocab, dtype="float32")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A tiny preset of a palette of greys."""
    return write_preset(tmp_path_factory.mktemp("preset"), TINY, Palette(LEVELS[:, None]), scale=0.1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of dark and of light pictures, ten of each."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 140)):
        (folder / name).mkdir()
        for i in range(10):
            imageio.imwrite(folder / name / f"{i}.png", rng.integers(low, low + 115, (8, 8, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def classifier(preset, pictures, tmp_path_factory):
    """The preset that a run of fine-tuning wrote."""
    folder = tmp_path_factory.mktemp("classifier")
    line = ["finetune", "--model", preset, "--data", pictures, "--out", folder, *COURSE, "--holdout", 0.2]
    assert main([str(word) for word in line]) == 0
    return folder


def test_the_preset_knows_its_classes_and_the_log_its_accuracies(classifier):
    found = open_preset(classifier)
    assert found.classes == ("dark", "light") and found.palette().n_channels == 1
    with open(classifier / "training/log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(rows[0])
    assert float(rows[-1]["val_accuracy"]) == 1


def test_a_finished_run_says_again_what_it_has_come_to(capsys, classifier, preset, pictures):
    line = ["finetune", "--model", preset, "--data", pictures, "--out", classifier, *COURSE, "--holdout", 0.2, "--json"]
    code, out, err = run(capsys, *line)
    assert code == 0, err
    result = json.loads(out)
    assert result["val_accuracy"] == 1 and result["weights_of_step"] <= result["steps"]


def test_eval_judges_the_head_on_any_labelled_source(capsys, classifier, pictures):
    code, out, err = run(capsys, "eval", "--model", classifier, "--data", pictures)
    assert code == 0, err
    assert "acc: 100.00" in out
    code, out, _ = run(capsys, "eval", "--model", classifier, "--data", pictures / "dark")
    assert code == 0 and "acc" not in out, "there are no labels"


def test_classify_names_the_likeliest_classes(capsys, classifier, pictures):
    line = ["classify", pictures / "light", pictures / "dark" / "3.png", "--model", classifier]
    code, out, err = run(capsys, *line, "--top", 1)
    assert code == 0, err
    lines = out.splitlines()
    assert [line.split()[1] for line in lines] == ["light"] * 10 + ["dark"]
    code, out, err = run(capsys, *line, "--json", "--n_gpu", 2)
    assert code == 0, err
    for one, told in zip(json.loads(out), lines, strict=True):
        assert sum(a_class["probability"] for a_class in one["classes"]) == pytest.approx(1, abs=1e-5)
        assert f"{one['picture']}: {one['classes'][0]['name']} {100 * one['classes'][0]['probability']:.1f} %" == told


def test_classify_says_which_file_each_line_is_about(capsys, classifier, pictures):
    files = [str(pictures / "light" / "3.png"), str(pictures / "dark" / "3.png")]
    code, out, err = run(capsys, "classify", *files, "--model", classifier)
    assert code == 0, err
    assert [line.rpartition(": ")[0] for line in out.splitlines()] == files


def test_two_stores_of_different_colours_are_refused_though_the_model_has_no_palette(capsys, tmp_path, pictures):
    randomise(ImageGPT(TINY)).save_to_preset(tmp_path / "bare")
    for name, levels in (("data", LEVELS), ("other", LEVELS[::-1])):
        tokenize(open_source(pictures), tmp_path / name, Palette(levels[:, None]), 8)
    line = ["--model", tmp_path / "bare", "--data", tmp_path / "data", "--out", tmp_path / "out"]
    for command, option in (("finetune", "--validation"), ("probe", "--test_data")):
        code, _, err = run(capsys, command, *line, option, tmp_path / "other")
        assert code == 1 and "got a store made with another palette" in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_images_without_names_of_classes_are_taken_for_the_heads(capsys, tmp_path, classifier):
    np.savez(tmp_path / "data.npz", x_train=np.zeros((8, 64), int), y_train=np.arange(8) % 2)
    line = ["finetune", "--model", classifier, "--data", tmp_path / "data.npz", "--out", tmp_path / "out"]
    code, _, err = run(capsys, *line, "--holdout", 0, "--steps", 1, "--batch_size", 4)
    assert code == 0, err
    assert f"data.npz does not name its classes: using {classifier}'s names, in their order\n" in err
    assert open_preset(tmp_path / "out").classes == ("dark", "light")


def test_a_store_of_other_colours_is_refused_before_training(capsys, tmp_path, pictures):
    randomise(ImageGPT(TINY)).save_to_preset(tmp_path / "bare")
    tokenize(open_source(pictures), tmp_path / "store", Palette(LEVELS[:5, None]), 8)
    code, _, err = run(
        capsys, "finetune", "--model", tmp_path / "bare", "--data", tmp_path / "store", "--out", tmp_path / "out"
    )
    assert code == 1 and "expected a palette of 11 colours" in err and len(err.splitlines()) == 1


def test_names_stay_with_their_head(classifier):
    preset = open_preset(classifier)
    assert ImageGPTClassifier.from_preset(preset, 2).classes == ("dark", "light")
    other = ImageGPTClassifier.from_preset(preset, 2, classes=["cat", "dog"])
    assert other.classes == ("cat", "dog") and not np.any(other.clf.wclf), "a head of other classes begins anew"


def test_classify_needs_a_head(capsys, preset, pictures):
    code, out, err = run(capsys, "classify", pictures, "--model", preset)
    assert (code, out) == (1, "") and "got neither: make a head with python run.py finetune" in err


@pytest.mark.slow
def test_only_some_blocks_on_two_devices(capsys, preset, pictures, tmp_path):
    line = ["finetune", "--model", preset, "--data", pictures, "--out", tmp_path / "out", "--n_gpu", 2, "--freeze", 1]
    code, out, err = run(capsys, *line, "--validation", pictures, "--steps", 2, "--batch_size", 4)
    assert code == 0, err
    assert "val_accuracy" in out
    assert f"run.py: {pictures}: the test images are the training images; this accuracy says nothing" in err


MISTAKES = [
    (["--data", "{pictures}/dark"], 1, "expected images with labels, got none"),
    (["--data", "{one}"], 1, "at least 2 classes"),
    (["--data", "{tokens}.npz"], 1, "images of 8 pixels"),
    (["--data", "{pictures}", "--validation", "{three}"], 1, "expected labels from 0 to 1, got 2"),
    (["--data", "{pictures}", "--holdout", "1"], 2, "--holdout"),
    (["--data", "{pictures}", "--freeze", "3"], 2, "expected to freeze 0 to 2 blocks of this model, got 3"),
    (["--data", "{pictures}", "--lora_rank", "2", "--freeze", "1"], 2, "got --freeze too"),
    (["--data", "{pictures}", "--generative_weight", "-1"], 2, "generative_weight"),
    (
        ["--data", "{pictures}", "--holdout", "0", "--patience", "2"],
        2,
        "--patience: expected validation images",
    ),
    (["--data", "{pictures}", "--no_mask"], 2, "--no_mask: training without masks is for BERT"),
    (["--data", "{huge}"], 1, "expected labels below 2 ** 31, got 2,147,483,648"),
    (["--data", "{pictures}", "--n_px", "9"], 2, "--n_px 9"),
    (["--data", "{pictures}", "--model", "{pictures}"], 1, "{pictures}"),
]


@pytest.mark.parametrize("words, code, message", MISTAKES, ids=lambda value: None)
def test_a_mistake_gets_one_line_and_the_right_exit_code(capsys, tmp_path, preset, pictures, words, code, message):
    (tmp_path / "one" / "a").mkdir(parents=True)
    imageio.imwrite(tmp_path / "one" / "a" / "0.png", np.zeros((8, 8, 3), np.uint8))
    np.savez(tmp_path / "tokens.npz", x_train=np.zeros((4, 16), int), y_train=[0, 1, 0, 1])
    np.savez(tmp_path / "three.npz", x_train=np.zeros((3, 64), int), y_train=[0, 1, 2])
    places = {"pictures": pictures, "one": tmp_path / "one", "tokens": tmp_path / "tokens"}
    np.savez(tmp_path / "huge.npz", x_train=np.zeros((3, 64), int), y_train=[0, 1, 2**31])
    places |= {name: tmp_path / f"{name}.npz" for name in ("three", "huge")}
    line = ["finetune", "--model", preset, "--out", tmp_path / "out", "--steps", 1]
    found, out, err = run(capsys, *line, *(word.format(**places) for word in words))
    assert (found, out) == (code, "")
    assert message.format(**places) in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out" / "config.json").exists()
