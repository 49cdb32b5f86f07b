"""A run that is killed, at any moment and again and again, ends as the one that never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from igpt_tf.cli import eval as eval_command
from igpt_tf.cli.main import main

ROOT = Path(__file__).parents[2]
N_PERIODS = 30
SHAPE = ["--n_px", "4", "--n_vocab", "7", "--n_embd", "8", "--n_head", "2", "--n_layer", "1"]
COURSE = ["--steps", "60", "--save_every", "2", "--batch_size", "4", "--warmup_steps", "3", "--learning_rate", "0.01"]
STATE = ["--ema", "0.9", "--augment", "flip", "--optimizer", "muon", "--schedule", "wsd"]


def line(tokens, out):
    program = [sys.executable, ROOT / "run.py", "pretrain", "--data", tokens, "--validation", tokens, "--out", out]
    return [str(word) for word in [*program, *SHAPE, *COURSE, *STATE, "--json"]]


def periods(out):
    return max((int(path.stem[6:]) for path in (out / "training").glob("epoch-*.json")), default=0)


def start(command):
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def kill_after(command, out, more_periods, delay):
    """Kill -9 so many periods and then some milliseconds after the start, which may be in the midst of a write."""
    process = start(command)
    wanted = periods(out) + more_periods
    try:
        while periods(out) < wanted and process.poll() is None:
            time.sleep(0.002)
        time.sleep(delay)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return process.returncode


@pytest.mark.slow
def test_kill_9_three_times_changes_nothing(tmp_path):
    tokens = tmp_path / "tokens.npy"
    np.save(tokens, np.random.default_rng(0).integers(0, 7, (10, 16)).astype("uint16"))
    whole = start(line(tokens, tmp_path / "whole"))
    expected, told = whole.communicate(timeout=300)
    assert whole.returncode == 0, told

    cut = tmp_path / "cut"
    moments = random.Random(0)
    killed = [kill_after(line(tokens, cut), cut, more_periods, moments.uniform(0, 0.02)) for more_periods in (0, 3, 5)]
    assert killed == [-signal.SIGKILL] * 3
    assert 0 < periods(cut) < N_PERIODS, "the last was killed on its way, or this test shows nothing"
    rest = start(line(tokens, cut))
    found, told = rest.communicate(timeout=300)
    assert rest.returncode == 0, told

    assert json.loads(found)["loss"] == pytest.approx(json.loads(expected)["loss"], rel=1e-6)
    histories = [
        json.loads((folder / "training" / f"epoch-{N_PERIODS:05d}.json").read_text())["history"]
        for folder in (tmp_path / "whole", cut)
    ]
    assert [len(history) for history in histories] == [N_PERIODS] * 2
    for name in ("loss", "val_loss", "learning_rate"):
        a, b = ([logs[name] for logs in history] for history in histories)
        np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=name)
    a, b = ((folder / "training" / "log.csv").read_text().splitlines() for folder in (tmp_path / "whole", cut))
    assert [row.split(",")[:3] for row in a] == [row.split(",")[:3] for row in b] and len(a) == N_PERIODS + 1
    assert not [path for path in (cut / "training").iterdir() if path.name.startswith(".")]
    assert_same_weights(tmp_path / "whole", cut)


def assert_same_weights(first, second):
    from safetensors.numpy import load_file

    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-6, atol=1e-9, err_msg=name)


class _CutShort:
    """Stands for a progress bar that is interrupted while it is made: deleting it fails."""

    def __init__(self):
        raise KeyboardInterrupt

    def __del__(self):
        raise AttributeError("no attribute 'pos'")


def test_an_interruption_prints_one_line_wherever_it_comes(capsys, monkeypatch):
    def work(options):
        try:
            _CutShort()
        except KeyboardInterrupt:
            raise KeyboardInterrupt("3 of 4 pictures are there") from None

    failed = []
    monkeypatch.setattr(sys, "unraisablehook", failed.append)
    monkeypatch.setattr(eval_command, "run", work)
    assert main(["eval", "--data_path", "x"]) == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith(": interrupted: 3 of 4 pictures are there")
    assert not failed
