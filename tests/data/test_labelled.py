"""Labelled images: found in stores and sources alike, and refused in one line where labels mean nothing."""

import numpy as np
import pytest

from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.open import open_data, read_labelled, read_tokens
from igpt_tf.data.sources.open import open_source
from igpt_tf.data.split import hold_out
from igpt_tf.data.store.store import tokenize
from igpt_tf.errors import UserError
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
