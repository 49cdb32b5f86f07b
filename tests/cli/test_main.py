"""The command line: what it writes and prints, OpenAI's own lines, and one clear line for every mistake."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import keras
import numpy as np
import pytest
from http_server import Remote, serving

from examples import TINY, run, run_python, write_preset
from igpt_tf.cli import backends, cascade, figure
from igpt_tf.cli.main import COMMANDS, PARTS
from igpt_tf.cli.opening import resolve_palette
from igpt_tf.data.sources.open import open_source
from igpt_tf.data.store.store import tokenize
from igpt_tf.errors import UserError
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.pictures.palette import Palette
from igpt_tf.scoring.evaluation import evaluate
from igpt_tf.weights.presets import open_preset

GOLDENS = Path(__file__).parents[1] / "goldens"
ROOT = Path(__file__).parents[2]


def write_splits(folder, config_folder="ar", splits=("va", "te"), one_hot=True):
    """OpenAI's files from a golden's inputs; returns their prefix."""
    reference = np.load(GOLDENS / config_folder / "reference.npz")
    for split in splits:
        np.save(folder / f"cifar10_{split}X.npy", reference["x"])
        np.save(folder / f"cifar10_{split}Y.npy", reference["y"] if one_hot else reference["y"].argmax(1))
    return str(folder / "cifar10")


def golden_config(name):
    return json.loads((GOLDENS / name / "config.json").read_text())


def test_sample_writes_pictures_and_a_grid(capsys, tmp_path, preset):
    code, out, _ = run(capsys, "sample", "--model", preset, "--n", 3, "--out", tmp_path, "--gif")
    assert code == 0
    expected = [tmp_path / name for name in ("sample_0.png", "sample_1.png", "sample_2.png", "drawing.gif", "grid.png")]
    assert [Path(line) for line in out.splitlines()] == expected
    assert imageio.imread(tmp_path / "sample_0.png").shape == (8, 8, 3)
    assert len(imageio.imread(tmp_path / "drawing.gif", index=None)) > 10


@pytest.mark.slow
def test_the_same_seed_draws_the_same_pictures(capsys, tmp_path, preset):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(capsys, "sample", "--model", preset, "--n", 2, "--seed", seed, "--out", tmp_path / name)
    a, b, c = ((tmp_path / name / "sample_1.png").read_bytes() for name in "abc")
    assert a == b != c


def test_openais_own_sampling_line(capsys, tmp_path):
    np.save(tmp_path / "kmeans_centers.npy", np.random.default_rng(0).uniform(-1, 1, (32, 3)))
    shape = ["--n_embd", 48, "--n_head", 4, "--n_layer", 3, "--n_px", 8, "--n_vocab", 32]
    files = ["--ckpt_path", GOLDENS / "ar/model.ckpt-1000000", "--color_cluster_path", tmp_path / "kmeans_centers.npy"]
    rest = ["--save_dir", tmp_path / "save", "--n_gpu", 1, "--n_sub_batch", 2, "--seed", 42]
    code, _, err = run(capsys, "--sample", *shape, *files, *rest)
    assert code == 0, err
    names = {"sample_0.png", "sample_1.png", "grid.png", "sample.json"}
    assert {path.name for path in (tmp_path / "save").iterdir()} == names


def assert_printed(word, expected):
    """Four decimals of a loss that is right to 1e-5; the last of them depends on how the processor rounds."""
    assert abs(float(word) - expected) < 0.5e-4 + 1e-5 * expected


@pytest.mark.parametrize("sub_batch", [1, 3, 8])
def test_openais_own_evaluation_line(capsys, tmp_path, sub_batch):
    prefix = write_splits(tmp_path)
    checkpoint = GOLDENS / "ar/model.ckpt-1000000"
    line = ["--eval", "--ckpt_path", checkpoint, "--data_path", prefix, "--n_sub_batch", sub_batch, "--n_gpu", 1]
    code, out, err = run(capsys, *line, "--save_dir", "unused")
    assert code == 0, err
    pattern = r"(test|valid) gen: (\d\.\d{4}) \(\2 nats/token, (\d+\.\d{4}) bits/token"
    lines = [re.match(pattern, line) for line in out.splitlines()]
    assert [line[1] for line in lines] == ["test", "valid"]
    for line in lines:
        assert_printed(line[2], golden_config("ar")["gen_loss"])
        assert_printed(line[3], golden_config("ar")["gen_loss"] / np.log(2))


@pytest.mark.parametrize("one_hot", [True, False])
def test_accuracy_is_printed_for_a_trained_head(capsys, tmp_path, one_hot):
    prefix = write_splits(tmp_path, "clf", ["te"], one_hot)
    code, out, err = run(capsys, "eval", "--model", GOLDENS / "clf", "--data_path", prefix, "--clf")
    assert code == 0, err
    config = golden_config("clf")
    line = re.match(rf"test gen: (\d\.\d{{4}}) clf: (\d\.\d{{4}}) acc: {config['accuracy']:.2f}", out)
    assert_printed(line[1], config["gen_loss"])
    assert_printed(line[2], config["clf_loss"])
    assert f"{config['accuracy']:.2f} % accuracy" in out
    code, out, err = run(capsys, "eval", "--model", GOLDENS / "clf", "--data_path", prefix, "--confusion", "--json")
    found = json.loads(out)["test"]
    counts = np.array(found["confusion"])
    assert code == 0 and counts.sum() == found["images"], err
    assert found["accuracy"] == pytest.approx(np.trace(counts) / counts.sum())
    assert found["accuracy"] == pytest.approx(config["accuracy"] / 100)
    code, out, err = run(capsys, "eval", "--model", GOLDENS / "clf", "--data_path", prefix, "--confusion")
    rows = [row.split() for row in out.splitlines()[2:]]
    assert [[int(count) for count in row[1:]] for row in rows] == counts.tolist()


def test_eval_of_a_bert_model_and_json(capsys, tmp_path):
    prefix = write_splits(tmp_path, "bert", ["te"])
    found = [
        run(capsys, "eval", "--model", GOLDENS / "bert", "--data_path", prefix, "--json", "--n_sub_batch", size)
        for size in (2, 5)
    ]
    a, b = (json.loads(out)["test"] for _, out, _ in found)
    assert a["nats_per_token"] == pytest.approx(b["nats_per_token"], rel=1e-6)
    assert a["bits_per_token"] == pytest.approx(a["nats_per_token"] / np.log(2))


def test_eval_of_a_folder_of_pictures(capsys, preset, pictures, palette):
    code, out, err = run(capsys, "eval", "--model", preset, "--data_path", pictures, "--json")
    assert code == 0, err
    images = np.stack([imageio.imread(path) for path in sorted(pictures.iterdir())])
    expected = evaluate(ImageGPT.from_preset(preset), palette.quantize(images)).nats
    assert json.loads(out)["data"]["nats_per_token"] == pytest.approx(expected, rel=1e-6)


def test_eval_of_a_token_store_and_of_an_npz(capsys, tmp_path, preset, pictures, palette):
    palette.save(tmp_path / "palette.npy")
    line = ["tokenize", "--data", pictures, "--palette", tmp_path / "palette.npy", "--n_px", 8]
    assert run(capsys, *line, "--out", tmp_path / "store")[0] == 0
    np.savez(tmp_path / "a.npz", x_test=np.stack([imageio.imread(path) for path in sorted(pictures.iterdir())]))
    sources = [pictures, tmp_path / "store", f"{tmp_path / 'a.npz'}:test"]
    found = [run(capsys, "eval", "--model", preset, "--data_path", source)[:2] for source in sources]
    assert found[0][0] == 0 and found[0] == found[1] == found[2]
    Palette(palette.colors[::-1]).save(tmp_path / "palette.npy")
    assert run(capsys, *line, "--out", tmp_path / "other")[0] == 0
    code, _, err = run(capsys, "eval", "--model", preset, "--data_path", tmp_path / "other")
    assert code == 1 and "another palette" in err and len(err.splitlines()) == 1


def test_complete_keeps_the_rows_that_are_given(capsys, tmp_path, preset, pictures):
    line = ["complete", pictures, pictures / "a.png", "--model", preset, "--rows", 5, "--n", 2, "--out", tmp_path]
    code, out, err = run(capsys, *line, "--pixels")
    assert code == 0, err
    names = [f"{name}_{k}.png" for name in ("a", "b", "c", "a-2") for k in range(2)]
    assert [Path(line).name for line in out.splitlines()] == [*names, "grid.png"]
    original, first, second = (
        imageio.imread(path) for path in (pictures / "b.png", tmp_path / "b_0.png", tmp_path / "b_1.png")
    )
    np.testing.assert_array_equal(first[:5], original[:5])
    assert (first[5:] != second[5:]).any()


@pytest.mark.slow
def test_pictures_of_one_name_do_not_overwrite_each_other(capsys, tmp_path, preset, pictures):
    for folder, name in (("x", "a"), ("y", "a"), ("y", "a-2")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.png").write_bytes((pictures / "a.png").read_bytes())
    sources = [tmp_path / "x/a.png", tmp_path / "y/a.png", tmp_path / "y/a-2.png"]
    _, out, _ = run(capsys, "complete", *sources, "--model", preset, "--n", 1, "--out", tmp_path)
    assert [Path(line).name for line in out.splitlines()] == ["a_0.png", "a-2_0.png", "a-2-2_0.png", "grid.png"]


def test_complete_takes_addresses(capsys, tmp_path, preset, pictures):
    with serving() as server:
        server.files["/some%20where/b.png"] = Remote((pictures / "b.png").read_bytes())
        address = f"{server.url}/some%20where/b.png"
        code, _, err = run(capsys, "complete", address, "--model", preset, "--n", 1, "--out", tmp_path)
        assert code == 0, err
        assert (tmp_path / "b_0.png").exists()
        code, _, err = run(capsys, "complete", f"{server.url}/missing.png", "--model", preset, "--out", tmp_path)
        assert code == 1
        assert "404" in err and len(err.splitlines()) == 1


def test_tokens_may_be_square(capsys, tmp_path):
    tokens = np.load(GOLDENS / "ar/reference.npz")["x"]
    np.save(tmp_path / "p_teX.npy", tokens.reshape(-1, 8, 8).astype("int64"))
    np.save(tmp_path / "p_teY.npy", np.array(3))
    code, out, err = run(capsys, "eval", "--model", GOLDENS / "ar", "--data_path", tmp_path / "p", "--limit", 1)
    assert code == 0, err
    assert "1 images" in out


@pytest.mark.slow
def test_two_devices_give_what_one_gives(capsys, tmp_path, preset, pictures):
    nats, grids = [], []
    for n_gpu, sub_batch in ((1, 4), (2, 2)):
        devices = ["--n_gpu", n_gpu, "--n_sub_batch", sub_batch, "--model", preset]
        code, out, err = run(capsys, "eval", "--data", pictures, "--json", *devices)
        assert code == 0, err
        nats.append(json.loads(out)["data"]["nats_per_token"])
        code, _, err = run(capsys, "complete", pictures, "--out", tmp_path / str(n_gpu), *devices)
        assert code == 0, err
        grids.append((tmp_path / str(n_gpu) / "grid.png").read_bytes())
    assert nats[0] == pytest.approx(nats[1], rel=1e-6)
    assert grids[0] == grids[1]


@pytest.mark.slow
def test_palette_then_pretrain_then_sample(capsys, tmp_path, pictures):
    colors, model = tmp_path / "palette.npy", tmp_path / "model"
    code, out, err = run(capsys, "palette", "fit", "--data", pictures, "--n_colors", 6, "--n_px", 8, "--out", colors)
    assert code == 0, err
    assert "6 colours" in out
    shape = ["--n_px", 8, "--n_embd", 16, "--n_head", 2, "--n_layer", 1]
    training = ["--epochs", 4, "--n_sub_batch", 2, "--warmup-steps", 1, "--validation", pictures]
    line = ["pretrain", "--data", pictures, "--palette", colors, "--out", model, *shape, *training]
    code, out, err = run(capsys, *line)
    assert code == 0, err
    assert "val_loss" in out
    assert run(capsys, *line)[:2] == (0, out)
    code, _, err = run(capsys, "sample", "--model", model, "--n", 1, "--out", tmp_path)
    assert code == 0, err


def test_tokenize_says_what_it_did_and_what_it_passed_over(capsys, tmp_path, pictures, palette):
    for name, place in zip("abc", ("cat", "cat", "dog"), strict=True):
        (tmp_path / "p" / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / place / f"{name}.png").write_bytes((pictures / f"{name}.png").read_bytes())
    (tmp_path / "p" / "cat" / "broken.png").write_bytes(b"nonsense")
    palette.save(tmp_path / "palette.npy")
    line = ["tokenize", "--data", tmp_path / "p", "--palette", tmp_path / "palette.npy", "--n_px", 8]
    code, out, err = run(capsys, *line, "--out", tmp_path / "store")
    assert code == 0, err
    assert out == f"{tmp_path / 'store'}: 3 images of 8 pixels, {TINY.n_vocab} colours, labels of 2 classes\n"
    assert "skipped 1 of 4 pictures, which cannot be read: " in err and "broken.png" in err and err.count("\n") == 1
    # A finished store says so again.
    assert run(capsys, *line, "--out", tmp_path / "store") == (0, out, err)
    code, out, err = run(capsys, *line, "--out", tmp_path / "strict", "--strict")
    assert code == 1 and "skipped 1 of 4 pictures" in err and err.count("\n") == 1 and not out
    tokens = np.load(tmp_path / "store" / "tokens.npy")
    images = np.stack([imageio.imread(path) for path in sorted(pictures.iterdir())])
    np.testing.assert_array_equal(tokens, palette.quantize(images))
    code, out, err = run(capsys, *line, "--out", tmp_path / "crops", "--random_crops", 2, "--workers", 1, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["images"], found["classes"], found["skipped"], found["n_px"]) == (6, 2, 1, 8)


def test_a_palette_is_learnt_from_what_can_be_read(capsys, tmp_path, pictures):
    (tmp_path / "list.csv").write_text(f"path,label\n{pictures}/a.png,1\n{pictures}/none.png,2\n")
    line = ["palette", "fit", "--data", tmp_path / "list.csv", "--n_colors", 4, "--n_px", 8, "--grey", "--json"]
    code, out, err = run(capsys, *line, "--out", tmp_path / "palette.npy")
    assert code == 0, err
    found = json.loads(out)
    assert (found["n_colors"], found["images"], found["skipped"]) == (4, 1, 1) and found["rmse_8bit"] > 0
    assert "skipped 1 of 2 pictures" in err and "none.png" in err and len(err.splitlines()) == 1
    assert Palette.load(tmp_path / "palette.npy", ours=True).colors.shape == (4, 1)
    (tmp_path / "list.csv").write_text("none.png\n")
    code, _, err = run(capsys, *line, "--out", tmp_path / "palette.npy")
    assert code == 1 and "none.png: expected an image file, got nothing" in err.splitlines()[-1]


# Figures to compare, which must not depend on the precision that the processor is made for.
EXACT = ["--json", "--no_mixed_precision"]


@pytest.mark.slow
def test_two_devices_train_like_one(capsys, tmp_path, pictures, palette):
    palette.save(tmp_path / "palette.npy")
    losses = []
    for n_gpu, sub_batch in ((1, 2), (2, 1)):
        line = ["pretrain", "--data", pictures, "--palette", tmp_path / "palette.npy", "--out", tmp_path / str(n_gpu)]
        shape = ["--n_px", 8, "--n_embd", 16, "--n_head", 2, "--n_layer", 1, "--epochs", 8, "--warmup_steps", 2]
        code, out, err = run(capsys, *line, *shape, "--n_gpu", n_gpu, "--n_sub_batch", sub_batch, *EXACT)
        assert code == 0, err
        losses.append(json.loads(out)["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_pretrain_with_everything_at_once(capsys, tmp_path, pictures, palette):
    palette.save(tmp_path / "palette.npy")
    code, _, err = run(
        capsys,
        "tokenize",
        "--data",
        pictures,
        "--palette",
        tmp_path / "palette.npy",
        "--n_px",
        8,
        "--out",
        tmp_path / "s",
    )
    assert code == 0, err
    shape = ["--n_px", 8, "--n_embd", 16, "--n_head", 2, "--n_layer", 1, "--mixed_precision", "--remat"]
    course = ["--recipe", "paper-s", "--steps", 6, "--save_every", 2, "--accumulate", 2, "--n_sub_batch", 2]
    rest = ["--ema", 0.5, "--clip_norm", 1, "--patience", 9, "--augment", "flip", "--sample_every", 3, "--keep", 1]
    data = ["--data", tmp_path / "s", "--validation", pictures, "--out", tmp_path / "m"]
    line = ["pretrain", *data, *shape, *course, *rest]
    code, out, err = run(capsys, *line)
    assert code == 0, err
    assert "averaged weights" in out and "best checkpoint" in out
    training = {path.name for path in (tmp_path / "m" / "training").iterdir()}
    assert {"log.csv", "samples-00003.png"} <= training
    assert run(capsys, *line)[:2] == (0, out)
    again = run(capsys, *line, "--learning_rate", 1e-3)
    assert again[0] == 1 and "--accept_changes" in again[2]
    assert run(capsys, *line, "--learning_rate", 1e-3, "--accept_changes")[0] == 0
    assert np.load(tmp_path / "m" / "palette.npy").shape == (TINY.n_vocab, 3)


def test_a_store_says_its_images_width_and_its_colours(capsys, tmp_path, preset, pictures):
    (tmp_path / "none").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "none" / name).write_bytes((preset / name).read_bytes())
    few = Palette(np.linspace(-1, 1, 6).repeat(3).reshape(6, 3).astype("float32"))
    few.save(tmp_path / "few.npy")
    line = ["tokenize", "--data", pictures, "--palette", tmp_path / "few.npy", "--n_px", 8, "--out", tmp_path / "s"]
    assert run(capsys, *line)[0] == 0
    line = ["pretrain", "--data", tmp_path / "s", "--out", tmp_path / "m", "--steps", 1]
    code, _, err = run(capsys, *line, "--n_embd", 8, "--n_head", 1, "--n_layer", 1)
    assert code == 0, err
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert (config["n_px"], config["n_vocab"]) == (8, 6)
    code, _, err = run(capsys, *line, "--init_from", tmp_path / "none")
    assert code == 1 and f"expected a palette of 11 colours for {tmp_path / 'none'}, got 6" in err


def test_the_named_palette_counts_then_the_presets_then_the_stores(capsys, tmp_path, preset, pictures, palette):
    named, of_store = (Palette(np.full_like(palette.colors, value)) for value in (-0.25, -0.5))
    named.save(tmp_path / "named.npy")
    store = tokenize(open_source(pictures), tmp_path / "store", of_store, TINY.n_px)
    write_preset(tmp_path / "bare", TINY, None)
    beside, bare, images = open_preset(preset), open_preset(tmp_path / "bare"), open_source(pictures)
    unset, typed = (argparse.Namespace(palette=path) for path in (None, tmp_path / "named.npy"))
    assert capsys.readouterr().err == ""
    assert resolve_palette(typed, beside) == named
    err = capsys.readouterr().err
    assert f"named.npy: not the palette of {beside.source}" in err and err.count("\n") == 1
    assert resolve_palette(typed, beside, store) == resolve_palette(typed, None, store) == named
    assert resolve_palette(unset, beside, store) == palette
    assert resolve_palette(unset, bare, images, store) == resolve_palette(unset, None, store) == of_store
    assert resolve_palette(unset, None, images) is None
    with pytest.raises(UserError, match=r"expected a palette of 11 colours beside it, .* none"):
        resolve_palette(unset, bare, images)


def test_pretraining_goes_on_from_a_presets_weights(capsys, tmp_path, preset, pictures):
    """With no learning to speak of, the loss is the one that the preset has on the same pictures."""
    line = ["pretrain", "--data", pictures, "--init_from", preset, "--out", tmp_path / "m", *EXACT]
    code, out, err = run(capsys, *line, "--steps", 1, "--batch_size", 3, "--learning_rate", 1e-30)
    assert code == 0, err
    code, expected, err = run(capsys, "eval", "--model", preset, "--data_path", pictures, "--json")
    assert code == 0, err
    found = json.loads(out)["loss"]
    assert found == pytest.approx(next(iter(json.loads(expected).values()))["nats_per_token"], rel=1e-5)
    assert Palette.load(tmp_path / "m/palette.npy") == Palette.load(preset / "palette.npy")


@pytest.mark.filterwarnings("ignore")  # tensorboard's own
@pytest.mark.slow
def test_tensorboard_gets_the_losses(capsys, tmp_path, preset, pictures):
    line = ["pretrain", "--data", pictures, "--validation", pictures, "--init_from", preset, "--out", tmp_path / "m"]
    code, _, err = run(capsys, *line, "--steps", 2, "--save_every", 1, "--log_dir", tmp_path / "log")
    assert code == 0, err
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    for part, name in (("train", "epoch_loss"), ("validation", "epoch_loss")):
        events = EventAccumulator(str(tmp_path / "log" / part)).Reload().Tensors(name)
        assert [event.step for event in events] == [0, 1]
        assert all(0 < make_ndarray(event.tensor_proto) < 20 for event in events)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_told_and_made_again(capsys, tmp_path):
    np.save(tmp_path / "tokens.npy", np.random.default_rng(0).integers(0, 5, (6, 16)).astype("uint8"))
    shape = ["--n_px", 4, "--n_vocab", 5, "--n_embd", 8, "--n_head", 2, "--n_layer", 1]
    line = ["pretrain", "--data", tmp_path / "tokens.npy", "--out", tmp_path / "m", *shape, "--epochs", 3]
    code, out, err = run(capsys, *line, "--n_sub_batch", 2)
    assert code == 0, err
    (tmp_path / "m/training/epoch-00003.safetensors").write_bytes(b"half")
    code, again, err = run(capsys, *line, "--n_sub_batch", 2)
    assert (code, again) == (0, out)
    assert "run.py: " in err and "resuming from the checkpoint before it" in err


PRETRAIN = ["pretrain", "--data", "{pictures}", "--palette", "{colors}", "--n_px", "8"]
MISTAKES = [
    (["sample", "--model", "nowhere"], 1, "no such model"),
    (["sample", "--model", "{goldens}/ar"], 1, "palette"),
    (["sample", "--model", "{goldens}/ar", "--n_embd", "512"], 2, "n_embd 48"),
    (["sample", "--model", "{goldens}/bert", "--palette", "{colors}"], 1, "BERT"),
    (
        ["sample", "--model", "{preset}", "--palette", "{colors}"],
        1,
        "11 colours for {preset}, got 32",
    ),
    (["sample", "--model", "{preset}", "--temperature", "-1"], 2, "temperature"),
    (["sample", "--model", "{preset}", "--top_p", "2"], 2, "top_p"),
    (["sample", "--model", "{preset}", "--n", "0"], 2, "at least 1"),
    (["sample", "--model", "{preset}", "--n_gpu", "9"], 2, "--n_gpu: expected 1 to 2"),
    (["sample", "--model", "{preset}", "--out", "/proc/nowhere"], 1, "/proc/nowhere"),
    (["sample", "--wrong"], 2, "--wrong"),
    (["smaple"], 2, "did you mean sample?"),
    (["sample", "--temprature", "2"], 2, "did you mean --temperature?"),
    (["sample", "-n", "3"], 2, "did you mean --n?"),
    (["sample", "--model", "nano-cifar"], 1, "did you mean nano-cifar10?"),
    (["pretrain", "--data", "x", "--out", "y", "--optimizer", "adma"], 2, "did you mean adam?"),
    (["complete", "x", "--rows", "3", "--box", "1,1,1,1"], 2, "expected --box or --rows, got both"),
    ([], 2, "COMMAND"),
    (["complete", "--model", "{preset}"], 2, "pictures"),
    (["complete", "--model", "{preset}", "{empty}"], 1, "{empty}"),
    (["complete", "--model", "{preset}", "{empty}/none.png"], 1, "none.png"),
    (["complete", "--model", "{preset}", "{pictures}", "--rows", "9"], 2, "0 to 8"),
    (["complete", "--model", "{preset}", "http://127.0.0.1:9/a.png"], 1, "http://127.0.0.1:9/a.png"),
    (["complete", "--model", "{preset}", "http://[::1/a.png"], 1, "http://[::1/a.png"),
    (["complete", "--model", "{preset}", "{pictures}", "--grid", "{empty}"], 2, "--grid"),
    (["pretrain", "--data", "{pictures}", "--palette", "{colors}", "--out", "{empty}/x", "--n_embd", "9"], 2, "n_head"),
    (["eval", "--model", "{preset}"], 2, "--data_path"),
    (["eval", "--model", "{preset}", "--data_path", "{empty}/cifar10"], 1, "cifar10_teX.npy"),
    (["eval", "--model", "{preset}", "--data_path", "{colors}"], 1, "tokens, integers (N, T)"),
    (["eval", "--model", "{preset}", "--data_path", "{pictures}", "--clf"], 2, "head"),
    (["eval", "--model", "{preset}", "--data_path", "{pictures}", "--bert"], 2, "--bert"),
    (["palette", "fit", "--data", "{pictures}", "--n_colors", "5000"], 1, "5000"),
    (["palette", "fit", "--data", "{pictures}", "--n_colors", "65537"], 2, "65536"),
    (["palette", "--data", "{pictures}", "--n_colors", "6"], 2, "run.py palette fit"),
    (["palette", "fit", "--data", "{empty}"], 1, "{empty}"),
    (["palette", "fit", "--data", "mnist", "--data_file", "{empty}"], 1, "train-images-idx3-ubyte.gz"),
    (["palette", "fit", "--data", "mnist:valid", "--data_file", "{empty}"], 1, "train or test"),
    (["tokenize", "--data", "{pictures}", "--palette", "{colors}"], 2, "--out"),
    (["tokenize", "--data", "{empty}", "--palette", "{colors}", "--out", "{empty}/x"], 1, "{empty}"),
    (["tokenize", "--data", "{pictures}", "--palette", "{empty}", "--out", "{empty}/x"], 1, "palette"),
    (["tokenize", "--data", "{pictures}", "--palette", "{colors}", "--out", "{pictures}"], 1, "empty folder"),
    (["tokenize", "--data", "{pictures}", "--palette", "{colors}", "--out", "/proc/nowhere"], 1, "/proc/nowhere"),
    (["pretrain", "--data", "{empty}", "--palette", "{colors}", "--out", "/proc/nowhere"], 1, "{empty}"),
    (["pretrain", "--data", "{pictures}", "--palette", "{colors}", "--out", "{empty}/x", "--epochs", "0"], 2, "epochs"),
    ([*PRETRAIN, "--out", "/proc/nowhere"], 1, "cannot write /proc/nowhere"),
    ([*PRETRAIN, "--out", "{empty}/x", "--patience", "2"], 2, "validation"),
    ([*PRETRAIN, "--out", "{empty}/x", "--sample_every", "2", "--bert"], 2, "BERT"),
    ([*PRETRAIN, "--out", "{empty}/x", "--recipe", "none"], 2, "paper-s"),
    ([*PRETRAIN, "--out", "{empty}/x", "--batch_size", "7", "--accumulate", "2"], 2, "got a batch of 7"),
    ([*PRETRAIN, "--out", "{empty}/x", "--n_vocab", "9"], 2, "--n_vocab: expected 32"),
    (
        [*PRETRAIN, "--out", "{empty}/x", "--init_from", "{preset}"],
        1,
        "11 colours for {preset}, got 32",
    ),
    ([*PRETRAIN[:3], "--out", "{empty}/x", "--init_from", "{preset}", "--n_embd", "32"], 2, "n_embd 16"),
    ([*PRETRAIN[:3], "--out", "{empty}/x", "--init_from", "{preset}", "--size", "s"], 2, "--size s"),
    ([*PRETRAIN[:3], "--out", "{empty}/x", "--init_from", "nowhere"], 1, "no such model"),
    ([*PRETRAIN[:3], "--out", "{empty}/x", "--init_from", "{preset}", "--recipe", "nano-mnist"], 2, "of its shape"),
    ([*PRETRAIN, "--out", "{empty}/x", "--log_dir", "{colors}"], 1, "cannot write {colors}"),
    (["palette", "fit", "--data", "{pictures}", "--n_colors", "6", "--out", "{colors}/x.npy"], 1, "cannot write"),
    (["pretrain", "--data", "{preset}/palette.npy", "--out", "{empty}/x"], 1, "or tokens, integers"),
]


@pytest.mark.parametrize("line, code, message", MISTAKES, ids=lambda value: None)
def test_a_mistake_gets_one_line_and_the_right_exit_code(capsys, tmp_path, preset, pictures, line, code, message):
    np.save(tmp_path / "colors.npy", np.random.default_rng(0).uniform(-1, 1, (32, 3)).astype("float32"))
    (tmp_path / "empty").mkdir()
    places = {
        "goldens": GOLDENS,
        "preset": preset,
        "pictures": pictures,
        "colors": tmp_path / "colors.npy",
        "empty": tmp_path / "empty",
    }
    found, out, err = run(capsys, *(argument.format(**places) for argument in line))
    assert (found, out) == (code, "")
    assert message.format(**places) in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("backend, code", [("jax", 0), ("nonsense", 1)])
@pytest.mark.slow
def test_other_backends(tmp_path, preset, backend, code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}
    np.save(tmp_path / "tokens.npy", np.zeros((1, TINY.n_tokens), "int32"))
    line = [sys.executable, ROOT / "run.py", "eval", "--model", preset, "--data", tmp_path / "tokens.npy"]
    ended = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_as_a_program_only_results_go_to_standard_output(tmp_path, preset):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, ROOT / "run.py", "sample", "--model", preset, "--n", "1", "--out", tmp_path]
    ended = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [str(tmp_path / "sample_0.png"), str(tmp_path / "grid.png")]
    assert "port.cc" not in ended.stderr and "Traceback" not in ended.stderr


EARLY = [
    ("--help", 0),
    ("smaple", 2),
    ("sample --model nano-cifar", 1),
    ("sample --model nano-cifar10 --n_embd 3", 2),
    ("sample --top_p 3", 2),
    ("sample --guidance 2", 2),
    ("sample --grid x.jpg", 2),
    ("complete nowhere.png --out {out}", 1),
    ("complete examples/photos/bird.jpg --rows 40", 2),
    ("complete examples/photos/bird.jpg --box 1,1,99,1", 2),
    ("eval --data nowhere", 1),
    ("eval --data examples/photos --votes 3", 2),
    ("probe --data nowhere", 1),
    ("classify --model nano-cifar10 x", 1),
    ("finetune --data nowhere --out {out}", 1),
    ("finetune --data examples/photos --out {out} --learning_rate -1", 2),
    ("finetune --data examples/photos --out examples/photos/x", 2),
    ("probe --data nowhere --test_data examples/photos --out examples/photos/x", 2),
    ("pretrain --data nowhere --out {out}", 1),
    ("pretrain --data examples/photos --out {out} --n_embd 15", 2),
    ("pretrain --data examples/photos --out {out} --validation nowhere", 1),
    ("pretrain --data examples/photos --out {out} --init_from nowhere", 1),
    ("pretrain --data examples/photos --out /proc/nowhere --init_from nano-cifar10", 1),
]
REFUSE = """
import sys
from igpt_tf.cli.main import main

