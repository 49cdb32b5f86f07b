"""Folders that Hugging Face's `datasets` wrote, and its hub, without the network."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from examples import one_line_error, random_image
from igpt_tf.data.open import open_data, read_data, read_labelled
from igpt_tf.data.sources.columns import Keys
from igpt_tf.data.sources.huggingface import take_columns
from igpt_tf.data.sources.open import Source, open_source
from igpt_tf.data.store.encode import Encoder
from igpt_tf.data.store.store import tokenize
from igpt_tf.download.consent import allow_downloads
from igpt_tf.errors import Notice, SkippedWarning
from igpt_tf.pictures.palette import Palette

datasets = pytest.importorskip("datasets", reason="needs the extra hf-datasets", exc_type=ImportError)

PALETTE = Palette(np.random.default_rng(0).uniform(-1, 1, (20, 3)))
IMAGES = random_image(6, 8, 8, 3)
NAMES = ["cat", "dog", "owl"]


def encoded(image, kind="PNG", mode="RGB", **how):
    """A cell of a column of pictures."""
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, kind, **how)
    return {"bytes": file.getvalue(), "path": None}


def make(pictures=None, **more):
    """A data set of six pictures with classes, and more columns: name to type and cells."""
    cells = [encoded(image) for image in IMAGES] if pictures is None else pictures
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    table = {"image": cells, "label": [i % 3 for i in range(len(cells))]}
    for name, (feature, values) in more.items():
        features[name], table[name] = feature, values
    return datasets.Dataset.from_dict(table, features=datasets.Features(features))


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    """A saved Dataset."""
    make().save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def splits(tmp_path):
    """A saved DatasetDict, whose test split is two pictures of the other in another order."""
    data = make()
    datasets.DatasetDict({"train": data, "test": data.select([4, 0])}).save_to_disk(tmp_path / "dict")
    return tmp_path / "dict"


def pictures_of(source, n_px=8):
    examples = np.arange(len(source))
    found = Encoder(n_px)(examples, source.part(examples))
    assert not found.problems
    return found.rows


def test_a_saved_data_set(folder):
    for spec in (folder, str(folder), f"hf:{folder}"):
        source = open_source(spec)
        assert source.name == f"hf:{folder}" and source.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert source.classes == tuple(NAMES)
        np.testing.assert_array_equal(pictures_of(source), IMAGES)
    one_line_error(
        open_source, f"{folder}:test", match="expected :SPLIT of a data set with splits, got :test of one with"
    )


def test_splits_of_a_saved_dictionary(splits):
    np.testing.assert_array_equal(pictures_of(open_source(splits)), IMAGES)
    for spec in (f"{splits}:test", f"hf:{splits}:test"):
        source = open_source(spec)
        assert source.name == f"hf:{splits}:test" and source.labels.tolist() == [1, 0]
        np.testing.assert_array_equal(pictures_of(source), IMAGES[[4, 0]])
    one_line_error(open_source, f"{splits}:tests", match=r"the splits train, test, got 'tests' \(did you mean test\?\)")


def test_tokens_and_labels_as_from_files(folder, tmp_path):
    for i, image in enumerate(IMAGES):
        place = tmp_path / "files" / NAMES[i % 3] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    ours, labels = read_data(open_data(folder), 8, PALETTE)
    files = read_labelled(open_data(tmp_path / "files"), 8, PALETTE)
    order = np.argsort(labels, kind="stable")
    np.testing.assert_array_equal(ours[order], files.tokens)
    assert labels[order].tolist() == files.labels.tolist() and open_data(folder).classes == files.classes


def test_a_store_of_it(folder, tmp_path):
    store = tokenize(open_source(folder), tmp_path / "store", PALETTE, 8)
    assert len(store) == 6 and store.classes == tuple(NAMES)
    # Made of the same, it is found and not made again.
    again = tokenize(open_source(f"hf:{folder}"), tmp_path / "store", PALETTE, 8)
    assert again.fingerprint == store.fingerprint


def test_pictures_of_every_kind_are_those_of_files(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = random_image(8, 8, 3, seed=3)
    cells = [
        encoded(image, mode="L"),
        encoded(image, mode="RGBA"),
        encoded(image, mode="P"),
        encoded(image, mode="LA"),
        encoded(image, "JPEG", exif=exif, quality=95),
        encoded(image, "WEBP", lossless=True),
    ]
    make(cells).save_to_disk(tmp_path / "saved")
    found = pictures_of(open_source(tmp_path / "saved"))
    paths = []
    for i, cell in enumerate(cells):
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(cell["bytes"])
    np.testing.assert_array_equal(found, Encoder(8)(np.arange(6), paths).rows)
    assert (found[0, ..., 0] == found[0, ..., 1]).all()
    np.testing.assert_array_equal(found[5], image)


def test_pictures_outside_of_the_data_set(tmp_path):
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    paths = [str(tmp_path / "a.png"), str(tmp_path / "none.png"), "https://nowhere/a.png", str(tmp_path)]
    data = make([*({"bytes": None, "path": path} for path in paths), None])
    records, labels, classes = take_columns("a", data, Keys())
    found = Encoder(8)(np.arange(5), records)
    np.testing.assert_array_equal(found.rows, IMAGES[:1])
    assert found.problems == [f"a, image {i}: expected a picture, got none" for i in range(1, 5)]
    with pytest.warns(SkippedWarning, match="skipped 4 of 5 pictures"):
        tokens, labels = read_data(Source("a", records, labels, classes), 8, PALETTE)
    assert tokens.shape == (1, 64) and labels.tolist() == [0]


def test_columns_are_chosen_by_name(tmp_path):
    masks = [encoded(image) for image in IMAGES[::-1]]
    words = ["a", "b", "a", "b", "a", "b"]
    data = make(mask=(datasets.Image(), masks), word=(datasets.Value("string"), words))
    data.save_to_disk(tmp_path / "saved")
    one_line_error(
        open_source, tmp_path / "saved", match="one column of pictures, got image, mask: name one by `image_key`"
    )
    source = open_source(tmp_path / "saved", keys=Keys("mask", "word"))
    np.testing.assert_array_equal(pictures_of(source), IMAGES[::-1])
    assert source.labels.tolist() == [0, 1] * 3 and source.classes == ("a", "b")
    one_line_error(
        open_source, tmp_path / "saved", keys=Keys("word"), match="image or mask, got word, a column of string"
    )
    one_line_error(open_source, tmp_path / "saved", keys=Keys("image", "mask"), match="a column of labels, got mask")


def test_files_without_a_type(tmp_path):
    cells = [encoded(image) for image in IMAGES]
    features = datasets.Features({"bytes": datasets.Value("binary"), "path": datasets.Value("string")})
    for name, column, feature in (
        ("files", cells, dict(features)),
        ("binary", [cell["bytes"] for cell in cells], datasets.Value("binary")),
    ):
        data = datasets.Dataset.from_dict({"picture": column}, features=datasets.Features({"picture": feature}))
        data.save_to_disk(tmp_path / name)
        source = open_source(tmp_path / name)
        assert source.labels is None
        np.testing.assert_array_equal(pictures_of(source), IMAGES)
    numbers = datasets.Dataset.from_dict({"n": [1, 2], "box": [[1.0], [2.0]]})
    numbers.save_to_disk(tmp_path / "numbers")
    one_line_error(open_source, tmp_path / "numbers", match=r"column of pictures, got n \(int64\), box \(List\)")


def test_labels_that_are_missing(tmp_path):
    data = make(kind=(datasets.Value("int32"), [0, 1, None, 0, 1, 0]))
    data.save_to_disk(tmp_path / "saved")
    with pytest.warns(Notice, match="1 of 6 images have not one"):
        assert open_source(tmp_path / "saved", keys=Keys(label="kind")).labels is None


def test_empty_and_damaged_folders(folder):
    one_line_error(take_columns, "a", make().select([]), Keys(), match="^a: expected at least one image, got none")
    next(folder.glob("*.arrow")).write_bytes(b"no arrow")
    one_line_error(open_source, folder, match="expected a folder of save_to_disk, got a damaged one")
    (folder / "state.json").write_text("[")
    one_line_error(open_source, folder, match="expected a folder of save_to_disk, got a damaged one")


def test_nothing_is_read_whole(tmp_path):
    """The file is mapped; a pass over all pictures keeps few of them in memory."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 256, 256, 3), np.uint8)
    make([encoded(image) for image in noise]).save_to_disk(tmp_path / "saved")
    source = open_source(tmp_path / "saved")
    pa = pytest.importorskip("pyarrow")
    before = pa.total_allocated_bytes()
    for record in source.part(np.arange(len(source))):
        assert record.read().shape == (256, 256, 3)
    assert pa.total_allocated_bytes() - before < 40 * 256 * 256 * 3 / 4


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one data set with two splits, `owner/pets`, and a list of what was asked of it."""
    for split, rows in (("train", range(6)), ("test", [2])):
        make().select(rows).to_parquet(tmp_path / f"{split}.parquet")
    files = {split: str(tmp_path / f"{split}.parquet") for split in ("train", "test")}
    real = datasets.load_dataset_builder
    asked = []

    def load(path, config=None, **how):
        asked.append((path, config))
        if path != "owner/pets":
            raise FileNotFoundError(f"Dataset '{path}' doesn't exist on the Hub\nor cannot be accessed.")
        return real("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))

    class Api:
        def dataset_info(self, path, files_metadata):
            card = type("Card", (), {"get": lambda self, name: ["cc-by-4.0", "mit"]})()
            return type("Info", (), {"card_data": card, "siblings": [type("File", (), {"size": 1500})()] * 2})()

    allow_downloads(False)
    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    yield asked
    allow_downloads(False)


FACTS = r"^hf:owner/pets: a number of examples that is not said, 3.0 kB to download, licence cc-by-4.0, mit$"


def test_nothing_is_downloaded_without_a_yes(hub, tmp_path):
    with pytest.warns(Notice, match=FACTS):
        one_line_error(
            open_source, "hf:owner/pets", match="^hf:owner/pets: expected .* got none: download it with `yes`"
        )
    assert not list(tmp_path.glob("cache/**/*.arrow"))


def test_a_data_set_of_the_hub_is_downloaded_once(hub):
    allow_downloads()
    with pytest.warns(Notice, match=FACTS):
        source = open_source("hf:owner/pets")
    assert source.name == "hf:owner/pets:train" and source.classes == tuple(NAMES)
    np.testing.assert_array_equal(pictures_of(source), IMAGES)
    allow_downloads(False)
    np.testing.assert_array_equal(pictures_of(open_source("hf:owner/pets:test")), IMAGES[[2]])
    one_line_error(open_source, "hf:owner/pets:tests", match=r"the splits train, test, got 'tests' \(did you mean test")


def test_configurations_and_mistakes(hub):
    one_line_error(
        open_source, "hf:pets", match=r"got none \(Dataset 'pets' doesn't exist on the Hub\): check the name"
    )
    one_line_error(open_source, "hf:owner/cats/small", match="check the name and the network")
    assert hub == [("pets", None), ("owner/cats", "small")]


def test_scripts_of_data_sets_are_never_run(tmp_path):
    """The name of a folder with a script of its own, as of a data set of the hub that has one."""
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    one_line_error(
        open_source, f"hf:{folder}", match="expected a data set of the Hugging Face hub or a folder, got none"
    )
    assert not (tmp_path / "ran").exists()


def test_folders_of_other_files(tmp_path, monkeypatch):
    """What `load_dataset` reads, such as a folder of .parquet files."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "pets").mkdir()
    make().to_parquet(tmp_path / "pets" / "train.parquet")
    source = open_source(f"hf:{tmp_path / 'pets'}")
    np.testing.assert_array_equal(pictures_of(source), IMAGES)
    assert json.loads((next((tmp_path / "cache").rglob("dataset_info.json"))).read_text())
