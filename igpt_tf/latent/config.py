"""The shape of an autoencoder."""

from __future__ import annotations

import dataclasses
from typing import Any

from igpt_tf.errors import UserError, meant

# Those of Keras that a configuration may name.
ACTIVATIONS = ("silu", "relu", "gelu", "elu", "leaky_relu", "mish", "tanh", "sigmoid")


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """The shape of an autoencoder.

    Attributes:
        image_channel: channels of the images.
        min_channel: channels after the first halving; each further one doubles them.
        max_channel: most channels of any layer.
        num_layers: how often height and width are halved.
        latent_channel: channels of the maps.
        num_res_blocks: residual blocks after each halving, and before each doubling.
        hidden_activation_type: activation in the residual blocks, one of `ACTIVATIONS`.
        use_final_enc_activation: whether the encoder ends with an activation.
        encoder_activation_type: that activation.
        use_final_dec_activation: whether the decoder ends with an activation.
        decoder_activation_type: that activation.

    Raises:
        UserError: if a number is not positive, or an activation is unknown.
    """

    image_channel: int = 3
    min_channel: int = 32
    max_channel: int = 128
    num_layers: int = 2
    latent_channel: int = 4
    num_res_blocks: int = 2
    hidden_activation_type: str = "silu"
    use_final_enc_activation: bool = True
    encoder_activation_type: str = "tanh"
    use_final_dec_activation: bool = True
    decoder_activation_type: str = "tanh"

    def __post_init__(self) -> None:
        """Refuse what no autoencoder can have."""
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or value < 1):
                raise UserError(f"expected {name} as a positive integer, got {value!r}")
            if field.type == "bool" and type(value) is not bool:
                raise UserError(f"expected {name} as true or false, got {value!r}")
            if field.type == "str" and value not in ACTIVATIONS:
                raise UserError(f"expected {name} as one of {', '.join(ACTIVATIONS)}, got {value!r}")
        if self.max_channel < self.min_channel:
            raise UserError(f"expected max_channel of at least min_channel, got {self.max_channel}, {self.min_channel}")

    @property
    def stride(self) -> int:
        """Pixels of one position of a map, each way."""
        return 2**self.num_layers

    @property
    def channels(self) -> list[int]:
        """Channels after each halving."""
        return [min(self.max_channel, self.min_channel * 2**i) for i in range(self.num_layers)]

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the map of an image.

        Raises:
            UserError: if the stride does not divide the image.
        """
        if not height or not width or height % self.stride or width % self.stride:
            raise UserError(
                f"expected images whose height and width {self.stride} divides, got {height} x {width}: resize them"
            )
        return height // self.stride, width // self.stride

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> AutoencoderConfig:
        """A config from `to_dict`'s fields; a field that is not known is a `UserError`."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise UserError(f"expected the fields {', '.join(known)}, got {name}{meant(name, known)}")
        return cls(**fields)