for line, code in {lines!r}:
    assert main(line.split()) == code, line
    assert not {{"keras", "tensorflow", "jax"}} & set(sys.modules), line
"""


def test_mistakes_are_reported_before_a_framework_is_loaded(tmp_path):
    lines = [(line.format(out=tmp_path / "x"), code) for line, code in EARLY]
    ended = run_python(REFUSE.format(lines=lines))
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stderr.splitlines()) == len(EARLY) - 1
    assert not (tmp_path / "x").exists() and not (ROOT / "examples/photos/x").exists()


@pytest.mark.parametrize(
    "command",
    [
        *(name for name in COMMANDS if name not in PARTS),
        *(f"cascade {part}" for part in cascade.PARTS),
        *(f"figure {part}" for part in figure.PARTS),
    ],
)
def test_help_begins_with_everyday_options_and_ends_with_examples(capsys, command):
    code, out, _ = run(capsys, *command.split(), "--help")
    assert code == 0
    assert out.index("\noptions:") < out.index("\ncomputing:") < out.index("\noutput:") < out.index("\nexamples:")
    examples = out[out.index("\nexamples:") :].splitlines()[2:]
    assert len(examples) == 2
    for example in examples:
        assert re.match(rf"  python (run\.py {command}|download\.py) ", example) and len(example) < 100
        assert set(re.findall(r"--\w+", example)) <= set(re.findall(r"--\w+", out))


@pytest.mark.parametrize(
    "installed, environment, chosen, words",
    [
        ({"jax"}, None, "jax", "computing with JAX, as TensorFlow is not installed"),
        ({"tensorflow"}, None, "tensorflow", ""),
        ({"tensorflow", "jax"}, None, "tensorflow", ""),
        ({"tensorflow", "jax"}, "jax", "jax", ""),
        ({"tensorflow"}, "jax", None, "KERAS_BACKEND: expected tensorflow, which is installed, got jax"),
    ],
)
def test_the_backend_that_is_installed_is_chosen(capsys, monkeypatch, tmp_path, installed, environment, chosen, words):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(backends, "_is_installed", installed.__contains__)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", environment or "")
    if chosen is None:
        with pytest.raises(UserError, match=words):
            backends.choose_backend(None)
    else:
        backends.choose_backend(None)
        assert os.environ["KERAS_BACKEND"] == chosen
    if chosen == "jax" or not words:
        assert words in capsys.readouterr().err


def test_a_backend_that_is_named_counts_before_it_is_loaded(capsys, monkeypatch):
    other = {"tensorflow": "jax", "jax": "tensorflow"}[keras.backend.backend()]
    code, _, err = run(capsys, "sample", "--backend", other)
    assert (
        code == 2
        and err
        == f"run.py: --backend: expected {keras.backend.backend()}, which Keras has loaded in "
        f"this process, got {other}\n"
    )
