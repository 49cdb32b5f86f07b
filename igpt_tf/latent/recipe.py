"""Cascades by name: the shapes and settings of all of their parts."""

from __future__ import annotations

import dataclasses

from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UsageError, meant
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.refiner_config import RefinerConfig
from igpt_tf.latent.train import AutoencoderSettings
from igpt_tf.latent.train_codebook import CodebookSettings
from igpt_tf.training.settings import PretrainSettings, RunSettings


@dataclasses.dataclass(frozen=True)
class RefinerShape:
    """The shape of a refiner, but for the codes, which the codebooks decide; attributes as in `RefinerConfig`."""

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
    """The shape of the base transformer, but for the codes; attributes as in `ImageGPTConfig`."""

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


@dataclasses.dataclass(frozen=True)
class CascadeRecipe:
    """Everything about a cascade but its data.

    Attributes:
        summary: what it makes, in a few words.
        n_px: height and width of the images.
        autoencoder: its shape.
        autoencoder_settings: of its training.
        codebooks: from coarse to fine; the patches of the first are whole maps.
        base: shape of the model of stage 1.
        base_settings: of its training.
        refiners: shapes of the models of stages 2 and on.
        refiner_settings: of their training.
    """

    summary: str
    n_px: int
    autoencoder: AutoencoderConfig
    autoencoder_settings: AutoencoderSettings
    codebooks: tuple[CodebookSettings, ...]
    base: BaseShape
    base_settings: PretrainSettings
    refiners: tuple[RefinerShape, ...]
    refiner_settings: tuple[RunSettings, ...]


NANO = CascadeRecipe(
    summary="64x64 pixels in 16x16 maps: one code, then 4x4, then 16x16",
    n_px=64,
    autoencoder=AutoencoderConfig(min_channel=64, max_channel=128, num_layers=2, latent_channel=4),
    autoencoder_settings=AutoencoderSettings(epochs=4, batch_size=32),
    codebooks=(
        CodebookSettings(num_embeddings=64, patch_H=16, patch_W=16),
        CodebookSettings(num_embeddings=512, patch_H=4, patch_W=4),
        CodebookSettings(num_embeddings=512, patch_H=1, patch_W=1, steps=2000),
    ),
    base=BaseShape(),
    base_settings=PretrainSettings(
        epochs=20, batch_size=128, optimizer="muon", learning_rate=5e-3, class_dropout=0.0, save_every=1000
    ),
    refiners=(RefinerShape(),),
    refiner_settings=(RunSettings(epochs=6, batch_size=64, optimizer="muon", learning_rate=5e-3, save_every=1000),),
)
CASCADES = {"nano-cascade": NANO}


def find_cascade(name: str) -> CascadeRecipe:
    """The recipe of a name.

    Raises:
        UsageError: if there is none.
    """
    if name not in CASCADES:
        raise UsageError(f"expected a cascade of {', '.join(CASCADES)}, got {name!r}{meant(name, CASCADES)}")
    return CASCADES[name]
