"""Data sets of libraries on the command line: `--data hf:NAME`, the columns, and the question before a download."""

import io
import json
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from examples import TINY, run
from igpt_tf.cli.main import COMMANDS, PARTS
from igpt_tf.data.sources import libraries
from igpt_tf.data.sources.records import Records
from igpt_tf.download.consent import allow_downloads, require_consent

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)


@pytest.fixture
def asked(monkeypatch):
    """A stand-in for the library: `hf:pets` is downloaded; a list of the columns that were asked for."""
    keys_asked = []

    def fetch(rows):
        files = [io.BytesIO() for _ in rows]
        for file, row in zip(files, rows, strict=True):
            Image.fromarray(IMAGES[row]).save(file, "PNG")
        return [file.getvalue() for file in files]

    def open_pets(name, split, keys):
        keys_asked.append((name, split, keys.image, keys.label))
        require_consent(f"hf:{name}", 17_000_000, 70_000, "mit")
        name = f"hf:{name}:{split or 'train'}"
        return name, Records(name, fetch, np.arange(12)), np.arange(12, dtype=np.int32) % 2, ("cat", "dog")

    monkeypatch.setitem(libraries.OPENERS, "hf", open_pets)
    yield keys_asked
    allow_downloads(False)


def test_every_command_with_data_takes_columns(capsys):
    parts = [f"{name} {part}" for name in PARTS for part in import_module(f"igpt_tf.cli.{name}").PARTS]
    helps = {name: run(capsys, *name.split(), "--help")[1] for name in [*COMMANDS, *parts] if name not in PARTS}
    found = {name for name, text in helps.items() if "--data " in text}
    assert {"eval", "pretrain", "tokenize", "palette", "cascade train", "figure progress"} <= found
    assert found == {name for name, text in helps.items() if "--image_key COLUMN" in text and "--label_key" in text}


def test_a_download_needs_a_yes(capsys, asked, preset):
    code, out, err = run(capsys, "score", "--data", "hf:pets:test", "--model", preset)
    assert (code, out) == (1, "")
    assert err.splitlines()[0].endswith("hf:pets: 70,000 examples, 17.0 MB to download, licence mit")
    assert err.splitlines()[1].endswith(
        "hf:pets: expected a data set that was downloaded before, got none: download it with --yes"
    )


def test_images_and_columns_of_a_library(capsys, asked, preset, palette, tmp_path):
    columns = ["--image_key", "img", "--label_key", "kind", "--yes"]
    code, out, err = run(capsys, "score", "--data", "hf:pets:test", "--model", preset, "--json", *columns)
    assert code == 0 and json.loads(out)["images"] == 12 and "licence mit" in err
    palette.save(tmp_path / "palette.npy")
    store = tmp_path / "store"
    line = ["tokenize", "--palette", tmp_path / "palette.npy", "--n_px", TINY.n_px, "--out", store]
    code, out, _ = run(capsys, *line, "--data", "hf:pets", *columns)
    assert code == 0 and "12 images of 8 pixels, 11 colours, labels of 2 classes" in out
    code, out, _ = run(capsys, "eval", "--data", "hf:pets", "--model", preset, *columns)
    assert code == 0 and "12 images" in out
    code, out, _ = run(
        capsys, "palette", "fit", "--data", "hf:pets", "--out", tmp_path / "new.npy", "--n_colors", 4, *columns
    )
    assert code == 0, out
    assert asked == [("pets", split, "img", "kind") for split in ("test", None, None, None)]


def test_a_probe_takes_the_test_split(capsys, asked, preset, tmp_path):
    line = ["probe", "--model", preset, "--layers", 0, "--out", tmp_path / "probe", "--yes"]
    code, _, err = run(capsys, *line, "--data", "hf:pets:train")
    assert code == 0, err
    assert [split for _, split, _, _ in asked] == ["train", "test"]


def test_columns_of_other_data_are_wrong_use(capsys, asked, preset, pictures):
    code, _, err = run(capsys, "score", "--data", pictures, "--model", preset, "--image_key", "img")
    assert (
        code == 2
        and f"--image_key: expected data with columns, hf:NAME or tfds:NAME, got {pictures}: leave it out" in err
    )
    # Unless they are those of the other data.
    line = ["score", "--data", pictures, "--against", "hf:pets", "--model", preset, "--yes"]
    code, _, err = run(capsys, *line, "--label_key", "kind")
    assert code == 0, err


def test_a_local_folder_end_to_end(capsys, preset, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the extra hf-datasets", exc_type=ImportError)
    for i in range(4):
        Image.fromarray(IMAGES[i]).save(tmp_path / f"{i}.png")
    cells = [str(tmp_path / f"{i}.png") for i in range(4)]
    features = datasets.Features({"img": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])})
    data = datasets.Dataset.from_dict({"img": cells, "kind": [0, 1, 0, 1]}, features=features)
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "saved")
    capsys.readouterr()
    code, out, err = run(capsys, "score", "--data", f"{tmp_path / 'saved'}:test", "--model", preset, "--json")
    assert code == 0 and json.loads(out)["images"] == 4 and not err
    data.save_to_disk(tmp_path / "alone")
    capsys.readouterr()
    code, _, err = run(capsys, "probe", "--data", tmp_path / "alone", "--model", preset, "--out", tmp_path / "probe")
    assert code == 2 and f"--data: expected a test split, got none in {tmp_path / 'alone'}: give test images" in err
    code, _, err = run(capsys, "score", "--data", f"{tmp_path / 'saved'}", "--model", preset, "--image_key", "kind")
    assert code == 1 and "--image_key: " in err and "expected a column of pictures, img, got kind" in err
