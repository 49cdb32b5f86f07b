"""Several processes train one model, as several machines would: the same losses, and one of them writes."""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHAPE = ["--n_px", "8", "--n_vocab", "11", "--n_embd", "16", "--n_head", "4", "--n_layer", "2"]
COURSE = ["--steps", "20", "--save_every", "10", "--warmup_steps", "2", "--batch_size", "4", "--clip_norm", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Tokens of 11 images whose rows each have one colour."""
    path = tmp_path_factory.mktemp("data") / "tokens.npy"
    np.save(path, np.repeat(np.random.default_rng(0).integers(0, 11, (11, 8)), 8, axis=1).astype("uint16"))
    return path


def start(*arguments):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, "run.py", "pretrain", "--backend", "jax", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(*processes):
    """What each printed; all are stopped if one hangs."""
    try:
        done = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, done, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in done]


def start_two(data, outs, *arguments):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    both = data if isinstance(data, list) else [data, data]
    common = [*SHAPE, *COURSE, "--coordinator", address, "--num_processes", "2", *arguments]
    return [start("--data", both[i], *common, "--process_id", i, "--out", outs[i]) for i in (0, 1)]


def losses(out):
    with open(out / "training" / "log.csv", newline="") as file:
        return [[float(row["loss"]), float(row["val_loss"])] for row in csv.DictReader(file)]


def test_two_processes_train_like_one_and_go_on_from_what_the_first_wrote(data, tmp_path):
    validation = ["--validation", data, "--validation_images", "5"]
    finish(start("--data", data, *SHAPE, *COURSE, *validation, "--out", tmp_path / "one"))
    expected = losses(tmp_path / "one")
    assert len(expected) == 2

    outs = [tmp_path / "first", tmp_path / "second"]
    printed = finish(*start_two(data, outs, *validation))
    np.testing.assert_allclose(losses(outs[0]), expected, rtol=1e-5)
    assert "loss" in printed[0]
    assert printed[1] == ""
    assert not list(outs[1].rglob("*.safetensors")), "the first alone writes"

    # As if both had died in the second half: the folder of the second machine was never written.
    for path in (outs[0] / "training").glob("epoch-00002.*"):
        path.unlink()
    finish(*start_two(data, outs, *validation))
    np.testing.assert_allclose(losses(outs[0]), expected, rtol=1e-5)


def fail(processes):
    """The one line of each."""
    ends = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    lines = [[line for line in errors.splitlines() if line.startswith("run.py: ")] for errors in ends]
    assert [len(found) for found in lines] == [1, 1] and "Traceback" not in "".join(ends)
    return [found[0] for found in lines]


def test_what_one_process_cannot_do_ends_all(data, tmp_path):
    (tmp_path / "file").touch()
    own, told = fail(start_two(data, [tmp_path / "file", tmp_path / "second"]))
    assert "cannot write" in own
    assert told == own.replace("run.py: ", "run.py: process 0: ")


def test_processes_on_different_runs_are_refused(data, tmp_path):
    other = tmp_path / "tokens.npy"
    np.save(other, np.load(data)[::-1])
    told, own = fail(start_two([data, other], [tmp_path / "first", tmp_path / "second"]))
    assert "the processes train different runs (data is " in own
    assert told == own.replace("run.py: ", "run.py: process 1: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--coordinator", "localhost:1", "--process_id", "0"],
            "expected --coordinator, --num_processes, --process_id together",
        ),
        (
            ["--coordinator", "localhost:1", "--process_id", "0", "--num_processes", "2", "--n_gpu", "1"],
            "--n_gpu: expected none, as several processes",
        ),
    ],
)
def test_options_that_do_not_fit_together(capsys, data, tmp_path, arguments, message):
    code, _, errors = run(capsys, "pretrain", "--data", data, *SHAPE, "--out", tmp_path / "out", *arguments)
    assert code == 2 and message in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator", "localhost", "--process_id", "0", "--num_processes", "2"], "HOST:PORT"),
        (["--coordinator", "localhost:1", "--process_id", "2", "--num_processes", "2"], "from 0 to 1"),
        (["--model_parallel", "3"], "divides the model's 4 heads, got 3"),
        (["--model_parallel", "2"], "divides the 1 devices"),
    ],
)
def test_options_that_jax_cannot_follow(data, tmp_path, arguments, message):
    process = start("--data", data, *SHAPE, "--out", tmp_path / "out", *arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert message in errors
    assert not (tmp_path / "out").exists()
