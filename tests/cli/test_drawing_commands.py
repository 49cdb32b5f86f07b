"""`run.py sample` and `complete`: interrupted series go on, no two runs mix, and any region is filled in."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

import igpt_tf as igpt
from examples import run as run_line
from examples import write_preset
from igpt_tf.cli import complete
from igpt_tf.cli.pictures import SHOWN
from igpt_tf.config import ImageGPTConfig
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.pictures import writing
from igpt_tf.pictures.figures import BLANK
from igpt_tf.pictures.palette import Palette
from igpt_tf.sampling.keys import candidate_seeds
from igpt_tf.sampling.sampler import Drawn
from igpt_tf.storage.files import held

ROOT = Path(__file__).parents[2]
# Smaller than the other tests' model: every command compiles it anew.
SMALL = ImageGPTConfig(n_px=8, n_vocab=11, n_embd=8, n_head=2, n_layer=1)
# Columns 2 to 5 and rows 3 to 4 are to be filled.
HOLE = np.zeros((8, 8), bool)
HOLE[3:5, 2:6] = True


@pytest.fixture(scope="module")
def palette():
    """Colours that 8-bit images hold exactly, in five steps of grey so that GIFs do too."""
    levels = np.linspace(0, 200, SMALL.n_vocab).astype(int)
    return Palette(levels.repeat(3).reshape(-1, 3).astype("float32") / 127.5 - 1)


@pytest.fixture(scope="module")
def config():
    """The shape of `preset`."""
    return SMALL


@pytest.fixture(scope="module")
def other_preset(tmp_path_factory, palette):
    """Other weights of the same shape."""
    return write_preset(tmp_path_factory.mktemp("other"), SMALL, palette, seed=1)


@pytest.fixture
def run(capsys):
    """Runs a command line: exit code, standard output and standard error."""
    return functools.partial(run_line, capsys)


@pytest.fixture
def sample(run, preset):
    """Runs `sample` on the tiny preset."""
    return lambda out, n, *arguments: run("sample", "--model", preset, "--out", out, "--n", n, *arguments)


@pytest.fixture
def scribble(monkeypatch, sample):
    """Runs `sample` with tokens that no model draws but that depend on all the same things, as nothing is compiled."""

    def sample_rows(sampler, numbers, controls, *, classes, seed, batch_size):
        weights = int(abs(sampler._networks[0].lay_out().wte).sum() * 1e4)
        extra = [weights, seed, *(int(1000 * (value or 0)) for value in dataclasses.astuple(controls))]
        for i in range(0, len(numbers), batch_size):
            batch = numbers[i : i + batch_size]
            rngs = [np.random.default_rng([number, *extra]) for number in batch]
            drawn = np.stack([rng.integers(0, SMALL.n_vocab, SMALL.n_tokens) for rng in rngs])
            yield Drawn(np.array(batch), SMALL.n_px, drawn)

    monkeypatch.setattr(igpt.Sampler, "sample_rows", sample_rows)
    return sample


def drawn(folder):
    """Bytes of every picture of a series, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("sample_*.png")}


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("sample_*.png")}


def write_until_ctrl_c(monkeypatch, n):
    """Ctrl-C arrives once n pictures have been written."""
    write, written = writing.write_png, []

    def write_png(path, picture, scale):
        if len(written) == n:
            raise KeyboardInterrupt
        written.append(path)
        write(path, picture, scale)

    monkeypatch.setattr(writing, "write_png", write_png)


@pytest.mark.slow
def test_a_series_is_extended_not_drawn_again(sample, tmp_path):
    assert sample(tmp_path / "a", 2)[0] == 0
    before = times(tmp_path / "a")
    code, out, _ = sample(tmp_path / "a", 5)
    assert code == 0 and len(out.splitlines()) == 6
    assert sample(tmp_path / "b", 5, "--n_sub_batch", 2)[0] == 0
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b") and len(set(drawn(tmp_path / "a").values())) == 5
    assert before.items() <= times(tmp_path / "a").items()


def test_what_was_drawn_before_is_not_drawn_again_and_the_grid_is_made_anew(scribble, tmp_path):
    _, first, _ = scribble(tmp_path, 3)
    before = times(tmp_path)
    (tmp_path / "grid.png").unlink()
    code, out, err = scribble(tmp_path, 3)
    assert (code, out) == (0, first) and (tmp_path / "grid.png").exists()
    assert times(tmp_path) == before and "drawn before" in err and "--overwrite" in err
    (tmp_path / "sample_1.png").unlink()
    assert scribble(tmp_path, 3)[:2] == (0, first)
    assert scribble(tmp_path, 3, "--overwrite")[:2] == (0, first)
    assert all(times(tmp_path)[name] > time for name, time in before.items())


