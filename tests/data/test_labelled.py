"""Labelled images: found in stores and sources alike, and refused in one line where labels mean nothing."""

import contextlib

import numpy as np
import pytest
from PIL import Image

from examples import one_line_error
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.open import open_data, read_labelled, read_tokens
from igpt_tf.data.sources.open import open_source
from igpt_tf.data.split import hold_out
from igpt_tf.data.store.store import tokenize
from igpt_tf.errors import SkippedWarning, UserError
from igpt_tf.pictures.palette import Palette

PALETTE = Palette(np.random.default_rng(0).uniform(-1, 1, (11, 3)))


@pytest.fixture
def arrays(tmp_path):
    """An .npz of six 8x8 pictures with labels 0, 1 and 2."""
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=np.arange(6) % 3)
    return tmp_path / "data.npz"


def test_a_store_has_the_tokens_and_labels_of_its_source(arrays, tmp_path):
    tokenize(open_source(arrays), tmp_path / "store", PALETTE, 8)
    direct, stored = (
        read_labelled(open_data(path), 8, palette) for path, palette in ((arrays, PALETTE), (tmp_path / "store", None))
    )
    np.testing.assert_array_equal(direct.tokens[:], stored.tokens[:])
    assert direct.labels.tolist() == stored.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert direct.n_class == stored.n_class == 3 and len(stored) == 6


def test_images_without_labels_are_tokens_alone(tmp_path):
    np.save(tmp_path / "tokens.npy", np.zeros((2, 64), "int32"))
    images = open_data(tmp_path / "tokens.npy")
    assert read_tokens(images, 8, None, 11).shape == (2, 64)
    with pytest.raises(UserError, match="expected images with labels, got none: give a folder") as caught:
        read_labelled(images, 8, None, 11)
    assert "\n" not in str(caught.value)


def test_one_class_is_none(tmp_path):
    np.savez(tmp_path / "data.npz", x_train=np.zeros((2, 64), int), y_train=[4, 4])
    with pytest.raises(UserError, match="at least 2 classes, got label 4 alone"):
        read_labelled(open_data(tmp_path / "data.npz"), 8, None, 11)


@pytest.mark.parametrize(
    ("n_class", "classes", "match"),
    [(2, None, "labels from 0 to 1, got 2"), (3, ("a", "c", "b"), "expected the classes a, c, b, got a, b, c")],
)
def test_other_classes_are_refused(n_class, classes, match):
    labelled = LabelledTokens("x", np.zeros((3, 64), int), np.arange(3), ("a", "b", "c"))
    labelled.require_classes(3, ("a", "b", "c"))
    labelled.require_classes(3)
    with pytest.raises(UserError, match=match):
        labelled.require_classes(n_class, classes)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.arange(2), r"images: expected an integer label for each of 3 images, got labels int64 \(2,\)"),
        (np.eye(3), "got labels float64"),
        (np.array([0, -1, 1]), "images: expected labels from 0, got -1"),
    ],
)
def test_what_is_no_label_is_refused(labels, match):
    with pytest.raises(UserError, match=match):
        LabelledTokens("images", np.zeros((3, 64), int), labels)


def test_what_is_held_out_has_all_classes_in_proportion_and_the_rest_is_kept():
    labels = np.repeat([0, 1, 2], [40, 20, 10])
    data = LabelledTokens("x", np.arange(70 * 4).reshape(70, 4), labels)
    kept, held = (data.part(rows) for rows in hold_out(labels, 0.1, seed=1))
    assert np.bincount(held.labels).tolist() == [4, 2, 1]
    np.testing.assert_array_equal(np.sort(np.concatenate([kept.tokens.rows, held.tokens.rows])), np.arange(70))
    np.testing.assert_array_equal(held.tokens[:], data.tokens[held.tokens.rows])
    with pytest.raises(UserError, match="expected enough images to hold out 99 %"):
        hold_out(labels, 0.99, seed=1)


@pytest.mark.parametrize(
    ("labels", "classes", "numbers", "names"),
    [
        (np.arange(1, 27), None, np.arange(26), tuple(map(str, range(1, 27)))),
        ([20240102, 20231231], None, [1, 0], ("20231231", "20240102")),
        ([2, 0, 1], None, [2, 0, 1], None),
        ([2, 0, 2], ("a", "b", "c"), [1, 0, 1], ("a", "c")),
    ],
)
def test_there_are_as_many_classes_as_have_images(labels, classes, numbers, names):
    labelled = LabelledTokens("x", np.zeros((len(labels), 64), int), np.array(labels), classes)
    warns = pytest.warns(SkippedWarning, match="x: skipped 1 of 3 classes, which have no images: b")
    with warns if classes else contextlib.nullcontext():
        found = labelled.numbered()
    assert found.labels.tolist() == list(numbers) and found.classes == names
    assert found.n_class == len(set(numbers))


@pytest.mark.parametrize(
    ("own", "labels", "n_class", "classes", "expected"),
    [
        (("b", "c"), [0, 1], 3, ("a", "b", "c"), [1, 2]),  # by name
        (("b", "a"), [0, 1], 2, ("a", "b"), [1, 0]),
        (None, [1, 26], 26, tuple(map(str, range(1, 27))), [0, 25]),
        (None, [1, 2], 2, ("cat", "dog", "bird"), [1, 2]),  # numbers are places in a list of names
        (("1", "3"), [0, 1], 10, None, [1, 3]),  # and of classes without names
        (("cat", "dog"), [0, 1], 2, None, [0, 1]),
        (("a", "b", "c"), [0, 2], 2, ("a", "c"), [0, 1]),  # a class without images does not count
    ],
)
def test_labels_are_found_among_other_classes_by_name(own, labels, n_class, classes, expected):
    labelled = LabelledTokens("x", np.zeros((2, 64), int), np.array(labels), own)
    found = labelled.in_classes(n_class if classes is None else len(classes), classes)
    assert found.labels.tolist() == expected and found.classes == classes


@pytest.mark.parametrize(
    ("own", "labels", "n_class", "classes", "match"),
    [
        (("a", "d"), [0, 1], 2, ("a", "b"), "expected the classes a, b, got d: give"),
        (None, [0, 1], 2, ("1", "2"), "expected the classes 1, 2, got 0: give"),
        (None, [0, 5], 5, None, "labels from 0 to 4, got 5"),
        (("a", "b", "c"), [0, 2], 2, None, "labels from 0 to 1, got 2"),
    ],
)
def test_labels_of_no_such_class_are_refused(own, labels, n_class, classes, match):
    labelled = LabelledTokens("x", np.zeros((2, 64), int), np.array(labels), own)
    one_line_error(labelled.in_classes, n_class, classes, match=match)


def test_a_class_whose_images_cannot_be_read_is_dropped(tmp_path):
    for place in ("1/a.png", "2/a.png", "10/a.png"):
        (tmp_path / place).parent.mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / place)
    assert read_labelled(open_data(tmp_path), 8, PALETTE).classes == ("1", "2", "10")
    (tmp_path / "2/a.png").write_bytes(b"nonsense")
    with pytest.warns(SkippedWarning, match="skipped 1 of 3 pictures, which cannot be read: .*2/a.png"):
        labelled = read_labelled(open_data(tmp_path), 8, PALETTE)
    assert labelled.classes == ("1", "10") and labelled.labels.tolist() == [0, 1]
    (tmp_path / "1/a.png").write_bytes(b"nonsense")
    with pytest.warns(SkippedWarning):
        one_line_error(read_labelled, open_data(tmp_path), 8, PALETTE, match="at least 2 classes, got label 10 alone")
