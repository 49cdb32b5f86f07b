"""Folders that TensorFlow Datasets wrote, its data sets by name without the network, and TFRecord files."""

import json
import os
import shutil
import sys

import numpy as np
import pytest

from examples import one_line_error, random_image, run_python
from igpt_tf.data.open import open_data, read_data
from igpt_tf.data.sources.columns import Keys
from igpt_tf.data.sources.open import open_source
from igpt_tf.data.sources.tfrecords import RecordFiles
from igpt_tf.data.store.encode import Encoder
from igpt_tf.download.consent import allow_downloads
from igpt_tf.errors import Notice
from igpt_tf.pictures.palette import Palette
from igpt_tf.storage.digests import crc32c

PALETTE = Palette(np.random.default_rng(0).uniform(-1, 1, (20, 3)))
IMAGES = random_image(7, 8, 8, 3)
KINDS = ("tfrecord", "array_record")


# TFRecord files


def write_records(path, *parts):
    """A TFRecord file of these data."""
    with open(path, "wb") as file:
        for data in parts:
            head = len(data).to_bytes(8, "little")
            file.write(head + crc32c(head).to_bytes(4, "little") + data + crc32c(data).to_bytes(4, "little"))
    return path


def test_records_of_several_files_in_any_order(tmp_path):
    paths = [write_records(tmp_path / "a", b"0", b"", b"22"), write_records(tmp_path / "b"), tmp_path / "c"]
    write_records(paths[2], b"3" * 1000)
    files = RecordFiles(paths)
    assert len(files) == 4
    assert files.read(np.array([3, 2, 0, 1, 2])) == [b"3" * 1000, b"22", b"0", b"", b"22"]
    assert len(RecordFiles([])) == 0 and files.read(np.empty(0, np.int64)) == []


def test_damaged_records_are_refused(tmp_path):
    path = write_records(tmp_path / "a", b"some data", b"more")
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:30], b"\1" + whole[1:]):
        path.write_bytes(damaged)
        one_line_error(RecordFiles, [path], match="a: expected a TFRecord file, got a damaged one")
    path.write_bytes(whole.replace(b"some", b"same"))
    one_line_error(RecordFiles([path]).read, np.array([0]), match="got a damaged one: get it again")
    one_line_error(RecordFiles, [tmp_path / "none"], match="none that can be read")


# Data sets


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of each format: seven pictures of two classes and three others."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs the extra tfds", exc_type=ImportError)
    pytest.importorskip("tensorflow", reason="TensorFlow Datasets writes with it", exc_type=ImportError)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.LabeledImage(labels=2, shape=(None, None, 1)),
            "float": tfds.features.Image(shape=(None, None, 1), dtype=np.float32),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "word": tfds.features.Text(),
            "number": np.int64,
            "pixels": tfds.features.Tensor(shape=(8, 8, 3), dtype=np.uint8),
        }
    )

    def examples(rows):
        for i in rows:
            yield (
                i,
                {
                    "image": IMAGES[i],
                    "mask": np.zeros((8, 8, 1), np.uint8),
                    "float": np.zeros((8, 8, 1), np.float32),
                    "label": i % 2,
                    "word": ["even", "odd"][i % 2],
                    "number": i if rows == range(7) else -1,
                    "pixels": IMAGES[i],
                },
            )

    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    folders = {}
    for kind in KINDS:
        builder = tfds.dataset_builders.store_as_tfds_dataset(
            name="pets",
            version="1.0.0",
            features=features,
            split_datasets={"train": list(examples(range(7))), "test": list(examples(range(3)))},
            data_dir=folder / kind,
            file_format=kind,
            disable_shuffling=True,
        )
        folders[kind] = folder / kind / "pets" / "1.0.0"
        assert os.fspath(builder.data_path) == str(folders[kind])
    return folders


def pictures_of(source, n_px=8):
    examples = np.arange(len(source))
    found = Encoder(n_px)(examples, source.part(examples))
    assert not found.problems
    return found.rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_it_wrote(written, kind):
    for spec in (written[kind], f"tfds:{written[kind]}", f"{written[kind]}:train"):
        source = open_source(spec)
        assert source.name == f"tfds:{written[kind]}:train" and source.classes == ("cat", "dog")
        assert source.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
        np.testing.assert_array_equal(pictures_of(source), IMAGES)
    examples = np.array([5, 0, 5])
    np.testing.assert_array_equal(Encoder(8)(examples, source.part(examples)).rows, IMAGES[examples])
    assert len(open_source(f"tfds:{written[kind]}:test")) == 3