@pytest.mark.slow
def test_kill_9_neither_repeats_nor_loses_a_picture(sample, preset, tmp_path):
    n, cut = 400, tmp_path / "cut"
    line = ["sample", "--model", preset, "--out", cut, "--n", n, "--n_sub_batch", 4, "--n_gpu", 1]
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "run.py", *map(str, line)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        while len(times(cut)) < 20 and process.poll() is None:
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        told = process.communicate()[1]
    before = times(cut)
    assert process.returncode == -signal.SIGKILL and 20 <= len(before) < n, told

    code, _, err = sample(cut, n, "--seed", 1, "--n_gpu", 1)
    assert code == 1 and f"{len(before)} of {n} pictures with other settings" in err
    assert sample(cut, n, "--n_sub_batch", 100, "--n_gpu", 1)[0] == 0
    assert sample(tmp_path / "whole", n, "--n_sub_batch", 200, "--n_gpu", 1)[0] == 0
    assert drawn(cut) == drawn(tmp_path / "whole") and len(drawn(cut)) == n
    assert before.items() <= times(cut).items()
    assert {path.name for path in cut.iterdir()} == {*drawn(cut), "grid.png", "sample.json"}


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(scribble, other_preset, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        write_until_ctrl_c(patch, 3)
        code, printed, err = scribble(out, 6, "--n_sub_batch", 2)
    assert (code, printed) == (130, "") and not (out / "grid.png").exists()
    assert err.splitlines()[-1].strip().endswith(f"interrupted: 3 of 6 pictures are in {out}; the same command resumes")
    before = times(out)
    assert len(before) == 3
    for wrong, told in (
        (["--seed", 1], "seed 42 there, 1 here"),
        (["--min_p", 0.1], "min_p None there, 0.1 here"),
        (["--model", other_preset, "--temperature", 0.5], "another model; temperature 1.0 there, 0.5 here"),
    ):
        code, _, err = scribble(out, 6, *wrong)
        assert code == 1 and told in err and "--overwrite" in err and len(err.splitlines()) == 1
    assert times(out) == before
    # Fewer are taken from what is there.
    assert scribble(out, 2)[0] == 0
    assert scribble(out, 4, "--seed", 1)[0] == 1
    assert scribble(out, 6)[0] == 0
    assert before.items() <= times(out).items()
    scribble(tmp_path / "whole", 6)
    assert drawn(out) == drawn(tmp_path / "whole")


def test_nothing_drawn_is_nothing_to_lose(scribble, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        write_until_ctrl_c(patch, 0)
        assert scribble(tmp_path, 2)[0] == 130
    assert scribble(tmp_path, 2, "--seed", 1)[0] == 0


def test_pictures_of_other_settings_are_replaced_whole_or_not_at_all(scribble, tmp_path):
    """None of them stands among the new ones, now or when more are asked for."""
    assert scribble(tmp_path / "a", 4, "--seed", 1)[0] == 0
    before = drawn(tmp_path / "a")
    code, _, err = scribble(tmp_path / "a", 2, "--seed", 2)
    assert code == 1 and "4 of 4 pictures" in err and "--overwrite" in err and drawn(tmp_path / "a") == before
    assert scribble(tmp_path / "a", 2, "--seed", 2, "--overwrite")[0] == 0
    assert sorted(drawn(tmp_path / "a")) == ["sample_0.png", "sample_1.png"]
    assert scribble(tmp_path / "a", 4, "--seed", 2)[0] == 0
    assert scribble(tmp_path / "b", 4, "--seed", 2)[0] == 0
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")


def test_a_record_of_the_first_version_is_resumed(scribble, tmp_path):
    """It also said whether the run was finished."""
    assert scribble(tmp_path, 3)[0] == 0
    before = times(tmp_path)
    record = json.loads((tmp_path / "sample.json").read_text())
    (tmp_path / "sample.json").write_text(json.dumps({**record, "n": 5, "finished": False}, indent=2))
    assert scribble(tmp_path, 5)[0] == 0
    assert before.items() <= times(tmp_path).items() and len(drawn(tmp_path)) == 5


def test_pictures_from_elsewhere_are_told_and_never_taken_for_drawn(scribble, tmp_path):
    for number in (1, 3, 9):
        imageio.imwrite(tmp_path / f"sample_{number}.png", np.zeros((8, 8, 3), "uint8"))
    (tmp_path / "sample_x.png").write_bytes(b"of another kind")
    foreign = drawn(tmp_path)
    code, _, err = scribble(tmp_path, 2)
    assert code == 0 and "2 more pictures have higher numbers" in err
    assert scribble(tmp_path, 5)[0] == 0
    found = drawn(tmp_path)
    assert len({found[f"sample_{number}.png"] for number in range(5)} - set(foreign.values())) == 5
    assert [found[f"sample_{name}.png"] == foreign[f"sample_{name}.png"] for name in (1, 3, 9, "x")] == [0, 0, 1, 1]


def test_large_series_print_a_line_and_are_not_thrown_away_in_passing(scribble, tmp_path):
    n = SHOWN + 1
    code, out, _ = scribble(tmp_path, n, "--n_sub_batch", n, "--scale", 1, "--gif")
    assert code == 0
    expected = [f"{tmp_path}: {n} pictures", str(tmp_path / "drawing.gif"), str(tmp_path / "grid.png")]
    assert out.splitlines() == expected
    assert imageio.imread(tmp_path / "grid.png").shape == (102, 102, 3)
    code, out, _ = scribble(tmp_path, n, "--json")
    assert json.loads(out) == {"folder": str(tmp_path), "n": n, "grid": str(tmp_path / "grid.png")}
    code, _, err = scribble(tmp_path, 2, "--seed", 1)
    assert code == 1 and f"{n} pictures" in err and len(drawn(tmp_path)) == n
    code, out, _ = scribble(tmp_path, 2, "--seed", 1, "--overwrite", "--json")
    assert json.loads(out)["images"] == [str(tmp_path / "sample_0.png"), str(tmp_path / "sample_1.png")]
    assert len(drawn(tmp_path)) == 2


@pytest.mark.slow
def test_two_devices_draw_what_one_draws(sample, tmp_path):
    for n_gpu in (1, 2):
        code, _, err = sample(tmp_path / str(n_gpu), 7, "--n_gpu", n_gpu, "--n_sub_batch", 2)
        assert code == 0, err
    assert drawn(tmp_path / "1") == drawn(tmp_path / "2") and len(drawn(tmp_path / "1")) == 7


def test_a_picture_of_another_size_is_named(scribble, tmp_path):
    assert scribble(tmp_path, 3)[0] == 0
    expected = drawn(tmp_path)
    imageio.imwrite(tmp_path / "sample_1.png", np.zeros((5, 9, 3), "uint8"))
    code, _, err = scribble(tmp_path, 3)
    assert code == 1 and "sample_1.png: expected a picture of 8 x 8 pixels" in err and "got 9 x 5" in err
    assert "remove it" in err.splitlines()[-1]
    (tmp_path / "sample_1.png").unlink()
    assert scribble(tmp_path, 3)[0] == 0 and drawn(tmp_path) == expected


def test_the_grid_takes_the_name_of_no_picture(scribble, tmp_path):
    assert scribble(tmp_path, 2)[0] == 0
    expected = drawn(tmp_path)
    code, _, err = scribble(tmp_path, 2, "--grid", tmp_path / "sample_1.png")
    assert code == 2 and "--grid" in err and len(err.splitlines()) == 1 and drawn(tmp_path) == expected


def test_what_a_killed_process_left_is_removed(scribble, tmp_path):
    left = [".sample_1.png.0a.part", ".grid.png.0a.part", ".drawing.gif.0a.part", ".sample.json.0a.part"]
    others = [".samples.png.0a.part", ".photo.png.0a.part"]
    for name in [*left, *others]:
        (tmp_path / name).write_bytes(b"half")
    assert scribble(tmp_path, 2)[0] == 0
    assert {path.name for path in tmp_path.glob(".*")} == set(others)


def test_filters_that_filter_nothing_are_no_other_settings(scribble, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        write_until_ctrl_c(patch, 1)
        assert scribble(tmp_path, 3)[0] == 130
    assert scribble(tmp_path, 3, "--top_p", 1, "--min_p", 0)[0] == 0


def test_one_run_at_a_time_draws_into_a_folder(scribble, tmp_path):
    with held(tmp_path / ".sample.lock"):
        code, _, err = scribble(tmp_path, 2)
    assert code == 1 and "another run" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("record", ["", "[1]", '{"n": "4", "finished": true}', "\x00"])
def test_a_record_of_something_else(scribble, tmp_path, record):
    (tmp_path / "sample.json").write_text(record)
    code, _, err = scribble(tmp_path, 2)
    assert code == 1 and "sample.json" in err and len(err.splitlines()) == 1
    assert scribble(tmp_path, 2, "--overwrite")[0] == 0


def write_mask(path):
    """A mask of the hole that is larger than the picture and wider, so that it is cropped and shrunk."""
    mask = np.zeros((80, 120), "uint8")
    mask[:, 20:100] = np.where(HOLE, 255, 0).repeat(10, axis=0).repeat(10, axis=1)
    mask[:, :20] = 255
    imageio.imwrite(path, mask)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--box", "2,3,4,2", "--method", "forced"],
        ["--mask", "{mask}", "--particles", "3"],
        ["--box", "2,3,4,2", "--best_of", "2", "--particles", "2"],
    ],
)
@pytest.mark.slow
def test_a_hole_is_filled_and_all_else_kept(run, preset, pictures, tmp_path, arguments):
    write_mask(tmp_path / "mask.png")
    arguments = [argument.format(mask=tmp_path / "mask.png") for argument in arguments]
    out = tmp_path / "out"
    line = ["complete", pictures, "--model", preset, "--n", 2, "--out", out, "--gif", "--scale", 1, *arguments]
    code, printed, err = run(*line)
    assert code == 0, err
    assert [Path(line).name for line in printed.splitlines()][-2:] == ["c_drawing.gif", "grid.png"]
    grid = imageio.imread(out / "grid.png")
    filled = []
    for i, name in enumerate("abc"):
        original = imageio.imread(pictures / f"{name}.png")
        first, *_, last = imageio.imread(out / f"{name}_drawing.gif", index=None)[..., :3]
        for k in range(2):
            picture = imageio.imread(out / f"{name}_{k}.png")
            np.testing.assert_array_equal(picture[~HOLE], original[~HOLE])
            filled.append(picture[HOLE])
            cell = np.s_[2:10, 2 + 10 * k : 10 + 10 * k]
            assert (first[cell][HOLE] == BLANK).all()
            np.testing.assert_array_equal(last[cell], picture)
        shown = grid[2 + 10 * i : 10 + 10 * i, 2:10]
        assert (shown[HOLE] == BLANK).all()
        np.testing.assert_array_equal(shown[~HOLE], original[~HOLE])
    assert len({hole.tobytes() for hole in filled}) == 6


def completions(run, preset, pictures, out, *arguments, n=3):
    """Completions of each picture, (3 * n, 8, 8, 3)."""
    line = ["complete", pictures, "--model", preset, "--n", n, "--out", out, "--n_gpu", 1, "--pixels", *arguments]
    code, _, err = run(*line)
    assert code == 0, err
    return np.stack([imageio.imread(out / f"{name}_{k}.png") for name in "abc" for k in range(n)])


@pytest.mark.slow
def test_completions_of_rows_are_those_of_the_library(run, preset, pictures, palette, tmp_path):
    """In parts, so that what is finished can be kept, and yet with the same numbers."""
    images = np.stack([imageio.imread(path) for path in sorted(pictures.iterdir())])
    tokens = palette.quantize(images).repeat(3, axis=0)
    seeds = candidate_seeds(5, 3, 3)
    expected = igpt.complete(ImageGPT.from_preset(preset), tokens, igpt.known_rows(8, 4), seed=seeds, top_k=9)
    found = completions(run, preset, pictures, tmp_path, "--seed", 5, "--top_k", 9, "--n_sub_batch", 4)
    np.testing.assert_array_equal(found, palette.dequantize(expected))


@pytest.mark.parametrize("region", [["--rows", 3], ["--box", "2,3,4,2", "--particles", 2, "--best_of", 2]])
@pytest.mark.slow
def test_completion_k_of_a_picture_is_the_same_however_many_are_asked_for(run, preset, pictures, tmp_path, region):
    expected = completions(run, preset, pictures, tmp_path / "3", *region).reshape(3, 3, 8, 8, 3)
    found = completions(run, preset, pictures, tmp_path / "2", *region, "--n_sub_batch", 3, n=2)
    np.testing.assert_array_equal(found.reshape(3, 2, 8, 8, 3), expected[:, :2])
    assert len(np.unique(expected.reshape(9, -1), axis=0)) == 9


@pytest.mark.slow
def test_a_filled_hole_does_not_depend_on_the_batch(run, preset, pictures, tmp_path):
    region = ["--box", "2,3,4,2", "--particles", 2]
    found = [completions(run, preset, pictures, tmp_path, *region, "--n_sub_batch", size) for size in (2, 10)]
    np.testing.assert_array_equal(*found)


def test_no_completion_takes_the_place_of_a_picture_of_a_series(run, scribble, preset, pictures, tmp_path):
    """`sample` would go on with it, and both write into `out` where nothing else is said."""
    out = tmp_path / "out"
    assert scribble(out, 2)[0] == 0
    expected = drawn(out)
    (tmp_path / "sample.png").write_bytes((pictures / "a.png").read_bytes())
    for line in ([tmp_path / "sample.png"], [pictures, "--grid", out / "sample_7.png"]):
        code, printed, err = run("complete", *line, "--model", preset, "--n", 1, "--out", out)
        assert (code, printed) == (1, "") and "sample.json" in err and "--out" in err and len(err.splitlines()) == 1
    assert drawn(out) == expected
    for line in ([pictures, "--out", out], [tmp_path / "sample.png", "--out", tmp_path / "else"]):
        code, _, err = run("complete", *line, "--model", preset, "--n", 1)
        assert code == 0, err
    assert drawn(out) == expected and (out / "a_0.png").exists()


def test_grid_and_film_show_the_first_pictures(run, preset, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(complete, "SHOWN", 2)
    line = ["complete", pictures, "--model", preset, "--n", 2, "--out", tmp_path, "--gif", "--scale", 1]
    code, printed, err = run(*line)
    assert code == 0, err
    assert len(printed.splitlines()) == 3 * 2 + 3 and (tmp_path / "c_1.png").exists()
    assert imageio.imread(tmp_path / "grid.png").shape == (22, 42, 3)
    assert imageio.imread(tmp_path / "b_drawing.gif", index=0).shape[:2] == (12, 22)
    assert not (tmp_path / "c_drawing.gif").exists()


@pytest.mark.parametrize("command", ["sample", "complete", "eval"])
def test_help_names_the_defaults_that_there_are(run, command):
    code, text, _ = run(command, "--help")
    assert code == 0 and "(default: None)" not in text and "(default: False)" not in text
    assert "(default: nano-cifar10)" in " ".join(text.split())


def test_ctrl_c_keeps_finished_completions(run, preset, pictures, tmp_path, monkeypatch):
    write_until_ctrl_c(monkeypatch, 5)
    line = ["complete", pictures, "--model", preset, "--n", 2, "--n_sub_batch", 4, "--n_gpu", 1, "--out", tmp_path]
    code, printed, err = run(*line)
    assert (code, printed) == (130, "")
    assert f"5 of 6 completions are in {tmp_path}" in err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"a_0.png", "a_1.png", "b_0.png", "b_1.png", "c_0.png"}


MISTAKES = [
    (["--box", "1,2,3"], 2, "x,y,width,height"),
    (["--box", "1,2,3,x"], 2, "x,y,width,height"),
    (["--box", "4,4,5,1"], 2, "8 x 8"),
    (["--box=-1,0,2,2"], 2, "8 x 8"),
    (["--box", "0,0,0,2"], 2, "8 x 8"),
    (["--box", "0,0,2,2", "--rows", "3"], 2, "got both: give one of them"),
    (["--rows", "8"], 2, "--rows: expected fewer than the 8 rows"),
    (["--mask", "{black}"], 1, "{black}: expected a mask with white"),
    (["--mask", "{black}", "--rows", "3"], 2, "got both: give one of them"),
    (["--mask", "nowhere.png"], 1, "nowhere.png"),
    (["--mask", "{preset}/config.json"], 1, "config.json"),
    (["--particles", "0"], 2, "--particles"),
    (["--best_of", "-1"], 2, "--best_of"),
    (["--method", "magic"], 2, "smc"),
    (["--min_p", "2"], 2, "min_p"),
]


@pytest.mark.parametrize("line, code, message", MISTAKES, ids=lambda value: None)
def test_a_mistake_gets_one_line(run, preset, pictures, tmp_path, line, code, message):
    black = tmp_path / "black.png"
    imageio.imwrite(black, np.zeros((9, 5), "uint8"))
    line = [argument.format(black=black, preset=preset) for argument in line]
    found, out, err = run("complete", pictures, "--model", preset, "--out", tmp_path / "out", *line)
    assert (found, out) == (code, "")
    assert message.format(black=black) in err and len(err.splitlines()) == 1
