"""The autoencoder: images to maps of features and back, fully convolutional."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import keras
from keras import ops

from igpt_tf.errors import UserError, naming
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.layers import decoder_of, encoder_of
from igpt_tf.latent.model_folder import arrays_of, assign_arrays
from igpt_tf.weights.arrays import CONFIG_FILE, read_fields, rounded_digest, write_arrays


@keras.saving.register_keras_serializable(package="igpt_tf")
class Autoencoder(keras.Model):
    """A convolutional autoencoder of images in [-1, 1] (B, H, W, 3), with maps (B, H / stride, W / stride, C) between.

    Args:
        config: its shape.
        kwargs: fields of the config that differ from it, such as `latent_channel=8`, and Keras' `dtype` and `name`.

    Raises:
        UserError: if a field is invalid.
    """

    def __init__(self, config: AutoencoderConfig | None = None, **kwargs) -> None:
        names = {field.name for field in dataclasses.fields(AutoencoderConfig)}
        fields = {name: kwargs.pop(name) for name in names.intersection(kwargs)}
        config = dataclasses.replace(config or AutoencoderConfig(), **fields)
        super().__init__(**kwargs)
        self.config = config
        self.encoder = encoder_of(config, self.dtype_policy)
        self.decoder = decoder_of(config, self.dtype_policy)
        self.build()

    def build(self, input_shape=None) -> None:
        """Create every variable."""
        config = self.config
        self.encoder.build((None, None, None, config.image_channel))
        self.decoder.build((None, None, None, config.latent_channel))
        self.built = True

    def call(self, inputs, training=None):
        """Images (B, H, W, 3) to their reconstructions, float32.

        Args:
            inputs: the images, or {"images": images, "noise": (B, h, w, C)}, of which the noise is added to the maps.
            training: ignored.
        """
        if isinstance(inputs, dict):
            return self.decode(self.encode(inputs["images"]) + inputs["noise"])
        return self.decode(self.encode(inputs))

    def encode(self, images):
        """Images in [-1, 1] (B, H, W, 3) to maps (B, h, w, C), float32.

        Args:
            images: an array or tensor.

        Raises:
            UserError: if the stride does not divide their height and width, or they have other channels.
        """
        images = cast("Any", ops.convert_to_tensor(images))
        self.check_images(images.shape)
        return self.encoder(images)

    def decode(self, maps):
        """Maps (B, h, w, C) to images (B, H, W, 3), float32.

        Args:
            maps: an array or tensor.

        Raises:
            UserError: if they have other channels.
        """
        maps = cast("Any", ops.convert_to_tensor(maps))
        self.check_maps(maps.shape)
        return self.decoder(maps)

    def check_images(self, shape: Sequence[int | None]) -> None:
        """Refuse images that the encoder cannot read; unknown sizes pass."""
        if len(shape) != 4 or shape[3] != self.config.image_channel:
            raise UserError(f"expected images (B, height, width, {self.config.image_channel}), got {tuple(shape)}")
        if shape[1] is not None and shape[2] is not None:
            self.config.map_size(shape[1], shape[2])

    def check_maps(self, shape: Sequence[int | None]) -> None:
        """Refuse maps that the decoder cannot read."""
        if len(shape) != 4 or shape[3] != self.config.latent_channel:
            raise UserError(
                f"expected maps (B, height, width, {self.config.latent_channel}), got {tuple(shape)}: "
                "use those of this autoencoder"
            )

    def digest(self) -> str:
        """What tells these weights from others; a preset of them has it in either dtype."""
        return rounded_digest(json.dumps(self.config.to_dict()), arrays_of(self))

    def get_config(self) -> dict:
        """The constructor's arguments, for Keras' own `save`."""
        return {**super().get_config(), "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config: dict) -> Autoencoder:
        """A model from `get_config`'s arguments."""
        return cls(**{**config, "config": AutoencoderConfig.from_dict(config["config"])})

    @classmethod
    def from_preset(cls, folder: str | Path, **kwargs) -> Autoencoder:
        """An autoencoder with the weights of a folder that `save_to_preset` wrote.

        Args:
            folder: the folder.
            kwargs: for the model: `dtype`, `name`.

        Raises:
            UserError: if there is no such preset, or it is incomplete, damaged or of another kind.
        """
        folder = Path(folder).expanduser()
        fields = read_fields(folder / CONFIG_FILE, "an autoencoder's shape")
        with naming(folder / CONFIG_FILE):
            config = AutoencoderConfig.from_dict(fields)
        model = cls(config, **kwargs)
        assign_arrays(model, folder)
        return model

    def save_to_preset(self, folder: str | Path, dtype: str = "float32") -> None:
        """Write `config.json` and `model.safetensors`.

        Args:
            folder: created if needed; a preset in it is replaced.
            dtype: of the weights in the file, "float32", or "float16" for half the bytes and a little rounding.

        Raises:
            UserError: if a weight is too large for the dtype, or the folder cannot be written.
            ValueError: if the dtype is another one.
        """
        write_arrays(folder, self.config.to_dict(), arrays_of(self), dtype)
