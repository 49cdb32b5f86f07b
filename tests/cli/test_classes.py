"""Drawing and evaluating by class from the command line."""

import dataclasses
import json

import imageio.v3 as imageio
import numpy as np
import pytest

from examples import TINY, randomise, run
from igpt_tf.model.image_gpt import ImageGPT

pytestmark = pytest.mark.both_backends


@pytest.fixture(scope="module")
def model(tmp_path_factory, palette):
    """A preset of a model of two classes."""
    folder = tmp_path_factory.mktemp("classes")
    randomise(ImageGPT(dataclasses.replace(TINY, n_start=3), ("cat", "dog"))).save_to_preset(folder, palette)
    return folder


@pytest.mark.slow
def test_pictures_have_the_named_classes_in_turn_and_a_series_keeps_them(capsys, tmp_path, model):
    line = ["sample", "--model", model, "--n", 4, "--out", tmp_path]
    code, _, err = run(capsys, *line, "--class_name", "all", "--scale", 1)
    assert code == 0, err
    # A row of the grid for each class.
    assert imageio.imread(tmp_path / "grid.png").shape[1] < 3 * (TINY.n_px + 2)
    both = [(tmp_path / f"sample_{i}.png").read_bytes() for i in range(4)]
    code, _, err = run(capsys, *line, "--class_name", "cat", "1")
    assert code == 0 and "were drawn before" in err
    code, _, err = run(capsys, *line)
    assert code == 1 and "other settings (other classes)" in err
    for number, name in enumerate(("cat", "dog")):
        code, _, err = run(capsys, *line, "--overwrite", "--class_name", name)
        assert code == 0, err
        assert (tmp_path / f"sample_{number}.png").read_bytes() == both[number]
    code, _, err = run(capsys, *line, "--class_name", "dog", "--guidance", 3)
    assert code == 1 and "guidance 1.0 there, 3.0 here" in err


@pytest.mark.slow
def test_completions_are_guided(capsys, tmp_path, model, pictures):
    line = ["complete", pictures, "--model", model, "--n", 1, "--temperature", 0.5]
    drawn = []
    for name in ("cat", "dog"):
        code, _, err = run(capsys, *line, "--out", tmp_path / name, "--class_name", name, "--guidance", 2)
        assert code == 0, err
        drawn.append(imageio.imread(tmp_path / name / "a_0.png"))
    half = 16 * TINY.n_px // 2
    np.testing.assert_array_equal(drawn[0][:half], drawn[1][:half])
    assert (drawn[0] != drawn[1]).any()


def test_classes_are_evaluated_by_likelihood(capsys, tmp_path, model, pictures):
    (tmp_path / "list.csv").write_text("".join(f"{pictures}/{name}.png,{i % 2}\n" for i, name in enumerate("abc")))
    line = ["eval", "--model", model, "--data_path", tmp_path / "list.csv", "--by_class"]
    code, out, err = run(capsys, *line, "--json")
    assert code == 0, err
    found = json.loads(out)["data"]
    assert found["images"] == 3 and round(300 * found["accuracy"]) in (0, 100, 200, 300)
    code, out, err = run(capsys, *line)
    assert code == 0 and out.startswith(
        f"data gen: {found['nats_per_token']:.4f} given class: {found['given_nats_per_token']:.4f}"
    )
    code, out, err = run(capsys, *line, "--confusion", "--json")
    table = json.loads(out)["data"]
    assert code == 0 and table["classes"] == ["cat", "dog"] and [sum(row) for row in table["confusion"]] == [2, 1]
    code, _, err = run(capsys, "eval", "--model", model, "--data_path", pictures, "--by_class")
    assert code == 1 and "expected images with labels, got none" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--class_name", "frog"], "expected one of cat, dog, got 'frog'"),
        (["--class_name", "2"], "expected one of cat, dog, got 2"),
        (["--guidance", "2"], "--guidance: expected --class_name with it, got it alone: name a class"),
    ],
)
def test_a_mistake_gets_one_line(capsys, tmp_path, model, words, message):
    code, _, err = run(capsys, "sample", "--model", model, "--n", 1, "--out", tmp_path, *words)
    assert code in (1, 2) and message in err and len(err.splitlines()) == 1


def test_a_model_without_classes_says_so(capsys, tmp_path, preset):
    code, _, err = run(capsys, "sample", "--model", preset, "--n", 1, "--out", tmp_path, "--class_name", "cat")
    assert code == 2 and "--class_name: expected a model that was trained with classes" in err
    code, _, err = run(capsys, "eval", "--model", preset, "--data_path", tmp_path, "--by_class")
    assert code == 2 and "--by_class: expected a model that was trained with classes" in err


def test_a_model_of_classes_names_the_likeliest(capsys, model, pictures):
    code, out, err = run(capsys, "classify", pictures / "a.png", "--model", model)
    assert code == 0 and "no classification head" in err
    assert len(out.splitlines()) == 1 and "cat" in out and "dog" in out
