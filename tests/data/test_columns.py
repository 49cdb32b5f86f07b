"""Columns, splits and labels of data sets of libraries, and pictures that are read when they are asked for."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from examples import one_line_error, random_image
from igpt_tf.data.image_rows import ImageRows
from igpt_tf.data.open import open_data
from igpt_tf.data.sources.columns import Column, Keys, choose_image, choose_label, choose_split, number_labels
from igpt_tf.data.sources.libraries import LibraryName, find_library, open_library
from igpt_tf.data.sources.open import Source, open_source
from igpt_tf.data.sources.records import READ_AT_ONCE, Records
from igpt_tf.data.store.encode import Encoder, encode
from igpt_tf.download.consent import allow_downloads, require_consent
from igpt_tf.errors import Notice, SkippedWarning

PICTURE, CLASS, NUMBER = Column("pictures", is_picture=True), Column("classes", is_class=True), Column("int64")
LABEL = Column("int64", is_label=True)


def png(image):
    """The bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


# What is chosen


def test_splits():
    assert choose_split("a", None, ["test", "train"]) == "train"
    assert choose_split("a", None, ["all"]) == "all"
    assert choose_split("a", "test", ["test", "train"]) == "test"
    one_line_error(
        choose_split, "a", None, ["x", "y"], match="^a: expected one of the splits x, y after a colon, got none"
    )
    one_line_error(
        choose_split, "a", "valid", ["train", "validation"], match=r"train, validation, got 'valid' \(did you mean val"
    )


def test_the_only_column_of_pictures_is_read():
    assert choose_image("a", None, {"n": NUMBER, "img": PICTURE}) == "img"
    assert choose_image("a", "mask", {"image": PICTURE, "mask": PICTURE}) == "mask"


@pytest.mark.parametrize(
    ("wanted", "there", "match"),
    [
        (None, {"n": NUMBER}, r"^a: expected a column of pictures, got n \(int64\)$"),
        ("n", {"n": NUMBER}, r"^a: expected a column of pictures, got n \(int64\)$"),
        (
            None,
            {"image": PICTURE, "mask": PICTURE},
            "^a: expected one column of pictures, got image, mask: name one by",
        ),
        ("imag", {"image": PICTURE, "n": NUMBER}, r"one of the columns image, n, got 'imag' \(did you mean image\?\)"),
        ("n", {"image": PICTURE, "n": NUMBER}, "expected a column of pictures, image, got n, a column of int64$"),
    ],
)
def test_columns_without_pictures(wanted, there, match):
    one_line_error(choose_image, "a", wanted, there, match=match)


def test_columns_of_labels():
    assert choose_label("a", None, {"n": LABEL, "kind": CLASS}) == "kind"
    assert choose_label("a", None, {"n": LABEL, "label": LABEL}) == "label"
    assert choose_label("a", None, {"n": LABEL, "label": NUMBER}) is None
    assert choose_label("a", "n", {"n": LABEL, "kind": CLASS}) == "n"
    one_line_error(
        choose_label, "a", "image", {"image": PICTURE}, match="expected a column of labels, got image, of pic"
    )
    one_line_error(choose_label, "a", "lable", {"label": LABEL}, match=r"got 'lable' \(did you mean label\?\)")
    with pytest.warns(Notice, match="^a: labels are left out: any of fine, coarse may be meant: name one by label_key"):
        assert choose_label("a", None, {"fine": CLASS, "coarse": CLASS}) is None


def test_labels_are_numbers_or_words():
    assert number_labels("a", np.array([True, False]), None)[0].tolist() == [1, 0]
    labels, classes = number_labels("a", np.array([2, 0, 1]), ("x", "y", "z"))
    assert labels.tolist() == [2, 0, 1] and labels.dtype == np.int32 and classes == ("x", "y", "z")
    labels, classes = number_labels("a", np.array(["dog", "cat", "dog"], object), None)
    assert labels.tolist() == [1, 0, 1] and classes == ("cat", "dog")
    one_line_error(number_labels, "a", np.array([0, 3]), ("x", "y", "z"), match="labels of 3 classes, got 3")
    one_line_error(number_labels, "a", np.array([0.5, 1]), None, match="expected 2 labels, integers from 0")


@pytest.mark.parametrize("values", [np.array([-1, 0, -1]), np.array([np.nan, 1, np.nan]), np.array([None, "x", None])])
def test_labels_of_some_images_are_none(values):
    with pytest.warns(Notice, match="^a: labels are left out: 2 of 3 images have not one"):
        assert number_labels("a", values, None) == (None, None)


