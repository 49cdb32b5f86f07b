"""Cascades by name: the shapes and settings of all of their parts."""

from __future__ import annotations

import dataclasses

from igpt_tf.errors import UsageError, meant
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.settings import AutoencoderSettings, BaseSettings, CodebookSettings
from igpt_tf.latent.shapes import BaseShape, RefinerShape
from igpt_tf.training.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class CascadeRecipe:
    """Everything about a cascade but its data.

    Attributes:
        summary: what it makes, in a few words.
        n_px: height and width of the images.
        autoencoder: its shape.
        autoencoder_settings: of its training.
        codebooks: from coarse to fine; the patches of the first are whole maps.
        adapt_settings: of training the autoencoder and its finest codebook together; None: they are not.
        base: shape of the model of stage 1.
        base_settings: of its training.
        refiners: shapes of the models of stages 2 and on.
        refiner_settings: of their training.
        flip: train the models of all stages on mirrored images too.
    """

    summary: str
    n_px: int
    autoencoder: AutoencoderConfig
    autoencoder_settings: AutoencoderSettings
    codebooks: tuple[CodebookSettings, ...]
    base: BaseShape
    base_settings: BaseSettings
    refiners: tuple[RefinerShape, ...]
    refiner_settings: tuple[RunSettings, ...]
    adapt_settings: AutoencoderSettings | None = None
    flip: bool = True


MODELS = {"batch_size": 128, "optimizer": "muon", "learning_rate": 5e-3, "save_every": 1000}
# For 50,000 images, as the bundled one; checkpoints/nano-cascade/README.md says what it cost and how good it is.
NANO = CascadeRecipe(
    summary="64x64 pixels in 16x16 maps: one code, then 4x4, then 16x16",
    n_px=64,
    autoencoder=AutoencoderConfig(min_channel=64, num_res_blocks=3),
    autoencoder_settings=AutoencoderSettings(epochs=23, batch_size=128, noise=0.1, save_every=2000),
    adapt_settings=AutoencoderSettings(epochs=9, batch_size=128, learning_rate=2e-3, save_every=1000),
    codebooks=(
        CodebookSettings(num_embeddings=64, patch_H=16, patch_W=16),
        CodebookSettings(num_embeddings=512, patch_H=4, patch_W=4),
        CodebookSettings(num_embeddings=512),
    ),
    base=BaseShape(n_layer=4, n_embd=192),
    base_settings=BaseSettings(epochs=4, class_dropout=0.1, **MODELS),
    refiners=(RefinerShape(num_enc_layers=2, num_dec_layers=6, hidden_dim=192),),
    refiner_settings=(RunSettings(epochs=6, **MODELS),),
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
