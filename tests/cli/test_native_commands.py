"""On a processor pictures are drawn and scored without Keras; many machines draw shares of one series."""

import functools
import json
import shutil

import numpy as np
import pytest

import igpt_tf as igpt
from examples import run as run_line
from examples import run_python
from igpt_tf.cli import opening
from igpt_tf.sampling import devices

MAIN = """
import sys
from igpt_tf.cli.main import main

code = main(sys.argv[1:])
print(code, *sorted({"keras", "tensorflow", "jax", "torch"} & set(sys.modules)))
"""


@pytest.fixture
def run(capsys):
    """Runs a command line: exit code, standard output and standard error."""
    return functools.partial(run_line, capsys)


def drawn(folder):
    return {path.name: path.read_bytes() for path in folder.glob("sample_*.png")}


@pytest.mark.parametrize("command", ["sample", "complete", "score"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_neither_keras_nor_its_backends_are_loaded(preset, pictures, tmp_path, command, dtype):
    arguments = {
        "sample": ["--n", 2, "--out", tmp_path],
        "complete": [pictures, "--n", 1, "--out", tmp_path],
        "score": [pictures],
    }
    done = run_python(MAIN, command, *arguments[command], "--model", preset, "--dtype", dtype, "--threads", 1)
    assert done.stdout.splitlines()[-1] == "0", done.stderr


@pytest.mark.slow
def test_a_hugging_face_folder_needs_no_keras_either(preset, tmp_path):
    igpt.convert(preset, tmp_path / "theirs", to="huggingface")
    done = run_python(MAIN, "sample", "--n", 1, "--out", tmp_path, "--model", tmp_path / "theirs")
    assert done.stdout.splitlines()[-1] == "0", done.stderr


def test_keras_draws_the_same_pictures(run, preset, tmp_path):
    assert run("sample", "--model", preset, "--n", 3, "--out", tmp_path / "a")[0] == 0
    assert run("sample", "--model", preset, "--n", 3, "--out", tmp_path / "b", "--backend", backend())[0] == 0
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")


def backend():
    import keras

    return keras.backend.backend()


def test_scores_of_both_are_equal(run, preset, pictures):
    _, first, _ = run("score", pictures, "--model", preset, "--json")
    _, other, _ = run("score", pictures, "--model", preset, "--json", "--backend", backend())
    nats = [[one["nats_per_token"] for one in json.loads(out)["scores"]] for out in (first, other)]
    np.testing.assert_allclose(*nats, rtol=1e-5)


def test_without_numba_keras_draws_and_a_line_says_so(run, preset, tmp_path, monkeypatch):
    expected = run("sample", "--model", preset, "--n", 2, "--out", tmp_path / "a")
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    code, _, err = run("sample", "--model", preset, "--n", 2, "--out", tmp_path / "b")
    assert (expected[0], code) == (0, 0) and drawn(tmp_path / "a") == drawn(tmp_path / "b")
    assert "drawing with Keras, which takes longer: Numba is not installed" in err


def test_what_keras_does_not_store_is_refused(run, preset, tmp_path):
    line = ("sample", "--model", preset, "--n", 1, "--out", tmp_path, "--backend", backend(), "--dtype", "int8")
    code, _, err = run(*line)
    assert code == 2 and "--dtype: expected float32 or bfloat16 with Keras, got int8" in err
    assert not list(tmp_path.iterdir())


def test_storages_are_settings_of_a_series(run, preset, tmp_path):
    assert run("sample", "--model", preset, "--n", 1, "--out", tmp_path)[0] == 0
    code, _, err = run("sample", "--model", preset, "--n", 2, "--out", tmp_path, "--dtype", "int8")
    assert code == 1 and "dtype float32 there, int8 here" in err


def test_a_gpu_is_drawn_on_by_keras(monkeypatch):
    monkeypatch.setattr(devices, "GPU_FILES", ("/dev/null",))
    asked = []
    monkeypatch.setattr("igpt_tf.backend.devices.list_gpus", lambda: asked.append(1) or ["GPU:0"])
    assert devices.has_gpus() and asked
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not devices.has_gpus()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(devices, "GPU_FILES", ("/nowhere",))
    assert not devices.has_gpus()


def test_threads_are_limited_where_the_backend_is_asked_for_gpus(preset, tmp_path):
    """TensorFlow takes their number only before it looks at devices."""
    without = "devices.GPU_FILES = ('/dev/null',)\ndevices.why_not_native = lambda: 'Numba is not installed'\n"
    code = f"from igpt_tf.sampling import devices\n{without}{MAIN}"
    done = run_python(code, "sample", "--model", preset, "--n", 1, "--out", tmp_path, "--threads", 1)
    assert done.stdout.splitlines()[-1].startswith("0 "), done.stderr


def test_shares_of_a_series_are_its_pictures(run, preset, tmp_path):
    def sample(out, *arguments):
        return run("sample", "--model", preset, "--seed", 3, "--out", tmp_path / out, *arguments)

    assert sample("whole", "--n", 7)[0] == 0
    for number in (1, 2, 3):
        code, out, _ = sample(f"share{number}", "--n", 7, "--shard", f"{number}/3", "--n_sub_batch", number)
        assert code == 0 and f"{3 if number == 1 else 2} of 7 pictures" in out
        assert not (tmp_path / f"share{number}" / "grid.png").exists()
    shares = [tmp_path / f"share{number}" for number in (1, 2, 3)]
    assert {name: path for share in shares for name, path in drawn(share).items()} == drawn(tmp_path / "whole")
    assert run("sample", "--merge", *shares)[:2] == (0, "all 7 pictures are there\n")
    code, _, err = run("sample", "--merge", *shares[:2])
    assert code == 1 and "expected 7 pictures, got 5: 2, 5 missing" in err
    # Drawn again, there is nothing to do.
    assert "all pictures of this share were drawn before" in sample("share2", "--n", 7, "--shard", "2/3")[2]
    # Copied together, they are a series like any other.
    for share in shares:
        shutil.copytree(share, tmp_path / "all", dirs_exist_ok=True)
    assert run("sample", "--merge", tmp_path / "all")[0] == 0
    assert sample("all", "--n", 7)[0] == 0
    assert (tmp_path / "all" / "grid.png").read_bytes() == (tmp_path / "whole" / "grid.png").read_bytes()


def test_shares_of_different_series_are_told_apart(run, preset, tmp_path):
    for seed in (1, 2):
        line = ("--seed", seed, "--out", tmp_path / str(seed), "--n", 2, "--shard", f"{seed}/2")
        assert run("sample", "--model", preset, *line)[0] == 0
    code, _, err = run("sample", "--merge", tmp_path / "1", tmp_path / "2")
    assert code == 1 and "got another seed" in err
    code, _, err = run("sample", "--merge", tmp_path)
    assert code == 1 and "expected the record of a run of sample, got none" in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--shard", "0/3", "--n", 3], "expected a share such as 3/16"),
        (["--shard", "4/3", "--n", 3], "expected a share such as 3/16"),
        (["--shard", "1/3"], "expected --n, the number of all pictures"),
        (["--shard", "1/3", "--n", 3, "--gif"], "neither --grid nor --gif"),
        (["--dtype", "float64"], "expected one of float32, bfloat16, int8"),
        (["--threads", "0"], "expected a whole number of at least 1"),
    ],
)
def test_a_mistake_gets_one_line(run, preset, tmp_path, arguments, message):
    code, _, err = run("sample", "--model", preset, "--out", tmp_path, *arguments)
    assert code == 2 and message in err and len(err.splitlines()) == 1


def test_networks_are_compiled_by_default(preset):
    """The options that `load_networks` reads, as `sample` has them."""
    from argparse import Namespace

    from igpt_tf.sampling.native.network import NativeNetwork
    from igpt_tf.weights.presets import open_preset

    options = Namespace(backend=None, n_gpu=None, n_sub_batch=8, dtype="bfloat16", threads=1)
    ((network,), batch_size) = opening.load_networks(options, open_preset(preset))
    assert isinstance(network, NativeNetwork) and network.storage == "bfloat16" and batch_size == 8
