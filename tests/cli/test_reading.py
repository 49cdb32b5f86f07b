"""What commands do with pictures, labels, masks and paths that are not as they should be."""

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from examples import TINY, randomise, run
from igpt_tf.cli.main import COMMANDS, PARTS
from igpt_tf.cli.parser import Parser
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.pictures.palette import Palette
from igpt_tf.weights.presets import open_preset

ONE_STEP = ["--steps", 1, "--batch_size", 2, "--no_mixed_precision"]


@pytest.fixture
def classes(tmp_path, palette):
    """Three pictures of each of the classes 1, 2 and 10, one more that is none, and a file that is passed over."""
    tokens = np.random.default_rng(0).integers(0, TINY.n_vocab, (9, TINY.n_tokens))
    for i, picture in enumerate(palette.dequantize(tokens)):
        folder = tmp_path / "classes" / ("1", "2", "10")[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        imageio.imwrite(folder / f"{i}.png", picture)
    (tmp_path / "classes/10/bad.png").write_bytes(b"nonsense")
    (tmp_path / "classes/1/1.HEIC").write_bytes(b"nonsense")
    palette.save(tmp_path / "palette.npy")
    return tmp_path / "classes"


@pytest.fixture
def classifier(tmp_path, palette):
    model = ImageGPTClassifier(randomise(ImageGPT(TINY)), 3, classes=("2", "1", "10"))
    randomise(model).save_to_preset(tmp_path / "classifier", palette)
    return tmp_path / "classifier"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["complete", "{data}", "--n", 1, "--out", "{out}"],
        ["classify", "{data}", "--model", "{classifier}"],
        ["eval", "--data", "{data}", "--model", "{classifier}"],
        ["pretrain", "--data", "{data}", "--init_from", "{preset}", "--out", "{out}", *ONE_STEP],
        ["finetune", "--data", "{data}", "--out", "{out}", "--holdout", 0, *ONE_STEP],
        ["finetune", "--data", "{good}", "--validation", "{data}", "--out", "{out}", *ONE_STEP],
        ["probe", "--data", "{data}", "--test_data", "{data}", "--layers", 1, "--out", "{out}"],
        ["tokenize", "--data", "{data}", "--palette", "{preset}/palette.npy", "--n_px", 8, "--out", "{out}"],
        ["palette", "fit", "--data", "{data}", "--n_colors", 4, "--n_px", 8, "--out", "{out}.npy"],
    ],
)
def test_a_bad_picture_ends_no_command_unless_it_is_strict(capsys, tmp_path, command, classes, classifier, preset):
    code, _, err = run(capsys, "tokenize", "--data", classes, "--palette", tmp_path / "palette.npy", "--n_px", 8,
                       "--out", tmp_path / "good")  # fmt: skip
    assert code == 0, err
    places = {"data": classes, "classifier": classifier, "preset": preset, "out": tmp_path / "out"}
    line = [str(word).format(**places, good=tmp_path / "good") for word in command]
    line += [] if "--model" in line or line[0] in ("pretrain", "tokenize", "palette") else ["--model", preset]
    code, out, err = run(capsys, *line, "--json")
    assert code == 0 and json.loads(out) is not None, err
    for skipped in ("1 of 11 files, which are no images by their names: 1/1.HEIC", "1 of 10 pictures"):
        assert skipped in err
    assert "bad.png: expected an image file such as PNG or JPEG" in err
    code, out, err = run(capsys, *line, "--strict")
    assert code == 1 and "skipped 1 of 11 files" in err.splitlines()[-1]
    (classes / "1/1.HEIC").unlink()
    code, out, err = run(capsys, *line, "--strict")
    assert code == 1 and "skipped 1 of 10 pictures" in err.splitlines()[-1]


