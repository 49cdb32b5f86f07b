"""Shapes of a cascade's models before its codebooks are known."""

from __future__ import annotations

import dataclasses

from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UsageError
from igpt_tf.latent.refiner_config import RefinerConfig


@dataclasses.dataclass(frozen=True)
class RefinerShape:
    """The shape of a refiner, but for the codes, which the codebooks decide.

    Attributes:
        num_enc_layers: blocks of the encoder, which reads the coarser codes.
        num_dec_layers: blocks of the decoder, which predicts the finer ones.
        self_attn_heads: heads of the attention within the coarser codes, or within the finer ones.
        cross_attn_heads: heads of the attention from the finer codes to the coarser ones.
        in_dim: width of the vectors of codes.
        hidden_dim: width of the residual stream.
        hidden_activation: activation in the blocks.
        use_sliding_window: whether a finer code sees only some of those before it.
        sliding_window: how many positions it sees then, with its own.
    """

    num_enc_layers: int = 4
    num_dec_layers: int = 4
    self_attn_heads: int = 4
    cross_attn_heads: int = 4
    in_dim: int = 64
    hidden_dim: int = 256
    hidden_activation: str = "quick_gelu"
    use_sliding_window: bool = False
    sliding_window: int = 64

    def config(self, before: tuple[int, int], n_before: int, grid: tuple[int, int], n_codes: int) -> RefinerConfig:
        """The config of a refiner of these grids and numbers of codes."""
        return RefinerConfig(*before, n_before, *grid, n_codes, **dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class BaseShape:
    """The shape of the base transformer, but for the codes.

    Attributes:
        n_layer: transformer blocks.
        n_embd: width of the residual stream.
        n_head: attention heads, which divide it.
    """

    n_layer: int = 6
    n_embd: int = 256
    n_head: int = 4

    def config(self, n_before: int, grid: tuple[int, int], n_codes: int) -> ImageGPTConfig:
        """The config of a model that draws this grid given one of `n_before` codes.

        Raises:
            UsageError: if the grid is no square.
        """
        if grid[0] != grid[1]:
            raise UsageError(
                f"expected a square grid of codes in stage 1, got {grid[0]} x {grid[1]}: use other patches"
            )
        return ImageGPTConfig(grid[0], n_codes, self.n_embd, self.n_head, self.n_layer, n_start=1 + n_before)
