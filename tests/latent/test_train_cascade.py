"""Training a cascade: every part is made once, a run that was stopped resumes, and another recipe is refused."""

import dataclasses

import numpy as np
import pytest

from examples import one_line_error, random_image
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.recipe import CascadeRecipe, find_cascade
from igpt_tf.latent.settings import AutoencoderSettings, BaseSettings, CodebookSettings
from igpt_tf.latent.shapes import BaseShape, RefinerShape
from igpt_tf.latent.train_cascade import CascadeTraining, OutOfTimeError
from igpt_tf.training.callbacks import TimeLimit
from igpt_tf.training.settings import RunSettings

STEPS = {"steps": 2, "save_every": 1, "batch_size": 4}
SHAPE = {"num_enc_layers": 1, "num_dec_layers": 1, "self_attn_heads": 2, "cross_attn_heads": 2}
RECIPE = CascadeRecipe(
    summary="tiny",
    n_px=16,
    autoencoder=AutoencoderConfig(min_channel=4, max_channel=4, num_layers=1, latent_channel=2),
    autoencoder_settings=AutoencoderSettings(**STEPS),
    codebooks=tuple(
        CodebookSettings(num_embeddings=n, patch_H=size, patch_W=size, steps=2, batch_size=64)
        for n, size in ((2, 8), (4, 4), (6, 1))
    ),
    base=BaseShape(1, 8, 2),
    base_settings=BaseSettings(**STEPS),
    refiners=(RefinerShape(**SHAPE, in_dim=8, hidden_dim=8),),
    refiner_settings=(RunSettings(**STEPS),),
    adapt_settings=AutoencoderSettings(**STEPS),
)
IMAGES, OTHERS = random_image(12, 16, 16, 3), random_image(4, 16, 16, 3, seed=1)


@pytest.mark.both_backends
@pytest.mark.slow
def test_every_part_is_trained_once(tmp_path):
    lines = []
    training = CascadeTraining(RECIPE, tmp_path, lines.append)
    cascade = training.train(IMAGES, OTHERS)
    assert cascade.grids == [(1, 1), (2, 2), (8, 8)] and cascade.counts.sum() == 24  # and mirrored
    expected = ["the finest stage", "stage 0", "stage 1"]
    assert [line[25:] for line in lines if "training the codebook" in line] == expected
    again = CascadeTraining(RECIPE, tmp_path, lines.append).train(IMAGES, OTHERS)
    assert sum("training the codebook" in line for line in lines) == 3
    for one, other in zip(cascade.draw(2), again.draw(2), strict=True):
        np.testing.assert_array_equal(one, other)
    other = dataclasses.replace(RECIPE, codebooks=(*RECIPE.codebooks[:2], CodebookSettings(num_embeddings=5)))
    one_line_error(CascadeTraining(other, tmp_path).train, IMAGES, OTHERS, match="codebook of this recipe, got another")


@pytest.mark.slow
def test_a_time_limit_ends_at_a_checkpoint_and_the_rest_follows(tmp_path):
    with pytest.raises(OutOfTimeError, match="the autoencoder"):
        CascadeTraining(RECIPE, tmp_path, limit=TimeLimit(0)).train(IMAGES)
    assert not (tmp_path / "codebook-0").exists()
    assert CascadeTraining(RECIPE, tmp_path).train(IMAGES).n_stages == 3


def test_recipes_have_names():
    recipe = find_cascade("nano-cascade")
    height, width = recipe.autoencoder.map_size(recipe.n_px, recipe.n_px)
    assert (recipe.codebooks[0].patch_H, recipe.codebooks[0].patch_W) == (height, width)
    assert len(recipe.refiners) == len(recipe.refiner_settings) == len(recipe.codebooks) - 2
    one_line_error(find_cascade, "nano-cascad", match=r"did you mean nano-cascade\?")
