"""The library's own way from files to arrays and back."""

import imageio.v3 as imageio
import numpy as np

import igpt_tf as igpt
from examples import TINY, one_line_error, random_image


def test_pictures_come_back(tmp_path):
    images = random_image(3, 8, 8, 3)
    paths = igpt.save_images(tmp_path / "new", images)
    assert [path.name for path in paths] == ["image_0.png", "image_1.png", "image_2.png"]
    np.testing.assert_array_equal(igpt.load_images(paths, 8), images)
    np.testing.assert_array_equal(igpt.load_images(tmp_path / "new", 8), images)
    np.testing.assert_array_equal(igpt.load_images(str(paths[1]), n_px=8), images[1:2])
    assert igpt.load_images(paths[0]).shape == (1, 32, 32, 3)
    one_line_error(igpt.load_images, [], match="expected the path of a picture, got none")
    one_line_error(igpt.load_images, tmp_path / "missing", match="missing: expected an image file")


def test_grids_and_films(tmp_path):
    images = random_image(5, 8, 8, 3)
    assert igpt.grid(images).shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    assert igpt.grid(images, columns=5, pad=0, scale=2).shape == (16, 80, 3)
    one_line_error(igpt.grid, images[:0], match="expected an image and at least 1 column")
    igpt.save_gif(tmp_path / "film.gif", images, scale=2)
    assert imageio.imread(tmp_path / "film.gif").shape == (5, 16, 16, 3)


def test_pictures_of_another_size_are_refused_where_they_enter(tiny_model, palette):
    one_line_error(palette.quantize, random_image(2, 10, 12, 3), match="square images, got 10 x 12 pixels")
    tokens = palette.quantize(random_image(2, 10, 10, 3))
    known = np.ones(tokens.shape, bool)
    for function, more in ((igpt.score, ()), (igpt.evaluate, ()), (igpt.complete, (known,))):
        expected = rf"expected tokens of shape \(\w+, {TINY.n_tokens}\).*: resize the pictures to 8 x 8 first"
        one_line_error(function, tiny_model, tokens, *more, match=expected)
