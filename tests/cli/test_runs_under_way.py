"""Runs that are under way, interrupted or prolonged: what is kept is said, used and continued."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest

from examples import StopAfter, pretrain_line, run
from igpt_tf.backend import on_tensorflow
from igpt_tf.cli import training
from igpt_tf.errors import Notice
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.pictures.palette import Palette
from igpt_tf.weights.names import named_variables
from igpt_tf.weights.presets import load_palette, open_preset


@pytest.fixture
def line(tmp_path, palette):
    """A command line that trains 10 steps on five pictures of each of two classes."""
    return [*pretrain_line(tmp_path, palette), "--no_mixed_precision"]


def interrupted(monkeypatch, capsys, line, steps):
    """The last line that a command prints when it is interrupted after this many steps."""
    with monkeypatch.context() as patch:
        patch.setattr(training, "progress_bar", lambda settings, note: StopAfter(steps))
        code, _, err = run(capsys, *line)
    assert code == 130
    return err.splitlines()[-1]


def test_an_interrupted_run_says_what_it_keeps_and_draws_from_it(monkeypatch, capsys, tmp_path, line, palette):
    line = [*line, "--steps", 10, "--conditional"]
    out = tmp_path / "model"
    assert "there is no checkpoint yet; the same command resumes" in interrupted(monkeypatch, capsys, line, 1)
    code, _, err = run(capsys, "sample", "--model", out, "--n", 1, "--out", tmp_path / "none")
    assert code == 1 and "expected a whole checkpoint of the run" in err and len(err.splitlines()) == 1
    last = interrupted(monkeypatch, capsys, line, 5)
    assert f"interrupted: the checkpoint of step 4 is kept in {out}/training; the same command resumes" in last
    assert (out / "training/curves.png").stat().st_size > 1000
    with pytest.warns(Notice, match="a run that has not ended: using its checkpoint of step 4"):
        preset = open_preset(out)
    assert preset.start_classes == ("cat", "dog") and load_palette(preset) == palette
    assert ImageGPT.from_preset(preset).config.n_start == 3
    drawing = ["sample", "--model", out, "--n", 1, "--out", tmp_path / "drawn", "--class_name", "dog"]
    code, _, err = run(capsys, *drawing)
    assert code == 0 and "using its checkpoint of step 4" in err
    code, _, err = run(capsys, *line)
    assert code == 0, err
    assert open_preset(out).source == str(out), "a finished run has its preset, without a remark"


@pytest.mark.slow
def test_evaluating_and_completing_use_a_run_under_way(monkeypatch, capsys, tmp_path, line):
    interrupted(monkeypatch, capsys, [*line, "--steps", 10], 5)
    pictures = tmp_path / "pictures/cat"
    for words in (["eval", "--data", pictures], ["complete", pictures, "--out", tmp_path / "drawn", "--n", 1]):
        code, _, err = run(capsys, *words, "--model", tmp_path / "model")
        assert code == 0 and "using its checkpoint of step 4" in err, err


@pytest.mark.slow
def test_a_constant_rate_is_continued_and_its_last_checkpoint_used(monkeypatch, capsys, tmp_path, line):
    line, out = [*line, "--schedule", "constant", "--json"], tmp_path / "model"
    for steps in (6, 12):
        code, found, err = run(capsys, *line, "--steps", steps)
        assert code == 0 and json.loads(found)["steps"] == steps, err
        assert ("continuing from step 6 with another length" in err) == (steps == 12)
    interrupted(monkeypatch, capsys, [*line, "--steps", 20], 5)
    with pytest.warns(Notice, match="using its checkpoint of step 16"):
        open_preset(out)


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_a_rate_that_has_ended_is_not_continued(capsys, line, schedule):
    line = [*line, "--schedule", schedule]
    code, _, err = run(capsys, *line, "--steps", 6)
    assert code == 0, err
    code, _, err = run(capsys, *line, "--steps", 12)
    assert code == 1 and "expected the length it began with" in err and len(err.splitlines()) == 1
    assert "begin a new run from its weights in another folder (--init_from)" in err


@pytest.mark.slow
def test_classes_are_drawn_in_turn_and_shown_in_tensorboard(capsys, tmp_path, line):
    log = ["--log_dir", tmp_path / "log"] if on_tensorflow() else []
    code, _, err = run(capsys, *line, "--steps", 2, "--conditional", "--sample_every", 1, *log)
    assert code == 0, err
    # Two columns of eight.
    height, width, _ = imageio.imread(tmp_path / "model/training/samples-00001.png").shape
    assert (height, width) == (8 * 18 + 2, 2 * 18 + 2)
    if log:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "log/samples"))
        events.Reload()
        assert events.Tags()["tensors"] == ["samples"]


@pytest.mark.slow
def test_a_classifier_under_way_keeps_its_classes(monkeypatch, capsys, tmp_path, line, preset):
    out = tmp_path / "classifier"
    words = ["--data", tmp_path / "pictures", "--model", preset, "--out", out, "--batch_size", 2, "--save_every", 1]
    line = [
        "finetune",
        *words,
        "--lora_rank",
        2,
        "--holdout",
        0,
        "--no_mixed_precision",
        "--epochs",
        2,
    ]
    assert "the checkpoint of step 2 is kept" in interrupted(monkeypatch, capsys, line, 3)
    code, found, err = run(capsys, "classify", tmp_path / "pictures/cat", "--model", out, "--json")
    assert code == 0 and {one["name"] for one in json.loads(found)[0]["classes"]} == {"cat", "dog"}, err
    code, _, err = run(capsys, *line)
    assert code == 0, err
    with pytest.warns(Notice, match="using its checkpoint"):
        checkpoint = open_preset(out / "training")
    for name in named_variables(ImageGPT(checkpoint.config)):
        # What the adapters have learned is in both.
        np.testing.assert_allclose(checkpoint.read(name), open_preset(out).read(name), rtol=1e-6, err_msg=name)
    assert Palette.load(out / "training/palette.npy") == Palette.load(preset / "palette.npy")
