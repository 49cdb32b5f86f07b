"""Codebooks: exact codes, files, pictures, and one line for what does not fit."""

import dataclasses
import json

import numpy as np
import pytest

from examples import one_line_error, randomise
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.codebook import Codebook, row_by_row
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.fsq import ScalarQuantizer
from igpt_tf.latent.nearest_units import nearest_units, two_nearest_units
from igpt_tf.latent.patches import cut, join

TINY = AutoencoderConfig(min_channel=4, max_channel=4, num_layers=1, latent_channel=3, num_res_blocks=1)
RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(5, 4, 6, 3)).astype("float32")


def codebook(n_units=12, patch=(2, 3), digest="a", seed=1, **fields):
    units = np.random.default_rng(seed).normal(size=(n_units, patch[0] * patch[1] * 3)).astype("float32")
    return Codebook(units, *patch, (3, n_units // 3), row_by_row(n_units, (3, n_units // 3)), digest, **fields)


def test_patches_are_cut_row_by_row_and_joined():
    vectors = cut(MAPS, 2, 3)
    assert vectors.shape == (5, 4, 18)
    for place, (top, left) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3)]):
        np.testing.assert_array_equal(vectors[:, place], MAPS[:, top : top + 2, left : left + 3].reshape(5, -1))
    np.testing.assert_array_equal(join(vectors, 4, 6, 2, 3), MAPS)
    one_line_error(cut, MAPS, 3, 1, match="patches of 3 x 1 divide, got 4 x 6")
    one_line_error(join, vectors, 4, 9, 2, 3, match="expected 6 patches of a map of 4 x 9, got 4")


def test_the_nearest_units_are_those_of_brute_force(monkeypatch):
    vectors = RNG.normal(size=(300, 7)).astype("float32")
    units = RNG.normal(size=(40, 7)).astype("float32")
    monkeypatch.setattr("igpt_tf.latent.nearest_units.MOST_DISTANCES", 4000)
    distances = np.square(vectors[:, None].astype(float) - units[None]).sum(2)
    found = nearest_units(vectors, units)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, distances.argmin(1))
    np.testing.assert_array_equal(two_nearest_units(vectors, units), distances.argsort(1)[:, :2])
    # Of equal units the first, and of no vectors nothing.
    assert nearest_units(units[:1], np.repeat(units, 2, axis=0)).tolist() == [0]
    assert nearest_units(vectors[:0], units).shape == (0,)


def test_units_encode_to_themselves():
    book = codebook()
    codes = RNG.integers(0, 12, (7, 4)).astype("int32")
    maps = book.decode(codes, 4, 6)
    assert maps.shape == (7, 4, 6, 3) and maps.dtype == np.float32
    np.testing.assert_array_equal(book.encode(maps), codes)
    assert book.encode(MAPS).dtype == np.int32 and book.code_grid(4, 6) == (2, 2)
    whole = codebook(patch=(4, 6))
    assert whole.encode(MAPS).shape == (5, 1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_folder_has_the_codebook(tmp_path, dtype):
    for book in (
        codebook(about={"settings": {"seed": 3}}),
        codebook(
            9, (1, 1), method="fsq", scalar=ScalarQuantizer((3, 3), np.ones(3, "f"), np.full((3, 2), 0.5, "float32"))
        ),
    ):
        book.save(tmp_path, dtype)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["codebook.json", "model.safetensors"]
        found = Codebook.load(tmp_path)
        assert found.digest() == book.digest() and found.about == book.about and found.method == book.method
        np.testing.assert_allclose(found.units, book.units, atol=0 if dtype == "float32" else 2e-3)
        np.testing.assert_array_equal(found.positions, book.positions)
        assert dataclasses.astuple(found)[1:4] == dataclasses.astuple(book)[1:4]
        if dtype == "float32":
            np.testing.assert_array_equal(found.encode(MAPS), book.encode(MAPS))


def test_digests_tell_codebooks_apart():
    digests = {book.digest() for book in (codebook(), codebook(digest="b"), codebook(seed=2), codebook(patch=(3, 2)))}
    assert len(digests) == 4 and codebook().digest() in digests


@pytest.mark.both_backends
def test_a_picture_has_every_unit_in_the_order_of_the_grid():
    autoencoder = randomise(Autoencoder(TINY))
    book = dataclasses.replace(codebook(patch=(1, 1)), autoencoder=autoencoder.digest())
    picture = book.unit_picture(autoencoder, scale=3)
    assert picture.shape == (3 * 7 + 1, 4 * 7 + 1, 3) and picture.dtype == np.uint8
    # A unit among its copies far from any edge.
    plain = np.asarray(autoencoder.decode(np.tile(book.units[6], (1, 15, 15, 1))))[0, 14:16, 14:16]
    cell = picture[1 + 7 : 7 + 7 : 3, 1 + 14 : 7 + 14 : 3]
    np.testing.assert_allclose(cell, plain * 127.5 + 127.5, atol=0.51)
    holes = dataclasses.replace(book, units=book.units[1:], positions=book.positions[1:])
    assert (holes.unit_picture(autoencoder, 3)[:8, :8] == 255).all()
    other = randomise(Autoencoder(TINY), seed=1)
    one_line_error(book.unit_picture, other, match="codebook: expected it to be made with this autoencoder")


def test_codes_and_maps_that_do_not_fit():
    book = codebook()
    one_line_error(book.encode, MAPS[:, :3], match="patches of 2 x 3 divide, got 3 x 6")
    one_line_error(book.encode, MAPS[..., :2], match=r"expected maps \(N, height, width, 3\)")
    codes = np.zeros((2, 4), int)
    one_line_error(book.decode, codes + 12, 4, 6, match="codes from 0 to 11, got 12 to 12")
    one_line_error(book.decode, codes - 1, 4, 6, match="codes from 0 to 11, got -1 to -1")
    one_line_error(book.decode, codes[:, :3], 4, 6, match="expected 4 patches of a map of 4 x 6, got 3")
    one_line_error(book.decode, codes / 2, 4, 6, match="expected codes .N, T., integers")


def test_codebooks_that_cannot_be():
    book = codebook()
    one_line_error(dataclasses.replace, book, patch_H=5, match="expected units")
    one_line_error(dataclasses.replace, book, units=book.units * np.nan, match="expected finite units")
    one_line_error(dataclasses.replace, book, positions=book.positions * 0, match="12 different positions")
    one_line_error(dataclasses.replace, book, grid=(2, 4), match="on a grid of 2 x 4")


def test_folders_that_are_no_codebooks(tmp_path):
    one_line_error(Codebook.load, tmp_path, match="expected a JSON object with a codebook's shape, got nothing")
    codebook().save(tmp_path)
    path = tmp_path / "codebook.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in fields.items() if name != "grid"}))
    one_line_error(Codebook.load, tmp_path, match="expected a codebook's fields, got others")
    path.write_text(json.dumps({**fields, "shapes": {"units": [3, 18]}}))
    one_line_error(Codebook.load, tmp_path, match=r"expected units \(3, 18\), got \(12, 18\)")
    path.write_text(json.dumps({**fields, "positions": [[0, 0]]}))
    one_line_error(Codebook.load, tmp_path, match="12 different positions")
