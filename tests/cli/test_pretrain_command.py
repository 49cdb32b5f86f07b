"""Pretraining from the command line: models of classes, runs that end in time, precision and cores."""

import json
import re

import pytest

from examples import pretrain_line, run, run_python
from igpt_tf.backend import devices, on_tensorflow
from igpt_tf.cli.training import choose_precision, duration
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.weights.presets import open_preset

pytestmark = pytest.mark.both_backends


@pytest.fixture
def line(tmp_path, palette):
    """A command line that trains on five pictures of each of two classes."""
    return [*pretrain_line(tmp_path, palette), "--epochs", 5]


def test_a_model_of_classes_knows_their_names(capsys, tmp_path, line):
    code, _, err = run(capsys, *line, "--conditional")
    assert code == 0, err
    assert open_preset(tmp_path / "model").start_classes == ("cat", "dog")
    assert ImageGPT.from_preset(tmp_path / "model").config.n_start == 3
    # Its weights begin another run of the same classes, and of no others.
    more = [*line, "--init_from", tmp_path / "model", "--out", tmp_path / "more", "--conditional"]
    code, _, err = run(capsys, *more)
    assert code == 0, err
    (tmp_path / "pictures/dog").rename(tmp_path / "pictures/wolf")
    code, _, err = run(capsys, *more)
    assert code == 1 and "expected the classes of the weights of --init_from, cat, dog, got cat, wolf" in err


def test_a_model_of_classes_needs_labels(capsys, tmp_path, line):
    code, _, err = run(capsys, *line, "--data", tmp_path / "pictures/cat", "--conditional")
    assert code == 1 and "expected images with labels, got none" in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_a_run_ends_in_time_and_is_resumed(capsys, tmp_path, line):
    code, expected, err = run(capsys, *line, "--json", "--out", tmp_path / "whole")
    assert code == 0 and json.loads(expected)["steps"] == 10, err
    code, out, err = run(capsys, *line, "--json", "--time_limit", "0.001s")
    assert code == 0 and json.loads(out)["steps"] == 2
    assert "stopped at step 2 of 10 by the time limit: the same command resumes" in err
    code, out, err = run(capsys, *line, "--json", "--time_limit", "1h")
    assert code == 0 and "time limit" not in err
    found, expected = json.loads(out), json.loads(expected)
    assert found["steps"] == 10 and found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_the_expected_end_is_printed_once(capsys, line):
    code, _, err = run(capsys, *line, "--epochs", 20, "--save_every", 40)
    assert code == 0 and err.count(" steps left, ") == 1 and re.search(r"images/s: about \d+ s without validation", err)


@pytest.mark.parametrize(("text", "seconds"), [("170m", 10200), ("1.5h", 5400), ("90s", 90), (".5d", 43200)])
def test_times_are_read(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["170", "m", "0s", "-5m", "1h30m"])
def test_other_times_are_refused(capsys, line, text):
    code, _, err = run(capsys, *line, f"--time_limit={text}")
    assert code == 2 and f"expected a time such as 170m, 2h or 90s, got {text!r}" in err


@pytest.mark.parametrize(
    ("typed", "begun", "able", "expected"),
    [
        (None, None, True, True),
        (None, None, False, False),
        (False, None, True, False),
        (True, None, False, True),
        # A run keeps the precision that it began with, on whatever machine it resumes.
        (None, "bfloat16", False, True),
        (None, "float32", True, False),
        (False, "bfloat16", True, False),
    ],
)
def test_the_precision_is_typed_or_the_runs_or_the_processors(monkeypatch, typed, begun, able, expected):
    monkeypatch.setattr(devices, "computes_bfloat16", lambda: able)
    assert choose_precision(typed, None if begun is None else {"compute_dtype": begun}) == expected


@pytest.mark.slow
def test_the_number_of_threads_is_kept():
    code = """
import os, sys
from igpt_tf.cli.backends import load_backend
load_backend(threads=1)
import tensorflow as tf
print(tf.config.threading.get_intra_op_parallelism_threads())
"""
    if not on_tensorflow():
        pytest.skip("JAX does not report its threads")
    done = run_python(code)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