def test_both_formats_give_the_same(written):
    sources = [open_data(written[kind]) for kind in KINDS]
    assert len({source.fingerprint() for source in sources}) == 1
    tokens, labels = read_data(sources[0], 8, PALETTE)
    np.testing.assert_array_equal(tokens, PALETTE.quantize(IMAGES))
    assert labels.tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_features_are_chosen_by_name(written):
    source = open_source(written["tfrecord"], keys=Keys("image", "word"))
    assert source.labels.tolist() == [0, 1, 0, 1, 0, 1, 0] and source.classes == ("even", "odd")
    assert open_source(written["tfrecord"], keys=Keys(label="number")).labels.tolist() == list(range(7))
    with pytest.warns(Notice, match="labels are left out: 3 of 3 images have not one"):
        assert open_source(f"{written['tfrecord']}:test", keys=Keys(label="number")).labels is None
    for key, kind in (("mask", "LabeledImage"), ("float", "Image"), ("pixels", "Tensor"), ("label", "classes")):
        one_line_error(open_source, written["tfrecord"], keys=Keys(key), match=f"image, got {key}, a column of {kind}")
    one_line_error(open_source, written["tfrecord"], keys=Keys("imag"), match=r"got 'imag' \(did you mean image\?\)")
    one_line_error(
        open_source, written["tfrecord"], keys=Keys(label="pixels"), match="of labels, got pixels, of Tensor"
    )


def test_splits_and_folders_that_are_none(written, tmp_path):
    one_line_error(open_source, f"{written['tfrecord']}:valid", match="one of the splits .*, got 'valid'$")
    one_line_error(
        open_source, f"tfds:{tmp_path}", match="a folder of a version with features.json and dataset_info.json"
    )
    folder = shutil.copytree(written["tfrecord"], tmp_path / "damaged")
    (folder / "pets-train.tfrecord-00000-of-00001").write_bytes(b"no record")
    one_line_error(open_source, folder, match="expected a TFRecord file, got a damaged one")
    (folder / "dataset_info.json").write_text("[")
    one_line_error(open_source, folder, match="that tensorflow_datasets wrote, got a damaged one")


def test_features_of_others_are_not_imported(written, tmp_path, monkeypatch):
    """The library imports the module of each feature's class."""
    folder = shutil.copytree(written["tfrecord"], tmp_path / "evil")
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    about = json.loads((folder / "features.json").read_text())
    about["featuresDict"]["features"]["image"]["pythonClassName"] = "evil_module.Image"
    for other in ("pythonClassName", "python\\u0043lassName", "python_class_name"):
        text = json.dumps(about).replace("pythonClassName", other)
        (folder / "features.json").write_text(text)
        one_line_error(open_source, folder, match="expected features of tensorflow_datasets, got 'evil_module.Image'")
    legacy = json.dumps({"type": "evil_module.Image", "content": {}})
    about["featuresDict"]["features"]["image"] = {
        "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
        "jsonFeature": {"json": legacy},
    }
    (folder / "features.json").write_text(json.dumps(about))
    one_line_error(open_source, folder, match="expected features of tensorflow_datasets, got 'evil_module.Image'")
    assert not (tmp_path / "ran").exists()


def test_a_folder_is_read_without_tensorflow(written):
    code = (
        "import sys; from igpt_tf.data.sources.open import open_source; source = open_source(sys.argv[1]);"
        "print(len([one.read() for one in source.items]), 'tensorflow' in sys.modules)"
    )
    for folder in written.values():
        done = run_python(code, folder)
        assert (done.returncode, done.stdout.strip()) == (0, "7 False"), done.stderr


# By name


@pytest.fixture
def pets(written, monkeypatch, capsys):
    """A data set `pets` that the library knows, which is not downloaded yet."""
    import tensorflow_datasets as tfds

    folder = written["tfrecord"]

    class Pets:
        def __init__(self, config=None):
            self.config = config
            self.builder = tfds.builder_from_directory(folder)
            self.url_infos = {"a": type("Url", (), {"size": 2000})(), "b": type("Url", (), {"size": 500})()}
            self.there = False

        def __getattr__(self, name):
            return getattr(self.builder, name)

        def is_prepared(self):
            return self.there

        def download_and_prepare(self):
            print("Downloading and preparing ...")
            if self.config == "broken":
                raise ConnectionError("no network\nat all")

    def find(name):
        if name != "pets":
            raise ValueError(f"Dataset {name} not found.\nAvailable datasets:")
        return Pets

    monkeypatch.setattr(tfds, "builder_cls", find)
    allow_downloads(False)
    yield Pets
    allow_downloads(False)


FACTS = "^tfds:pets: 10 examples, 2.5 kB to download, no licence named$"


def test_nothing_is_downloaded_without_a_yes(pets):
    with pytest.warns(Notice, match=FACTS):
        one_line_error(open_source, "tfds:pets", match="^tfds:pets: expected .* got none: download it with `yes`")


def test_a_data_set_is_downloaded_by_name(pets, capsys, monkeypatch):
    allow_downloads()
    with pytest.warns(Notice, match=FACTS):
        source = open_source("tfds:pets:test")
    assert source.name == "tfds:pets:test" and len(source) == 3
    assert capsys.readouterr().out == ""
    with pytest.warns(Notice, match="^tfds:pets/broken: "):
        one_line_error(open_source, "tfds:pets/broken", match=r"got an error \(no network\): check the network")
    monkeypatch.setattr(pets, "is_prepared", lambda self: True)
    allow_downloads(False)
    assert len(open_source("tfds:pets")) == 7
    one_line_error(open_source, "tfds:cats", match=r"got none \(Dataset cats not found\.\): check the name")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    one_line_error(open_source, "tfds:a", match="the package tensorflow-datasets, got none .*: pip install tensorflow-")
