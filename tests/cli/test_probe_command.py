"""Probes from the command line: what is printed, written and kept, and one line for every mistake."""

import csv
import dataclasses
import json

import imageio.v3 as imageio
import numpy as np
import pytest

from examples import TINY, randomise
from examples import labelled_pictures as pictures
from examples import run as run_line
from igpt_tf.cli import probe as probe_command
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.sources.arrays import SPLITS
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.probing import cache, linear, report
from igpt_tf.probing.protocol import probe


def run(capsys, *arguments):
    """Exit code, standard output and standard error of a command line."""
    return run_line(capsys, "probe", *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """An .npz of tokens with both splits."""
    (x_train, y_train), (x_test, y_test) = pictures(150, 0), pictures(60, 1)
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.both_backends
@pytest.mark.slow
def test_tables_plots_and_a_line_a_layer(capsys, tmp_path, preset, data, tiny_model):
    line = ["--model", preset, "--data", data, "--out", tmp_path, "--seed", 3, "--labels_a_class", 4, "--subsets", 2]
    # One device and so the batches of `probe` below: other batches may round otherwise.
    code, out, err = run(capsys, *line, "--concatenate", 0, 2, "--n_gpu", 1)
    assert code == 0, err
    arrays = np.load(data)
    expected = probe(
        tiny_model,
        (arrays["x_train"], arrays["y_train"]),
        (arrays["x_test"], arrays["y_test"]),
        concatenate=[0, 2],
        labels_a_class=[4],
        n_subsets=2,
        seed=3,
    )
    lines = out.splitlines()
    for found, one in zip(lines, expected.results, strict=False):
        assert found == (
            f"layer {one.name}: {one.accuracy:.2f} % of 60 test images, {one.held_out:.2f} % held out "
            f"(C {one.hyperparameter:g}, converged)"
        )
    best = expected.best
    assert lines[4].startswith(f"4 labels per class: {expected.low_data[0].mean:.2f} % ± ")
    assert lines[5] == f"best: layer {best.name}, {best.accuracy:.2f} % (chosen by {best.held_out:.2f} % held out)"
    assert lines[6:] == [str(tmp_path)]
    fields = json.loads((tmp_path / "probe.json").read_text())
    assert (fields["best_layer"], fields["accuracy"], fields["images"]) == (best.name, best.accuracy / 100, 150)
    rows = rows_of(tmp_path / "probe.csv")
    assert [row["layer"] for row in rows[:4]] == ["0", "1", "2", "0+2"]
    assert {row["labels_a_class"] for row in rows[:4]} == {"all"}
    assert [float(row["test_percent"]) for row in rows[:4]] == [one.accuracy for one in expected.results]
    assert (rows[4]["labels_a_class"], float(rows[4]["std"])) == ("4", expected.low_data[0].std)
    table = list(csv.reader((tmp_path / "confusion.csv").read_text().splitlines()))
    assert table[0] == ["true class", "0", "1", "2"]
    assert np.array_equal(np.array([row[1:] for row in table[1:]], int), expected.confusion())
    for name in ("probe.png", "confusion.png"):
        image = imageio.imread(tmp_path / name)
        assert min(image.shape[:2]) > 400 and len(np.unique(image)) > 20


def test_features_are_read_from_the_cache_and_json_is_all_there_is(capsys, tmp_path, preset, data, monkeypatch):
    line = ["--model", preset, "--data", data, "--out", tmp_path / "out", "--cache", tmp_path / "cache", "--json"]
    first = run(capsys, *line)
    assert first[0] == 0, first[2]
    monkeypatch.setattr(cache, "extract_with", lambda *_, **__: pytest.fail("made again"))
    second = run(capsys, *line)
    assert json.loads(first[1]) == json.loads(second[1]) == json.loads((tmp_path / "out/probe.json").read_text())
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_a_limit_takes_each_class_its_share_by_the_seed(capsys, tmp_path, preset, data):
    line = ["--model", preset, "--data", data, "--out", tmp_path, "--json", "--layers", 1, "--limit", 60]
    found = json.loads(run(capsys, *line, "--test_limit", 30)[1])
    assert (found["images"], found["test_images"], [one["layer"] for one in found["layers"]]) == (60, 30, ["1"])
    rows = list(csv.reader((tmp_path / "confusion.csv").read_text().splitlines()))
    assert [sum(map(int, row[1:])) for row in rows[1:]] == [10, 10, 10]
    other = json.loads(run(capsys, *line, "--test_limit", 30, "--seed", 1)[1])
    assert other["layers"] != found["layers"]


def test_a_solver_that_gives_up_is_said_loudly(capsys, tmp_path, preset, data):
    line = ["--model", preset, "--data", data, "--out", tmp_path, "--layers", 0, "--labels_a_class", 4]
    code, out, err = run(capsys, *line, "--max_iter", 1)
    assert code == 1
    assert out.splitlines() == ["layer 0: did not converge"]
    assert "run.py: layer 0: the solver DID NOT CONVERGE, so it has no accuracy; give a --max_iter above 1\n" in err
    assert "run.py: expected a fit that converges, got none: give a larger --max_iter" in err
    row = rows_of(tmp_path / "probe.csv")[0]
    assert (row["test_percent"], row["converged"]) == ("", "False")


def test_nothing_of_a_probe_before_stays_beside_one_without_a_result(capsys, tmp_path, preset, data):
    line = ["--model", preset, "--data", data, "--out", tmp_path, "--layers", 0]
    assert run(capsys, *line)[0] == 0 and (tmp_path / "confusion.csv").exists()
    assert run(capsys, *line, "--max_iter", 1)[0] == 1
    assert not list(tmp_path.glob("confusion.*"))


def test_the_table_has_each_layer_as_soon_as_it_is_known(capsys, tmp_path, preset, data, monkeypatch):
    fits = []

    def fit(*arguments, **options):
        fits.append(linear.fit_linear(*arguments, **options))
        if len(fits) == 3:
            raise KeyboardInterrupt
        return fits[-1]

    monkeypatch.setattr(probe_command, "_solver", lambda options: fit)
    assert run(capsys, "--model", preset, "--data", data, "--out", tmp_path)[0] == 130
    assert [row["layer"] for row in rows_of(tmp_path / "probe.csv")] == ["0", "1"]


def test_any_name_of_a_class_is_plotted_as_it_is(tmp_path, tiny_model):
    (x, y), classes = pictures(60, 0), ("a$^$", "猫", "caf\udce9")
    labelled = LabelledTokens("x", x, y, classes)
    result = probe(tiny_model, labelled, labelled, layers=[1])
    report.plot_confusion(tmp_path / "confusion.png", result.confusion(), classes)
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_images_judged_by_what_was_learned_are_said(capsys, tmp_path, preset, data):
    line = ["--model", preset, "--data", data, "--out", tmp_path, "--layers", 1]
    code, _, err = run(capsys, *line, "--test_data", data, "--limit", 60, "--test_limit", 60)
    assert code == 0
    assert f"run.py: {data}: the test images are the training images; this accuracy says nothing" in err
    assert "the training images" not in run(capsys, *line)[2]


def test_strengths_that_did_not_converge_are_said_too(capsys, tmp_path, preset, data):
    line = ["--model", preset, "--data", data, "--out", tmp_path, "--layers", 0]
    code, _, err = run(capsys, *line, "--max_iter", 12)
    fields = json.loads((tmp_path / "probe.json").read_text())
    trials = fields["layers"][0]["trials"]
    assert code == 0 and [one["converged"] for one in trials][-1] is False
    assert "run.py: layer 0: the solver did not converge with C" in err and "DID NOT" not in err


@pytest.mark.slow
def test_bert_votes_and_sgd_and_mixed_precision(capsys, tmp_path, data):
    randomise(ImageGPT(dataclasses.replace(TINY, bert=True))).save_to_preset(tmp_path / "bert")
    line = ["--model", tmp_path / "bert", "--data", data, "--out", tmp_path, "--layers", 2, "--bert_masks", 3]
    code, _, err = run(capsys, *line, "--solver", "sgd", "--epochs", 3, "--mixed_precision")
    assert code == 0, err
    # The training images once, the test images with each mask.
    assert len(list((tmp_path / "features").glob("*.npy"))) == 4


def test_openais_files_have_a_test_split(capsys, tmp_path, preset):
    for split, (images, labels) in SPLITS.items():
        if split != "valid":
            tokens, classes = pictures(60, 0)
            np.save(tmp_path / f"data_{images}.npy", tokens)
            np.save(tmp_path / f"data_{labels}.npy", np.eye(3)[classes])
    line = ["--model", preset, "--data", tmp_path / "data", "--out", tmp_path / "out", "--layers", 1, "--json"]
    code, out, err = run(capsys, *line)
    assert code == 0, err
    assert json.loads(out)["test_data"] == f"{tmp_path / 'data'}:test"
    code, _, err = run(capsys, *line, "--data", f"{tmp_path / 'data'}:test")
    assert code == 2 and "expected training images, got the test split" in err


def other_npz(path, **changes):
    (x_train, y_train), (x_test, y_test) = pictures(60, 0), pictures(60, 1)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "options", "code", "message"),
    [
        ({}, ["--layers", 3], 2, "expected layers from 0 to 2, got 3"),
        ({}, ["--layers", "-1"], 2, "--layers: expected"),
        ({}, ["--layers", "some"], 2, "--layers: expected all, or numbers from 0, got some"),
        ({}, ["--concatenate", 1, 1], 2, "expected several layers to concatenate, got 1 alone"),
        ({}, ["--concatenate", 1, 7], 2, "expected layers from 0 to 2, got 7"),
        ({}, ["--bert_masks", 5], 2, "expected no --bert_masks, as this model is autoregressive"),
        ({}, ["--bert_mask_prob", 1], 2, "--bert_mask_prob: expected a probability between 0 and 1"),
        ({}, ["--labels_per_class", 21], 2, "expected 2 to 20 labels per class"),
        ({"y_train": None}, [], 1, "expected images with labels, got none"),
        ({"y_test": None}, [], 1, "expected images with labels, got none"),
        ({"x_test": None}, [], 1, "expected arrays named x_test, got x_train, y_train, y_test"),
        ({"y_test": np.arange(60) % 4}, [], 1, "expected labels from 0 to 2, got 3"),
        ({"y_train": np.zeros(60, int)}, [], 1, "expected images of at least 2 classes, got label 0 alone"),
        ({}, ["--limit", 1], 1, "expected training images of at least 2 classes, got 1"),
        ({}, ["--limit", 2], 1, "expected training images of all 3 classes, got none of"),
        ({}, ["--limit", 4], 1, "expected enough images to hold out 10 %"),
        ({"x_train": np.zeros((60, 49), int)}, [], 1, "tokens of shape (N, 64) for images of 8 pixels"),
        ({"x_test": np.full((60, 64), 11)}, [], 1, "expected tokens from 0 to 10, got 11"),
    ],
)
def test_mistakes(capsys, tmp_path, preset, changes, options, code, message):
    path = other_npz(tmp_path / "data.npz", **changes)
    found, _, err = run(capsys, "--model", preset, "--data", path, "--out", tmp_path / "out", *options)
    assert found == code, err
    assert message in err.splitlines()[-1] and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()


