"""The cascade's commands: what is drawn, written and printed, and one line for every mistake."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest
from latent_examples import tiny_cascade

from examples import random_image, run
from igpt_tf.cli.main import main

pytestmark = pytest.mark.both_backends


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cascade of three stages, in a folder."""
    folder = tmp_path_factory.mktemp("cascade")
    tiny_cascade().save_to_preset(folder)
    return folder


def generate(capsys, folder, out, *words):
    return run(capsys, "cascade", "generate", "--model", folder, "--out", out, *words)


@pytest.mark.slow
def test_pictures_and_a_column_for_each_stage(capsys, tmp_path, folder):
    code, out, err = generate(capsys, folder, tmp_path, "--n", 3, "--scale", 2, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [path.rpartition("/")[2] for path in found["pictures"]] == ["sample_0.png", "sample_1.png", "sample_2.png"]
    assert imageio.imread(tmp_path / "sample_0.png").shape == (32, 32, 3)
    stages = imageio.imread(found["stages"])
    assert stages.shape == (3 * 32 + 4 * 2, 3 * 32 + 4 * 2, 3)
    np.testing.assert_array_equal(stages[2:34, -34:-2], imageio.imread(tmp_path / "sample_0.png"))
    code, _, err = generate(capsys, folder, tmp_path / "other", "--num-images", 1, "--batch-size", 2)
    assert code == 0, err
    one = imageio.imread(tmp_path / "other/sample_0.png")
    np.testing.assert_array_equal(one, imageio.imread(tmp_path / "sample_0.png")[::2, ::2])


@pytest.mark.slow
def test_variations_of_a_photograph(capsys, tmp_path, folder):
    imageio.imwrite(tmp_path / "cat.png", random_image(16, 16, 3))
    line = ["--from", tmp_path / "cat.png", "--n", 2, "--temperature", 1, 1, 0, "--stage", 1]
    code, _, err = generate(capsys, folder, tmp_path / "out", *line)
    assert code == 0, err
    first, second = (imageio.imread(tmp_path / f"out/cat_{i}.png") for i in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--stage", 1], 2, "--stage: expected --from with it"),
        (["--temperature", 1, 1], 2, "--temperature: expected one value, or one for each of 3 stages, got 2"),
        (["--beam_width", 2, "--temperature", 0.5], 2, "got both"),
        (["--from", "nothing.png"], 1, "nothing.png"),
        (["--n", 0], 2, "--n"),
    ],
)
def test_mistakes(capsys, tmp_path, folder, words, code, message):
    found, _, err = generate(capsys, folder, tmp_path, *words)
    assert found == code and message in err and len(err.splitlines()) == 1, err


def test_what_is_no_cascade(capsys, tmp_path):
    code, _, err = generate(capsys, tmp_path, tmp_path)
    assert code == 1 and "cascade.json: expected" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("line", [["cascade", "--help"], ["cascade", "generate", "--help"], ["cascade", "train", "-h"]])
def test_help(capsys, line):
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "cascade generate" in out or "cascade train" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "ACTION"), (["genrate"], "did you mean generate?"), (["generate", "--mode", "x"], "--model")],
)
def test_wrong_use(capsys, words, message):
    code, _, err = run(capsys, "cascade", *words)
    assert code == 2 and message in err and len(err.splitlines()) == 1
