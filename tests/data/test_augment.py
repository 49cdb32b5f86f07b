"""Augmentation: the same as on pixels, and decided by seed, pass and example alone."""

import numpy as np
import pytest

from igpt_tf.data.augment import NAMES, Augmentation, generators_of
from igpt_tf.errors import UsageError, UserError
from igpt_tf.pictures.palette import Palette

N_PX = 8


def slow_augment(image, names, generator):
    """One image (n_px, n_px, ...) at a time, by np.pad and slices."""
    flip = "flip" in names and generator.integers(2)
    if "crop" in names:
        down, right = generator.integers(-4, 5, 2) + 4
        padding = [(4, 4), (4, 4)] + [(0, 0)] * (image.ndim - 2)
        image = np.pad(image, padding, mode="reflect")[down : down + N_PX, right : right + N_PX]
    return image[:, ::-1] if flip else image


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, N_PX, N_PX, 3), dtype=np.uint8)


@pytest.mark.parametrize("names", [(), ("flip",), ("crop",), NAMES])
def test_tokens_are_augmented_as_pixels_are(images, names):
    palette = Palette(np.random.default_rng(1).uniform(-1, 1, (30, 3)))
    found = Augmentation(names, N_PX)(palette.quantize(images), generators_of(3, 0, range(40)))
    slow = [slow_augment(image, names, rng) for image, rng in zip(images, generators_of(3, 0, range(40)), strict=True)]
    np.testing.assert_array_equal(found, palette.quantize(np.stack(slow)))


def test_half_the_images_are_flipped_and_every_crop_happens():
    tokens = np.arange(N_PX**2)[None].repeat(4000, axis=0).astype(np.uint16)
    flipped = Augmentation(["flip"], N_PX)(tokens, generators_of(0, 0, range(4000)))
    assert flipped.dtype == np.uint16
    # 5 standard deviations of 4000 tosses are 158.
    assert abs((flipped[:, 0] == N_PX - 1).sum() - 2000) < 158
    cropped = Augmentation(["crop"], N_PX)(tokens, generators_of(0, 0, range(4000)))
    assert len(np.unique(cropped, axis=0)) == 81


def test_what_is_drawn_depends_on_seed_pass_and_example_alone():
    tokens = np.random.default_rng(0).integers(0, 9, (20, N_PX**2))
    augment = Augmentation(NAMES, N_PX)
    whole = augment(tokens, generators_of(5, 2, range(20)))
    for part in ([3], [17, 3, 4], range(10, 20)):
        np.testing.assert_array_equal(augment(tokens[list(part)], generators_of(5, 2, part)), whole[list(part)])
    assert (whole != augment(tokens, generators_of(5, 3, range(20)))).any()
    assert (whole != augment(tokens, generators_of(6, 2, range(20)))).any()


def test_names_in_any_order_are_one_augmentation():
    assert Augmentation(["crop", "flip"], N_PX).names == Augmentation(["flip", "crop"], N_PX).names == NAMES


def test_mistakes():
    with pytest.raises(UsageError, match="among flip, crop, got 'rotate'"):
        Augmentation(["rotate"], N_PX)
    with pytest.raises(UserError, match="wider than 4 pixels for crops, got n_px 4"):
        Augmentation(["crop"], 4)
    with pytest.raises(UserError, match=r"\(n, 64\)"):
        Augmentation(["flip"], N_PX)(np.zeros((1, 49), int), generators_of(0, 0, [0]))
    with pytest.raises(UserError, match="got \\(2, 64\\) and 1 generators"):
        Augmentation(["flip"], N_PX)(np.zeros((2, 64), int), generators_of(0, 0, [0]))