def test_without_a_test_split_one_is_to_be_given(capsys, tmp_path, preset):
    for name in "ab":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        imageio.imwrite(tmp_path / "pictures" / name / "1.png", np.zeros((8, 8, 3), "uint8"))
    line = ["--model", preset, "--out", tmp_path / "out", "--data"]
    code, _, err = run(capsys, *line, tmp_path / "pictures")
    assert code == 2 and "expected a test split, got none in" in err
    code, _, err = run(capsys, *line, tmp_path / "nowhere")
    assert code == 1 and "got nothing: check the path" in err and err.count("\n") == 1


def test_a_list_that_is_read_is_not_written_over(capsys, tmp_path, preset):
    for name in ("cat", "dog"):
        imageio.imwrite(tmp_path / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    listing = tmp_path / "probe.csv"
    listing.write_text("cat.png,cat\ndog.png,dog\n")
    line = ["--model", preset, "--data", listing, "--test_data", listing, "--out", tmp_path]
    code, _, err = run(capsys, *line)
    assert (code, len(err.splitlines())) == (2, 1) and "probe.csv" in err
    assert listing.read_text() == "cat.png,cat\ndog.png,dog\n"


def test_what_an_earlier_probe_left_is_named_before_it_is_replaced(capsys, monkeypatch, tmp_path, preset, data):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(probe_command, "load_backend", stop)
    (tmp_path / "probe.csv").write_text("layer\n")
    code, _, err = run(capsys, "--model", preset, "--data", data, "--out", tmp_path)
    assert code == 130 and f"replacing {tmp_path}/probe.csv of an earlier run" in err
