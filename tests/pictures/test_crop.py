"""Squares of images: exact where nothing is resized, close to the paper's steps where something is."""

import numpy as np
import pytest
from PIL import Image

from examples import one_line_error, random_image
from igpt_tf.pictures.crop import random_resized_crop, resize_and_crop


def pixels(*colors):
    """Return one row of colours as (1, n, channels) uint8."""
    return np.array([colors], np.uint8)


def test_resize_leaves_the_right_size_alone():
    image = random_image(32, 32, 3)
    result = resize_and_crop(image, 32)
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)


def test_crop_is_central_and_exact_when_the_shorter_side_fits():
    image = random_image(32, 51, 3)
    np.testing.assert_array_equal(resize_and_crop(image, 32), image[:, 9:41])
    np.testing.assert_array_equal(resize_and_crop(image.swapaxes(0, 1), 32), image.swapaxes(0, 1)[9:41])


@pytest.mark.parametrize(("height", "width"), [(100, 160), (160, 100), (20, 32), (64, 64)])
def test_resize_then_crop_gives_the_same(height, width):
    """The usual order, shorter side first, on a smooth image."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([y * 255 / height, x * 255 / width, (x + y) * 127 / width], -1).clip(0, 255).astype(np.uint8)
    n_px = 32
    scale = n_px / min(height, width)
    size = round(width * scale), round(height * scale)
    resized = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (size[1] - n_px) // 2, (size[0] - n_px) // 2
    expected = resized[top : top + n_px, left : left + n_px]
    result = resize_and_crop(image, n_px)
    assert result.shape == (n_px, n_px, 3)
    np.testing.assert_allclose(result.astype(int), expected, atol=8)


def test_shrinking_averages_what_it_leaves_out():
    board = np.indices((256, 256)).sum(0) % 2 * 255
    image = np.broadcast_to(board[..., None], (256, 256, 3)).astype(np.uint8)
    result = resize_and_crop(image, 8)
    assert abs(result.astype(int) - 127).max() <= 6


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 100_000, 3), (100_000, 1, 3), (2, 3, 3)])
def test_extreme_shapes(shape):
    result = resize_and_crop(np.full(shape, (10, 200, 90), np.uint8), 16)
    np.testing.assert_array_equal(result, np.broadcast_to(pixels((10, 200, 90)), (16, 16, 3)))


@pytest.mark.parametrize(
    ("image", "n_px", "match"),
    [
        (np.zeros((4, 4), np.uint8), 4, r"got \(4, 4\) uint8"),
        (np.zeros((4, 4, 4), np.uint8), 4, r"got \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), 4, "float32"),
        (np.zeros((0, 4, 3), np.uint8), 4, r"got \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), 0, "n_px of at least 1, got 0"),
    ],
)
def test_resize_refuses(image, n_px, match):
    one_line_error(resize_and_crop, image, n_px, match=match)


def test_a_random_resized_crop_is_what_resize_crop_resize_gives():
    """Of a smooth picture: the paper's three steps, one after another."""
    height, width = 300, 420
    y, x = np.mgrid[:height, :width]
    image = np.stack([y * 255 / height, x * 255 / width, (x + y) * 127 / width], -1).clip(0, 255).astype(np.uint8)
    for seed in range(5):
        generator = np.random.default_rng(seed)
        side = int(generator.integers(256, 385))
        size = round(width * side / height), side
        large = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        top, left = generator.integers(side - 223), generator.integers(size[0] - 223)
        cut = large[top : top + 224, left : left + 224]
        expected = np.array(Image.fromarray(cut).resize((16, 16), Image.Resampling.BICUBIC))
        found = random_resized_crop(image, 16, np.random.default_rng(seed))
        np.testing.assert_allclose(found.astype(int), expected, atol=3)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (32, 32, 3), (224, 224, 3), (700, 20, 3)])
def test_pictures_of_any_size_can_be_cropped(shape):
    image = np.full(shape, (10, 200, 90), np.uint8)
    for seed in range(20):
        cut = random_resized_crop(image, 8, np.random.default_rng(seed))
        np.testing.assert_array_equal(cut, np.broadcast_to(np.array([10, 200, 90], np.uint8), (8, 8, 3)))


def test_random_crops_refuse():
    one_line_error(random_resized_crop, np.zeros((4, 4, 3)), 2, np.random.default_rng(0), match="float64")