# Names


def test_names_of_libraries(tmp_path, monkeypatch):
    assert find_library("hf:a/b") == LibraryName("hf", "a/b", None)
    assert find_library("hf:a/b:test") == LibraryName("hf", "a/b", "test")
    assert find_library("cifar10:test") is None
    folder = tmp_path / "saved:1"
    folder.mkdir()
    for name in ("state.json", "dataset_info.json"):
        assert find_library(f"{folder}:test") is None
        (folder / name).write_text("{}")
    assert find_library(str(folder)) == LibraryName("hf", str(folder), None)
    assert find_library(f"{folder}:test") == LibraryName("hf", str(folder), "test")
    one_line_error(
        open_library, LibraryName("hf", "", None), Keys(), match="^hf: expected the name of a data set after"
    )


def test_other_sources_have_no_columns(tmp_path):
    Image.fromarray(random_image(8, 8, 3)).save(tmp_path / "a.png")
    assert len(open_data(tmp_path, Keys())) == 1
    one_line_error(open_data, tmp_path, Keys(image="image"), match="expected a data set with columns")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    one_line_error(open_source, "hf:a", match="^a: expected the package datasets, got none .*: pip install datasets")


# Pictures


def records(images, missing=()):
    """Records that count how many pictures were read at once."""
    reads = []

    def fetch(rows):
        reads.append(len(rows))
        return [None if row in missing else png(images[row]) for row in rows]

    return Records("a", fetch, np.arange(len(images))), reads


def test_few_pictures_are_in_memory_at_once():
    images = random_image(3 * READ_AT_ONCE + 1, 8, 8, 3)
    pictures, reads = records(images)
    source = Source("a", pictures)
    assert not source.are_tokens and len(source) == len(images) and not reads
    parts = list(encode(source, np.arange(len(source)), Encoder(8), workers=2))
    np.testing.assert_array_equal(np.concatenate([part.rows for part in parts]), images)
    assert max(reads) == READ_AT_ONCE and sum(reads) == len(images)


def test_pictures_in_any_order():
    images = random_image(5, 8, 8, 3)
    pictures, _ = records(images)
    source = Source("a", pictures[1:])
    examples = np.array([3, 0, 0])
    np.testing.assert_array_equal(Encoder(8)(examples, source.part(examples)).rows, images[[4, 1, 1]])


def test_trainings_on_pictures_read_them_in_any_order():
    images = random_image(5, 8, 8, 3)
    with pytest.warns(SkippedWarning, match="a: skipped 1 of 5 pictures, which cannot be read: a, image 2"):
        rows = ImageRows(Source("a", records(images, missing=(2,))[0]), 8)
    assert rows.size == (8, 8) and rows.fingerprint
    np.testing.assert_array_equal(rows[np.array([3, 0])], images[[4, 0]])


def test_a_missing_or_damaged_picture_is_named_and_skipped(tmp_path):
    pictures, _ = records(random_image(3, 8, 8, 3), missing=(1,))
    found = Encoder(8)(np.arange(3), pictures)
    assert found.problems == ["a, image 1: expected a picture, got none"] and found.examples.tolist() == [0, 2]
    damaged = Records("a", lambda rows: [b"no picture", b"", tmp_path / "none.png"], np.arange(3))
    for number, line in enumerate(Encoder(8)(np.arange(3), damaged).problems):
        assert line.startswith(f"a, image {number}: ") and "expected an image file" in line


def test_a_fingerprint_tells_pictures_and_labels_apart():
    images = random_image(3, 8, 8, 3)
    pictures, _ = records(images)
    others, _ = records(images[[0, 2, 1]])
    labels = np.zeros(3, np.int32)
    sources = [Source("a", pictures), Source("a", others), Source("a", pictures[:2]), Source("a", pictures, labels)]
    assert len({source.fingerprint() for source in sources}) == 4
    assert Source("b", records(images)[0]).fingerprint() == sources[0].fingerprint()


# Consent


def test_licence_size_and_number_are_said_and_asked_about():
    allow_downloads(False)
    with pytest.warns(Notice, match=r"^hf:a: 70,000 examples, 17.0 MB to download, licence mit$"):
        one_line_error(require_consent, "hf:a", 17_000_000, 70_000, "mit", match="^hf:a: expected .*: download it with")
    allow_downloads()
    try:
        with pytest.warns(
            Notice, match="a number of examples that is not said, of a size that is not said, no licence"
        ):
            require_consent("hf:a", None, None, None)
    finally:
        allow_downloads(False)
