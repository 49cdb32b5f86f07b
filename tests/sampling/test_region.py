"""Which part of an image is given: rows, a box, a mask."""

import numpy as np
import pytest

from examples import one_line_error
from igpt_tf.errors import Notice, UsageError, UserError
from igpt_tf.pictures.crop import resize_and_crop
from igpt_tf.sampling.region import known_by_mask, known_outside_box, known_rows


def picture(known):
    """Booleans (T,) as rows of text, # where a pixel is given."""
    side = int(len(known) ** 0.5)
    return ["".join("#" if given else "." for given in row) for row in known.reshape(side, side)]


def test_rows():
    assert picture(known_rows(3, 2)) == ["###", "###", "..."]
    assert not known_rows(3, 0).any() and known_rows(3, 3).all()


@pytest.mark.parametrize("rows", [-1, 4])
def test_rows_outside_the_image_are_refused(rows):
    with pytest.raises(UsageError, match="expected `rows` from 0 to 3, as images are 3 pixels high, got"):
        known_rows(3, rows)


def test_parts_of_pixels_are_refused():
    with pytest.raises(UsageError, match=r"expected `rows` as a whole number, got 3\.5"):
        known_rows(8, 3.5)
    with pytest.raises(UsageError, match=r"expected `x` as a whole number, got 0\.5"):
        known_outside_box(8, 0.5, 0, 2, 2)
    assert picture(known_rows(np.int64(3), np.int32(2))) == picture(known_rows(3, 2))


def test_a_box_is_x_to_the_right_and_y_down():
    assert picture(known_outside_box(5, 1, 2, 3, 2)) == ["#####", "#####", "#...#", "#...#", "#####"]
    assert picture(known_outside_box(3, 2, 0, 1, 3)) == ["##.", "##.", "##."]
    assert not known_outside_box(3, 0, 0, 3, 3).any()


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (0, 0, 1, -1), (-1, 0, 2, 2), (0, 3, 1, 1), (2, 0, 2, 1), (0, 1, 1, 3)])
def test_a_box_that_is_empty_or_leaves_the_image_is_refused(box):
    with pytest.raises(UsageError) as error:
        known_outside_box(3, *box)
    assert "3 x 3" in str(error.value) and ",".join(map(str, box)) in str(error.value)


def test_white_of_a_mask_is_to_be_filled():
    mask = np.array([[0, 127, 128], [255, 0, 0], [0, 0, 0]], "uint8")
    expected = ["##.", ".##", "###"]
    assert picture(known_by_mask(mask, 3)) == expected
    assert picture(known_by_mask(mask[..., None], 3)) == expected
    assert picture(known_by_mask(mask[..., None].repeat(3, axis=2), 3)) == expected
    assert picture(known_by_mask(mask > 127, 3)) == expected


def layer(*rows):
    """A mask of characters: W white, B black, T transparent, w half-transparent white."""
    colors = {"W": (255,) * 4, "B": (0, 0, 0, 255), "T": (0, 0, 0, 0), "w": (255, 255, 255, 140)}
    return np.array([[colors[character] for character in row] for row in rows], "uint8")


def test_transparent_parts_of_a_mask_are_to_be_filled_where_black_is_painted():
    mask = np.zeros((2, 2, 4), "uint8")
    mask[..., 3] = [[255, 0], [128, 127]]
    with pytest.warns(Notice, match="transparent parts of the mask are drawn, and its painted parts are kept"):
        assert picture(known_by_mask(mask, 2)) == ["#.", "#."]
    with pytest.warns(Notice, match="transparent parts of the mask are drawn, as white ones are"):
        assert picture(known_by_mask(layer("BBT", "BWT", "BBT"), 3)) == ["##.", "#..", "##."]


def test_white_strokes_on_a_transparent_layer_are_to_be_filled():
    with pytest.warns(Notice, match="the white of the mask is drawn, and its transparent parts are kept") as caught:
        assert picture(known_by_mask(layer("TTT", "TWw", "TTT"), 3)) == ["###", "#..", "###"]
    assert len(caught) == 1
    # However little is left transparent, as long as it is no hole.
    with pytest.warns(Notice, match="the white of the mask is drawn"):
        assert picture(known_by_mask(layer("WWW", "WWT", "WWW"), 3)) == ["...", "..#", "..."]


@pytest.mark.parametrize(("rows", "match"), [(("WWW", "WTW", "WWW"), "can mean either"), (("TT", "TT"), "transparent")])
def test_a_mask_that_can_mean_either_is_refused(rows, match):
    one_line_error(known_by_mask, layer(*rows), len(rows), match=match)


def test_a_mask_is_resized_and_cropped_as_the_picture_is():
    """A blob that a picture shows and the mask that covers it meet in the same pixels."""
    image = np.zeros((60, 100, 3), "uint8")
    image[12:31, 45:74] = 255
    shown = resize_and_crop(image, 10)[..., 0] >= 128
    known = known_by_mask(image, 10)
    np.testing.assert_array_equal(~known.reshape(10, 10), shown)
    # The square begins at column 20, and 6 pixels become 1: rows 2 to 5.2 and columns 4.2 to 9.
    assert known_by_mask(image, 10).reshape(10, 10)[2, 4] == 0 and known[:20].all() and shown.sum() == 15


def test_a_mask_that_is_white_is_a_whole_image_to_draw():
    for mask in (np.full((7, 9), 255, "uint8"), np.full((7, 9, 4), 255, "uint8")):
        with pytest.warns(Notice, match="leaves nothing of a picture to keep"):
            assert not known_by_mask(mask, 4).any()


def test_a_mask_without_white_is_refused():
    outside = np.zeros((4, 100), "uint8")
    outside[:, :20] = 255
    for mask in (np.zeros((5, 5), "uint8"), outside):
        with pytest.raises(UserError, match="white"):
            known_by_mask(mask, 4)


def test_a_mask_of_zeros_and_ones_is_told_from_a_black_one():
    with pytest.raises(UserError, match=r"got 1 at most .* mask\.astype\(bool\)"):
        known_by_mask(np.eye(4, dtype="uint8"), 4)
    with pytest.raises(UserError, match=r"128 and more.* got 127 at most") as error:
        known_by_mask(np.full((4, 4), 127, "uint8"), 4)
    assert "astype" not in str(error.value)


@pytest.mark.parametrize(
    "mask", [np.zeros((3, 3)), np.zeros(9, "uint8"), np.zeros((3, 3, 2), "uint8"), np.zeros((0, 3), bool)]
)
def test_an_array_that_is_no_mask_is_refused(mask):
    with pytest.raises(UserError, match="uint8, or booleans") as error:
        known_by_mask(mask, 3)
    assert str(mask.shape) in str(error.value)
