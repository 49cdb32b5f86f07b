"""A tiny cascade that several folders of tests share."""

import numpy as np

from examples import randomise
from igpt_tf.config import ImageGPTConfig
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.cascade import Cascade
from igpt_tf.latent.codebook import Codebook, row_by_row
from igpt_tf.latent.refiner import Refiner
from igpt_tf.latent.refiner_config import RefinerConfig
from igpt_tf.model.image_gpt import ImageGPT

N_CODES = (3, 5, 7)


def codebook_of(autoencoder, patch, n_units, seed=0):
    units = np.random.default_rng(seed).normal(size=(n_units, patch * patch * 2)).astype("float32")
    return Codebook(units, patch, patch, (1, n_units), row_by_row(n_units, (1, n_units)), autoencoder.digest())


def tiny_cascade():
    """16 pixels, maps of 8 x 8: one code, 2 x 2 codes, 8 x 8 codes."""
    autoencoder = Autoencoder(min_channel=4, max_channel=4, num_layers=1, latent_channel=2)
    codebooks = [codebook_of(autoencoder, *shape) for shape in zip((8, 4, 1), N_CODES, strict=True)]
    base = randomise(ImageGPT(ImageGPTConfig(2, N_CODES[1], 8, 2, 1, n_start=1 + N_CODES[0])))
    config = RefinerConfig(2, 2, N_CODES[1], 8, 8, N_CODES[2], 1, 1, 2, 2, 8, 8)
    digests = codebooks[1].digest(), codebooks[2].digest()
    return Cascade(autoencoder, codebooks, [base, randomise(Refiner(config, digests))], np.array([5, 0, 3]), 16, 16)
