"""Training codebooks: exact steps, an order on the grid, dead units, reports, pruning."""

import dataclasses

import numpy as np
import pytest

from examples import one_line_error, random_image, randomise
from igpt_tf.data.sources.open import Source
from igpt_tf.errors import UsageError
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.codebook import Codebook, row_by_row
from igpt_tf.latent.codebook_report import codebook_psnr, prune, report_codebook
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.fsq import all_codes, bound, codes_of, levels_for, quantize
from igpt_tf.latent.maps import encode_source
from igpt_tf.latent.settings import CodebookSettings
from igpt_tf.latent.som import SelfOrganisingMap, sort_on_grid, train_som
from igpt_tf.latent.train_codebook import train_codebook

TINY = AutoencoderConfig(min_channel=4, max_channel=4, num_layers=1, latent_channel=3, num_res_blocks=1)
SETTINGS = CodebookSettings(num_embeddings=16, steps=60, batch_size=200, neighbourhood_step=4, seed=3)


@pytest.fixture(scope="module")
def autoencoder():
    return randomise(Autoencoder(TINY))


@pytest.fixture(scope="module")
def store(autoencoder, tmp_path_factory):
    return encode_source(autoencoder, Source("images", random_image(60, 16, 8, 3)), tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("width", [0, 1.3])
def test_a_step_is_that_of_a_loop(width):
    rng = np.random.default_rng(0)
    units, positions = rng.normal(size=(6, 4)).astype("float32"), row_by_row(6, (2, 3))
    som = SelfOrganisingMap(units, positions, 0.9, rng)
    counts, sums, expected = np.zeros(6), np.zeros((6, 4)), units.astype(float)
    for _ in range(3):
        vectors = rng.normal(size=(50, 4)).astype("float32")
        new_counts, new_sums = np.zeros(6), np.zeros((6, 4))
        for vector in vectors:
            winner = np.square(expected - vector).sum(1).argmin()
            for k in range(6):
                far = np.square(positions[k] - positions[winner]).sum()
                share = float(k == winner) if not width else np.exp(-far / (2 * width**2))
                new_counts[k] += share
                new_sums[k] += share * vector
        counts = 0.9 * counts + 0.1 * new_counts
        sums = 0.9 * sums + 0.1 * new_sums
        expected = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1e-12)[:, None], expected)
        som.step(vectors, width)
        np.testing.assert_allclose(som.units, expected, rtol=1e-5)


def test_dead_units_are_replaced_by_data():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(100, 2)).astype("float32")
    units = np.concatenate([vectors[:3], np.full((2, 2), 99, "float32")])
    som = SelfOrganisingMap(units, row_by_row(5, (1, 5)), 0.5, rng)
    som.step(vectors, 0)
    before = som.units.copy()
    assert som.reseed(vectors) == 2
    np.testing.assert_array_equal(som.units[:3], before[:3])
    for unit in som.units[3:]:
        assert (vectors == unit).all(1).any()
    som.step(vectors, 0)
    assert som.reseed(vectors) == 0


def test_a_map_unfolds_on_its_grid():
    """On uniform points of a square, nearly all points have neighbouring units as their two nearest."""
    rng = np.random.default_rng(0)
    positions = row_by_row(36, (6, 6))
    som = SelfOrganisingMap(sort_on_grid(rng.random((36, 2)), (6, 6)), positions, 0.9, rng)
    train_som(som, (rng.random((500, 2), "float32") for _ in range(200)), 200, 3, 5)
    book = Codebook(som.units, 1, 1, (6, 6), positions, "a")
    report = report_codebook(book, rng.random((1, 40, 40, 2), "float32"))
    assert report.used == 1 and report.topographic_error < 0.1 and report.perplexity > 30
    shuffled = dataclasses.replace(book, positions=rng.permutation(positions))
    assert report_codebook(shuffled, rng.random((1, 40, 40, 2), "float32")).topographic_error > 0.5


@pytest.mark.parametrize("method", ["som", "k-means", "vq", "fsq"])
def test_methods_agree_in_what_they_return(store, method):
    settings = dataclasses.replace(SETTINGS, method=method)
    book = train_codebook(store, settings)
    assert book.units.shape == (16, 3) and book.grid == (4, 4) and book.autoencoder == store.autoencoder
    codes = book.encode(store[:])
    assert codes.shape == (60, 32) and codes.min() >= 0 and codes.max() < 16
    report = report_codebook(book, store)
    assert report.explained > 0.6 and report.used > 0.7
    again = train_codebook(store, settings)
    assert again.digest() == book.digest()
    assert train_codebook(store, dataclasses.replace(settings, seed=4)).digest() != book.digest()


def test_patches_of_the_whole_map_and_lines_of_units(store):
    settings = dataclasses.replace(SETTINGS, patch_H=8, patch_W=4, grid_rows=1, num_embeddings=5)
    book = train_codebook(store, settings)
    assert book.units.shape == (5, 96) and book.grid == (1, 5) and book.encode(store[:3]).shape == (3, 1)


