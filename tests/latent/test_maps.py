"""Stores of maps: what is in them, what a kill leaves of them, and one line for everything that does not fit."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest

from examples import one_line_error, random_image, randomise
from igpt_tf.data.sources.open import Source, open_source
from igpt_tf.data.store import encode as encoding
from igpt_tf.data.store import writer as writing
from igpt_tf.errors import SkippedWarning
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.maps import MapStore, encode_source
from igpt_tf.latent.reconstruct import encode_images

pytestmark = pytest.mark.both_backends
TINY = AutoencoderConfig(min_channel=4, max_channel=4, num_layers=1, latent_channel=2, num_res_blocks=1)
IMAGES = random_image(9, 8, 12, 3)


@pytest.fixture(scope="module")
def autoencoder():
    return randomise(Autoencoder(TINY))


@pytest.fixture
def few(monkeypatch):
    """Two images at a time, and progress recorded after each."""
    monkeypatch.setattr(encoding, "CHUNK", 2)
    monkeypatch.setattr(writing, "SAVE_SECONDS", 0)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_store_has_the_maps_and_labels(autoencoder, tmp_path, few):
    labels = np.arange(9, dtype=np.int32) % 2
    store = encode_source(autoencoder, Source("images", IMAGES, labels, ("a", "b")), tmp_path / "store")
    expected = encode_images(autoencoder, IMAGES)
    assert store.shape == (9, 4, 6, 2) and len(store) == 9 and store.classes == ("a", "b")
    assert store.maps.dtype == np.float16 and isinstance(store.maps, np.memmap)
    np.testing.assert_allclose(store[:], expected, atol=1e-3)
    for rows in (slice(2, 5), np.array([6, 0, 0]), 3, -1):
        np.testing.assert_array_equal(store[rows], store[:][rows])
    np.testing.assert_array_equal(store.labels, labels)
    assert store.autoencoder == autoencoder.digest()
    store.require_autoencoder(autoencoder)
    assert sorted(contents(tmp_path / "store")) == ["labels.npy", "maps.json", "maps.npy"]


def test_images_can_be_mirrored(autoencoder, tmp_path):
    plain = encode_source(autoencoder, IMAGES[:, :, ::-1].copy(), tmp_path / "plain")
    mirrored = encode_source(autoencoder, IMAGES, tmp_path / "mirrored", flip=True)
    np.testing.assert_array_equal(mirrored[:], plain[:])
    one_line_error(encode_source, autoencoder, IMAGES, tmp_path / "mirrored", match="flip False, got True")


def test_a_killed_run_resumes_to_the_same_bytes(autoencoder, tmp_path, few, monkeypatch):
    encode_source(autoencoder, IMAGES, tmp_path / "whole")
    calls = []

    def dies(*how):
        calls.append(how)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode_images(*how)

    monkeypatch.setattr("igpt_tf.latent.maps.encode_images", dies)
    with pytest.raises(KeyboardInterrupt):
        encode_source(autoencoder, IMAGES, tmp_path / "cut")
    one_line_error(MapStore.open, tmp_path / "cut", match="got part of one: encode again to resume")
    resumed = encode_source(autoencoder, IMAGES, tmp_path / "cut")
    assert len(calls) == 6, "the first two parts are not encoded again"
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert encode_source(autoencoder, IMAGES, tmp_path / "cut").fingerprint == resumed.fingerprint
    assert len(calls) == 6, "a finished store is opened"


def test_pictures_that_cannot_be_read_are_left_out(autoencoder, tmp_path):
    for i, image in enumerate(random_image(4, 9, 16, 3)):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        imageio.imwrite(tmp_path / "pictures" / f"{i}.png", image)
    (tmp_path / "pictures/1.png").write_bytes(b"nonsense")
    with pytest.warns(SkippedWarning, match="skipped 1 of 4 pictures"):
        store = encode_source(autoencoder, open_source(tmp_path / "pictures"), tmp_path / "store", 8)
    assert store.shape == (3, 4, 4, 2) and store.skipped == 1 and store.labels is None
    assert "1.png" in (tmp_path / "store/skipped.txt").read_text()


def test_stores_that_do_not_fit(autoencoder, tmp_path):
    store = encode_source(autoencoder, IMAGES, tmp_path / "store")
    other = randomise(Autoencoder(TINY), seed=1)
    one_line_error(store.require_autoencoder, other, match="expected it to be made with this autoencoder")
    one_line_error(encode_source, other, IMAGES, tmp_path / "store", match="expected a store begun with autoencoder")
    one_line_error(encode_source, autoencoder, IMAGES[:5], tmp_path / "store", match="begun with data")
    one_line_error(encode_source, autoencoder, IMAGES[:, :7], tmp_path / "new", match="2 divides, got 7 x 12")
    one_line_error(encode_source, autoencoder, IMAGES / 255, tmp_path / "new", match="expected images, uint8")
    one_line_error(MapStore.open, tmp_path / "new", match="a folder with no maps.json")
    assert not (tmp_path / "new").exists()


def test_damaged_stores(autoencoder, tmp_path):
    encode_source(autoencoder, IMAGES, tmp_path)
    about = json.loads((tmp_path / "maps.json").read_text())
    (tmp_path / "maps.json").write_text(json.dumps({**about, "images": 8}))
    one_line_error(MapStore.open, tmp_path, match=r"expected float16 \(8, 4, 6, 2\), got float16 \(9, 4, 6, 2\)")
    (tmp_path / "maps.json").write_text("{}")
    one_line_error(MapStore.open, tmp_path, match="a damaged one")


def test_maps_that_are_not_finite_are_not_written(tmp_path):
    broken = Autoencoder(TINY)
    broken.encoder.variables[0].assign(broken.encoder.variables[0] * np.nan)
    one_line_error(encode_source, broken, IMAGES, tmp_path, match="expected finite maps")
    assert not (tmp_path / "maps.json").exists()