@pytest.mark.slow
def test_folders_named_by_numbers_are_classes_from_end_to_end(capsys, tmp_path, classes, palette):
    (classes / "10/bad.png").unlink()
    (classes / "1/1.HEIC").unlink()
    shape = [word for name in ("n_px", "n_vocab", "n_embd", "n_head", "n_layer")
             for word in (f"--{name}", getattr(TINY, name))]  # fmt: skip
    data = ["--data", classes, "--palette", tmp_path / "palette.npy"]
    code, _, err = run(capsys, "pretrain", *data, *shape, "--conditional", "--out", tmp_path / "p", *ONE_STEP)
    assert code == 0, err
    preset = open_preset(tmp_path / "p")
    assert preset.start_classes == ("1", "2", "10") and preset.config.n_start == 4
    code, _out, err = run(capsys, "eval", "--model", tmp_path / "p", "--data", classes, "--by_class", "--json")
    assert code == 0, err
    code, _, err = run(capsys, "sample", "--model", tmp_path / "p", "--n", 1, "--class_name", 10, "--out", tmp_path)
    assert code == 0, err
    code, _, err = run(capsys, "finetune", "--model", tmp_path / "p", *data, "--out", tmp_path / "f", *ONE_STEP)
    assert code == 0 and open_preset(tmp_path / "f").classes == ("1", "2", "10"), err
    # A class less is no other classes.
    for path in (classes / "2").iterdir():
        path.unlink()
    code, _, err = run(capsys, "eval", "--model", tmp_path / "f", "--data", classes, "--json")
    assert code == 0 and "skipped 1 of 3 classes, which have no images: 2" in err, err


@pytest.mark.slow
def test_masks_from_painting_programs(capsys, tmp_path, preset, pictures):
    mask = np.zeros((32, 32, 4), np.uint8)
    mask[8:16, 8:16] = 255
    imageio.imwrite(tmp_path / "mask.png", mask)
    line = [
        "complete",
        pictures / "a.png",
        "--model",
        preset,
        "--n",
        1,
        "--method",
        "forced",
        "--pixels",
        "--out",
        tmp_path / "out",
    ]
    code, _, err = run(capsys, *line, "--mask", tmp_path / "mask.png", "--out", tmp_path / "out")
    assert code == 0 and "the white of the mask is drawn, and its transparent parts are kept" in err
    drawn, given = imageio.imread(tmp_path / "out/a_0.png"), imageio.imread(pictures / "a.png")
    changed = (drawn != given).any(-1)
    assert not changed[:2].any() and not changed[4:].any() and not changed[:, :2].any()
    mask[..., :3], mask[..., 3] = 255, 255 - mask[..., 3]
    imageio.imwrite(tmp_path / "mask.png", mask)
    code, _, err = run(capsys, *line, "--mask", tmp_path / "mask.png", "--out", tmp_path / "out")
    assert code == 1 and f"{tmp_path / 'mask.png'}: expected a mask" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [["complete", ""], ["complete", "a.png", "", "b.png"], ["eval", "--data", ""], ["classify", "a.png", "--model="],
     ["tokenize", "--data", "x", "--out", "", "--palette", "p"], ["sample", "--out", ""], ["complete", "a", "--mask="]],
)  # fmt: skip
def test_an_empty_path_is_refused(capsys, words):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "") and "expected a value, got an empty one after" in err and err.count("\n") == 1


def test_every_path_may_begin_with_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = Parser(prog="igpt")
    parser.add_argument("--data_path")
    parser.add_argument("--out", type=Path)
    parser.add_argument("pictures", nargs="*")
    words = ["~/a.png", "a~b.png", "~nobody-of-this-name", "--data-path=~/x.npz:test", "--out", "~"]
    options = parser.parse_args(words)
    assert options.pictures == [f"{tmp_path}/a.png", "a~b.png", "~nobody-of-this-name"]
    assert options.data_path == f"{tmp_path}/x.npz:test" and options.out == tmp_path


def test_palettes_of_other_projects_are_refused(capsys, tmp_path, preset, pictures, palette):
    np.save(tmp_path / "unit.npy", (palette.colors + 1) / 2)
    for line in (
        ["complete", pictures, "--model", preset, "--palette", tmp_path / "unit.npy"],
        ["tokenize", "--data", pictures, "--palette", tmp_path / "unit.npy", "--out", tmp_path / "store"],
    ):
        code, _, err = run(capsys, *line)
        assert code == 1 and "as if in [0, 1]: turn them into 2 * colours - 1" in err and err.count("\n") == 1
    Palette(-palette.colors).save(tmp_path / "other.npy")
    code, _, err = run(capsys, "eval", "--model", preset, "--data", pictures, "--palette", tmp_path / "other.npy")
    assert code == 0 and "other.npy: not the palette of" in err and err.count("\n") == 1


def test_strictness_is_for_commands_that_read_pictures(capsys):
    for command in (name for name in COMMANDS if name not in PARTS):
        code, out, _ = run(capsys, command, "--help")
        assert code == 0 and ("--strict" in out) == (command not in ("sample", "studio", "convert", "download"))