def test_report_of_a_known_codebook():
    units = np.array([[0.0], [1], [5]], "float32")
    book = Codebook(units, 1, 1, (1, 3), row_by_row(3, (1, 3)), "a")
    maps = np.array([0, 0, 1.25, 0.75], "float32").reshape(1, 2, 2, 1)
    report = report_codebook(book, maps)
    assert report.quantisation_error == pytest.approx(0.125)
    assert report.explained == pytest.approx(1 - 0.125 / (4 * maps.var()))
    assert report.used == pytest.approx(2 / 3) and report.perplexity == pytest.approx(2)
    assert report.topographic_error == 0


@pytest.mark.both_backends
def test_a_codebook_of_every_patch_costs_nothing(autoencoder):
    images = random_image(2, 4, 4, 3)
    maps = np.asarray(autoencoder.encode(images.astype("float32") / 127.5 - 1))
    units = maps.reshape(-1, 3)
    book = Codebook(units, 1, 1, (1, 8), row_by_row(8, (1, 8)), autoencoder.digest())
    through = np.asarray(autoencoder.decode(maps)) * 127.5 + 127.5
    errors = np.square(np.round(np.clip(through, 0, 255)) - images).mean((1, 2, 3))
    assert codebook_psnr(book, autoencoder, images) == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), abs=0.01)


def test_pruning_renumbers_what_is_left(store):
    book = train_codebook(store, SETTINGS)
    codes = book.encode_store(store)
    counts = np.bincount(codes.reshape(-1), minlength=16)
    threshold = int(np.median(counts))
    smaller, mapping = prune(book, codes, threshold)
    kept = np.flatnonzero(counts >= threshold)
    np.testing.assert_array_equal(smaller.units, book.units[kept])
    np.testing.assert_array_equal(smaller.positions, book.positions[kept])
    np.testing.assert_array_equal(mapping[kept], np.arange(len(kept)))
    assert smaller.digest() != book.digest() and smaller.about["pruned"] == {"threshold": threshold, "units": 16}
    # A patch whose unit stays keeps it.
    found, stays = smaller.encode(store[:]), np.isin(codes, kept)
    np.testing.assert_array_equal(found[stays], mapping[codes[stays]])
    one_line_error(prune, book, codes, 10**6, match="expected a threshold that leaves units")
    scalar = train_codebook(store, dataclasses.replace(SETTINGS, method="fsq"))
    one_line_error(prune, scalar, codes, 1, match="got fsq")


def test_levels_are_those_of_the_paper():
    levels = (3, 5, 4)
    numbers = np.random.default_rng(0).normal(size=(200, 3)) * 2
    found = quantize(numbers, levels)
    for row, z in zip(found, numbers, strict=True):
        for value, n_levels, number in zip(row, levels, z, strict=True):
            half = (n_levels - 1) * (1 - 1e-3) / 2
            offset = 0.0 if n_levels % 2 else 0.5
            bounded = np.tanh(number + np.tan(offset / half)) * half - offset
            assert value == round(bounded) / (n_levels // 2)
    codes = codes_of(found, levels)
    assert codes.min() == 0 and codes.max() == 59
    np.testing.assert_allclose(all_codes(levels)[codes], found)
    np.testing.assert_array_equal(codes_of(all_codes(levels), levels), np.arange(60))
    # Far numbers stay within the levels.
    assert np.abs(bound(np.full((1, 3), 1e3), levels)).max() < 2


@pytest.mark.parametrize(
    ("n_codes", "levels"),
    [(4, (4,)), (8, (8,)), (16, (4, 4)), (512, (8, 8, 8)), (256, (8, 8, 4)), (1024, (8, 8, 4, 4))],
)
def test_powers_of_two_have_levels(n_codes, levels):
    assert levels_for(n_codes) == levels


def test_mistakes_in_settings_and_maps(store):
    for fields, match in [
        ({"num_embeddings": 0}, "expected `num_embeddings` to be at least 1, got 0"),
        ({"method": "kmeans"}, "expected one of som, k-means, vq, fsq, got 'kmeans'"),
        ({"grid_rows": 3}, "rows that divide 16 units, got 3"),
        ({"levels": (3, 5)}, "whose product is num_embeddings 16"),
        ({"decay": 1.0}, "expected `decay` to be below 1"),
    ]:
        with pytest.raises(UsageError, match=match):
            dataclasses.replace(SETTINGS, **fields)
    one_line_error(train_codebook, store, dataclasses.replace(SETTINGS, patch_H=3), match="patches of 3 x 1 divide")
    many = dataclasses.replace(SETTINGS, patch_H=8, patch_W=4, num_embeddings=64)
    one_line_error(train_codebook, store, many, match="at least 64 different patches for as many units, got 60")
    odd = dataclasses.replace(SETTINGS, method="fsq", num_embeddings=15)
    one_line_error(train_codebook, store, odd, match="power of two")
    deep = dataclasses.replace(SETTINGS, method="fsq", levels=(2, 2, 2, 2))
    one_line_error(train_codebook, store, deep, match="at most 3 numbers of a patch, got 4")
    book = dataclasses.replace(train_codebook(store, SETTINGS), autoencoder="another")
    one_line_error(report_codebook, book, store, match="expected maps of this codebook's autoencoder")
