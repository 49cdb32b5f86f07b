"""The layers of the autoencoder: residual blocks between convolutions that halve and double."""

from __future__ import annotations

from typing import Any, cast

import keras
from keras import ops

from igpt_tf.latent.config import AutoencoderConfig


class ResidualBlock(keras.layers.Layer):
    """Two 3x3 convolutions beside an identity, which the block is before training.

    Args:
        channels: of input and output.
        activation: before each convolution, a name of Keras.
        kwargs: Keras' `dtype` and `name`.
    """

    def __init__(self, channels: int, activation: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        how: dict[str, Any] = {"padding": "same", "dtype": self.dtype_policy}
        self.conv_1 = keras.layers.Conv2D(channels, 3, name="conv_1", **how)
        # Zeros, as without a norm the sum of many random blocks would grow: Zhang et al., "Fixup" (2019).
        self.conv_2 = keras.layers.Conv2D(channels, 3, name="conv_2", kernel_initializer="zeros", **how)

    def build(self, input_shape) -> None:
        """Create every variable."""
        self.conv_1.build(input_shape)
        self.conv_2.build(input_shape)
        self.built = True

    def call(self, x):
        """(B, h, w, C) to the same shape."""
        return x + self.conv_2(self.activation(self.conv_1(self.activation(x))))

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape


class DepthToSpace(keras.layers.Layer):
    """Four times the channels become twice the height and width."""

    def call(self, x):
        """(B, h, w, 4 C) to (B, 2 h, 2 w, C)."""
        _, height, width, channels = cast("Any", ops.shape(x))
        x = ops.reshape(x, (-1, height, width, 2, 2, channels // 4))  # (B, h, w, 2, 2, C)
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, h, 2, w, 2, C)
        return ops.reshape(x, (-1, 2 * height, 2 * width, channels // 4))

    def compute_output_shape(self, input_shape):
        """Twice the height and width."""
        batch, height, width, channels = input_shape
        return batch, height and 2 * height, width and 2 * width, channels // 4


class Stack(keras.Model):
    """Layers one after another, then, in float32, an activation.

    Args:
        steps: the layers.
        activation: a name of Keras; None: none.
        kwargs: Keras' `dtype` and `name`.
    """

    def __init__(self, steps: list[keras.layers.Layer], activation: str | None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.steps = steps
        self.activation = keras.activations.get(activation)

    def build(self, input_shape) -> None:
        """Create every variable."""
        for step in self.steps:
            step.build(input_shape)
            input_shape = step.compute_output_shape(input_shape)
        self.built = True

    def call(self, x):
        """(B, h, w, C) through all layers, float32."""
        for step in self.steps:
            x = step(x)
        return self.activation(ops.cast(x, "float32"))


def encoder_of(config: AutoencoderConfig, dtype: Any) -> Stack:
    """Images (B, H, W, 3) to maps (B, h, w, C)."""
    steps: list[keras.layers.Layer] = []
    for i, channels in enumerate(config.channels):
        # Strided from the first convolution on: at full size they would cost most of the time.
        name = f"down{i}" if i else "in"
        steps.append(keras.layers.Conv2D(channels, 4, 2, "same", name=name, dtype=dtype))
        steps += _blocks(config, channels, f"down{i}", dtype)
    steps.append(keras.layers.Conv2D(config.latent_channel, 3, padding="same", name="out", dtype=dtype))
    activation = config.encoder_activation_type if config.use_final_enc_activation else None
    return Stack(steps, activation, name="encoder", dtype=dtype)


def decoder_of(config: AutoencoderConfig, dtype: Any) -> Stack:
    """Maps (B, h, w, C) to images (B, H, W, 3)."""
    channels = config.channels[::-1]
    steps: list[keras.layers.Layer] = [keras.layers.Conv2D(channels[0], 3, padding="same", name="in", dtype=dtype)]
    for i, (here, after) in enumerate(zip(channels, [*channels[1:], config.image_channel], strict=True)):
        steps += _blocks(config, here, f"up{i}", dtype)
        # A convolution before the doubling costs a quarter of one after it.
        name = f"up{i}" if i < len(channels) - 1 else "out"
        steps.append(keras.layers.Conv2D(4 * after, 3, padding="same", name=name, dtype=dtype))
        steps.append(DepthToSpace(name=f"shuffle{i}", dtype=dtype))
    activation = config.decoder_activation_type if config.use_final_dec_activation else None
    return Stack(steps, activation, name="decoder", dtype=dtype)


def _blocks(config: AutoencoderConfig, channels: int, name: str, dtype: Any) -> list[keras.layers.Layer]:
    return [
        ResidualBlock(channels, config.hidden_activation_type, name=f"{name}_block{i}", dtype=dtype)
        for i in range(config.num_res_blocks)
    ]
