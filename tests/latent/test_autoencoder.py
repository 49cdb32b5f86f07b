"""The autoencoder: sizes, what it saves, and one line for what it cannot read."""

import json

import keras
import numpy as np
import pytest

from examples import one_line_error, random_image, randomise
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.layers import DepthToSpace
from igpt_tf.latent.reconstruct import decode_maps, encode_images, reconstruct, to_inputs

pytestmark = pytest.mark.both_backends
TINY = AutoencoderConfig(min_channel=4, max_channel=6, num_layers=2, latent_channel=3, num_res_blocks=1)


@pytest.fixture(scope="module")
def autoencoder():
    return randomise(Autoencoder(TINY))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 4), (64, 32)])
def test_it_takes_any_size_that_the_stride_divides(autoencoder, height, width):
    images = to_inputs(random_image(2, height, width, 3))
    maps = autoencoder.encode(images)
    assert tuple(maps.shape) == (2, height // 4, width // 4, 3)
    assert np.abs(maps).max() <= 1
    found = autoencoder.decode(maps)
    assert tuple(found.shape) == images.shape
    np.testing.assert_array_equal(np.asarray(found), np.asarray(autoencoder(images)))


def test_a_position_sees_what_is_around_it_alone(autoencoder):
    """Fully convolutional: far from the edges, a larger image has the same map."""
    large = to_inputs(random_image(1, 128, 128, 3))
    whole, part = autoencoder.encode(large), autoencoder.encode(large[:, 16:112, 16:112])
    np.testing.assert_allclose(np.asarray(whole)[:, 14:18, 14:18], np.asarray(part)[:, 10:14, 10:14], atol=1e-5)


def test_channels_double_up_to_the_most():
    assert AutoencoderConfig(min_channel=16, max_channel=50, num_layers=4).channels == [16, 32, 50, 50]


def test_depth_becomes_space():
    x = np.arange(2 * 3 * 8).reshape(1, 2, 3, 8).astype("float32")
    found = np.asarray(DepthToSpace()(x))
    for i, j, a, b, c in np.ndindex(2, 3, 2, 2, 2):
        assert found[0, 2 * i + a, 2 * j + b, c] == x[0, i, j, 4 * a + 2 * b + c]


def test_without_final_activations_nothing_is_bounded():
    open_ended = AutoencoderConfig(**{**TINY.to_dict(), "use_final_enc_activation": False})
    maps = randomise(Autoencoder(open_ended), scale=3).encode(to_inputs(random_image(1, 8, 8, 3)))
    assert np.abs(maps).max() > 1


def test_images_are_reconstructed_in_batches(autoencoder):
    images = random_image(5, 8, 8, 3)
    maps = encode_images(autoencoder, images, batch_size=2)
    np.testing.assert_allclose(maps, np.asarray(autoencoder.encode(to_inputs(images))), atol=1e-6)
    found = reconstruct(autoencoder, images, batch_size=2)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, decode_maps(autoencoder, maps, batch_size=2))
    expected = np.asarray(autoencoder.decode(maps)) * 127.5 + 127.5
    assert np.abs(found - expected).max() < 0.51


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_preset_has_the_weights_and_the_digest(autoencoder, tmp_path, dtype):
    autoencoder.save_to_preset(tmp_path, dtype)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    found = Autoencoder.from_preset(tmp_path, name="other")
    assert found.config == TINY and found.digest() == autoencoder.digest()
    images = to_inputs(random_image(2, 8, 8, 3))
    np.testing.assert_allclose(np.asarray(found(images)), np.asarray(autoencoder(images)), atol=0.05)
    if dtype == "float32":
        for a, b in zip(found.get_weights(), autoencoder.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_other_weights_have_another_digest(autoencoder):
    assert randomise(Autoencoder(TINY), seed=1).digest() != autoencoder.digest()


def test_keras_saves_it(autoencoder, tmp_path):
    autoencoder.save(tmp_path / "whole.keras")
    found = keras.saving.load_model(tmp_path / "whole.keras")
    assert found.digest() == autoencoder.digest()


def test_presets_that_are_no_autoencoders(autoencoder, tmp_path):
    one_line_error(Autoencoder.from_preset, tmp_path / "none", match="expected a JSON object with an autoencoder's")
    autoencoder.save_to_preset(tmp_path)
    config = TINY.to_dict()
    (tmp_path / "config.json").write_text(json.dumps({**config, "latent_chanel": 3}))
    one_line_error(Autoencoder.from_preset, tmp_path, match=r"got latent_chanel \(did you mean latent_channel\?\)")
    (tmp_path / "config.json").write_text(json.dumps({**config, "latent_channel": 7}))
    one_line_error(Autoencoder.from_preset, tmp_path, match="copy both files again")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    one_line_error(Autoencoder.from_preset, tmp_path, match="truncated or damaged")


def test_images_and_maps_that_do_not_fit(autoencoder):
    one_line_error(autoencoder.encode, np.zeros((1, 8, 10, 3), "f"), match="4 divides, got 8 x 10")
    one_line_error(autoencoder.encode, np.zeros((1, 2, 2, 3), "f"), match="4 divides, got 2 x 2")
    one_line_error(encode_images, autoencoder, random_image(1, 8, 8, 1), match="expected images")
    one_line_error(decode_maps, autoencoder, np.zeros((1, 2, 2, 5), "f"), match=r"expected maps \(B, height, width, 3")
    one_line_error(encode_images, autoencoder, random_image(0, 8, 8, 3), match="at least 1 image")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_layers": 0}, "num_layers as a positive integer, got 0"),
        ({"min_channel": True}, "min_channel as a positive integer, got True"),
        ({"min_channel": 8, "max_channel": 4}, "max_channel of at least min_channel"),
        ({"hidden_activation_type": "sillu"}, "hidden_activation_type as one of silu, relu"),
        ({"use_final_enc_activation": 1}, "use_final_enc_activation as true or false, got 1"),
    ],
)
def test_configs_that_no_autoencoder_can_have(fields, match):
    one_line_error(AutoencoderConfig, **fields, match=match)
