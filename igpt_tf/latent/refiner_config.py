"""The shape of a refiner."""

from __future__ import annotations

import dataclasses
from typing import Any

from igpt_tf.config import check_values
from igpt_tf.data.tokens import Tokens, sample_rows
from igpt_tf.errors import UserError, meant

# Elementwise ones: drawing computes them on arrays that lie otherwise. The first is the original Image GPT's.
ACTIVATIONS = ("quick_gelu", "gelu", "silu", "relu", "elu", "mish")


@dataclasses.dataclass(frozen=True)
class RefinerConfig:
    """The shape of a refiner.

    Attributes:
        coarse_height: rows of the grid of coarser codes.
        coarse_width: columns of the grid of coarser codes.
        coarse_vocab: number of coarser codes.
        height: rows of the grid of finer codes, which are predicted.
        width: columns of the grid of finer codes.
        n_vocab: number of finer codes.
        num_enc_layers: blocks of the encoder, which reads the coarser codes.
        num_dec_layers: blocks of the decoder, which predicts the finer ones.
        self_attn_heads: heads of the attention within the coarser codes, or within the finer ones.
        cross_attn_heads: heads of the attention from the finer codes to the coarser ones.
        in_dim: width of the vectors of codes; where it is not `hidden_dim`, they are projected.
        hidden_dim: width of the residual stream; the numbers of heads divide it.
        hidden_activation: activation in the blocks, one of `ACTIVATIONS`.
        use_sliding_window: whether a finer code sees only some of those before it.
        sliding_window: how many positions it sees then, with its own.

    Raises:
        UserError: if a number is not positive, the heads do not divide `hidden_dim`, or the activation is unknown.
    """

    coarse_height: int
    coarse_width: int
    coarse_vocab: int
    height: int
    width: int
    n_vocab: int
    num_enc_layers: int = 4
    num_dec_layers: int = 4
    self_attn_heads: int = 4
    cross_attn_heads: int = 4
    in_dim: int = 64
    hidden_dim: int = 256
    hidden_activation: str = "quick_gelu"
    use_sliding_window: bool = False
    sliding_window: int = 64

    def __post_init__(self) -> None:
        """Refuse what no refiner can have."""
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or value < 1):
                raise UserError(f"expected {name} as a positive integer, got {value!r}")
        if type(self.use_sliding_window) is not bool:
            raise UserError(f"expected use_sliding_window as true or false, got {self.use_sliding_window!r}")
        for name in ("self_attn_heads", "cross_attn_heads"):
            if self.hidden_dim % getattr(self, name):
                raise UserError(
                    f"expected {name} to divide hidden_dim, got {name}={getattr(self, name)} and "
                    f"hidden_dim={self.hidden_dim}"
                )
        if self.hidden_activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise UserError(f"expected hidden_activation as one of {known}, got {self.hidden_activation!r}")

    @property
    def n_coarse(self) -> int:
        """Coarser codes of an image, S."""
        return self.coarse_height * self.coarse_width

    @property
    def n_tokens(self) -> int:
        """Finer codes of an image, T."""
        return self.height * self.width

    @property
    def window(self) -> int | None:
        """How many positions a finer code sees; None: all."""
        return self.sliding_window if self.use_sliding_window else None

    @property
    def block_names(self) -> list[str]:
        """Names of the layers that can be rematerialised."""
        return [f"enc{i}" for i in range(self.num_enc_layers)] + [f"dec{i}" for i in range(self.num_dec_layers)]

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> RefinerConfig:
        """A config from `to_dict`'s fields; a field that is not known, or missing, is a `UserError`."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in fields:
            if name not in known:
                raise UserError(f"expected the fields {', '.join(known)}, got {name}{meant(name, known)}")
        for name, field in known.items():
            if field.default is dataclasses.MISSING and name not in fields:
                raise UserError(f"expected the fields {', '.join(known)}, got none named {name}")
        return cls(**fields)


def check_codes(config: RefinerConfig, coarse: Tokens, tokens: Tokens) -> None:
    """Check that coarser codes are (N, S) and finer ones (N, T), and some of their values, from the first to the last.

    Raises:
        UserError: if they are something else.
    """
    found, expected = (coarse.shape, tokens.shape), ((len(tokens), config.n_coarse), (len(tokens), config.n_tokens))
    if found != expected or not len(tokens):
        raise UserError(
            f"expected coarser codes of shape (N, {config.n_coarse}) and finer ones of shape (N, {config.n_tokens}) of "
            f"the same images, got {found[0]} and {found[1]}"
        )
    for codes, n_vocab in ((coarse, config.coarse_vocab), (tokens, config.n_vocab)):
        check_values(sample_rows(codes), n_vocab, "codebook")
