"""Training a refiner: what the coarser codes tell is learnt, and a stopped run resumes exactly."""

import dataclasses

import keras
import numpy as np
import pytest

import igpt_tf as igpt
from examples import SETTINGS, StopAfter, one_line_error
from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.latent.refiner_config import RefinerConfig
from igpt_tf.latent.train_refiner import new_refiner, train_refiner
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.training.pretrain import pretrain
from igpt_tf.training.settings import RunSettings

pytestmark = pytest.mark.both_backends
CONFIG = RefinerConfig(2, 2, 6, 4, 4, 8, 1, 1, 2, 2, in_dim=8, hidden_dim=16)
COARSE = np.random.default_rng(0).integers(0, 6, (16, 4)).astype("uint8")
# Every finer code is one more than the coarser one that covers it.
TOKENS = 1 + COARSE.reshape(16, 2, 2).repeat(2, axis=1).repeat(2, axis=2).reshape(16, 16)
RUN = RunSettings(epochs=3, batch_size=8, learning_rate=1e-2, warmup_steps=2, save_every=2, seed=5)


def new_model(**how):
    keras.utils.set_random_seed(0)
    return new_refiner(CONFIG, **how)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_it_learns_what_the_coarser_codes_tell(tmp_path, optimizer):
    settings = dataclasses.replace(RUN, steps=120, save_every=120, optimizer=optimizer)
    model = new_model()
    validation = COARSE[::-1, ::-1], TOKENS[::-1, ::-1]
    (logs,) = train_refiner(model, COARSE, TOKENS, settings, tmp_path, validation)
    assert logs["val_loss"] < 0.5 < np.log(8)
    drawn = igpt.sample(model, 16, classes=COARSE, temperature=0, batch_size=16)
    assert (drawn == TOKENS).mean() > 0.95


@pytest.mark.slow
def test_a_run_that_died_resumes_exactly(tmp_path):
    expected = train_refiner(new_model(), COARSE, TOKENS, RUN, tmp_path / "whole", (COARSE, TOKENS))
    assert expected[0]["loss"] <= np.log(8) + 0.01
    with pytest.raises(KeyboardInterrupt):
        train_refiner(new_model(), COARSE, TOKENS, RUN, tmp_path, (COARSE, TOKENS), [StopAfter(3)])
    found = train_refiner(new_model(), COARSE, TOKENS, RUN, tmp_path, (COARSE, TOKENS))
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose([logs[name] for logs in found], [logs[name] for logs in expected], rtol=1e-5)
    with pytest.raises(UserError, match=r"folder holds, got another \(codebooks was None and is now"):
        other = new_model(codebooks=("one", "two"))
        train_refiner(other, COARSE, TOKENS, RUN, tmp_path, (COARSE, TOKENS))


@pytest.mark.slow
def test_rematerialised_and_mixed_it_trains_alike(tmp_path):
    def losses(folder, **how):
        return [logs["loss"] for logs in train_refiner(new_model(**how), COARSE, TOKENS, RUN, tmp_path / folder)]

    expected = losses("plain")
    np.testing.assert_allclose(losses("less memory", rematerialise=True), expected, rtol=1e-5)
    np.testing.assert_allclose(losses("mixed", mixed_precision=True), expected, rtol=3e-2)


def test_codes_that_do_not_fit_are_refused(tmp_path):
    model = new_model()
    message = r"expected coarser codes of shape \(N, 4\) and finer ones of shape \(N, 16\) of the same images"
    for coarse, tokens in ((COARSE[:5], TOKENS), (COARSE, TOKENS[:, :4]), (COARSE[:0], TOKENS[:0])):
        one_line_error(train_refiner, model, coarse, tokens, RUN, tmp_path, match=message)
    codes = COARSE, TOKENS + 2
    one_line_error(train_refiner, model, *codes, RUN, tmp_path, match="from 0 to 7, got 8: .* another codebook")


@pytest.mark.slow
def test_a_base_transformer_is_drawn_given_the_code_of_the_whole_map(tmp_path):
    """The start embeddings of classes are those of the codes: whoever starts with code c draws the map of c."""
    maps = np.random.default_rng(1).integers(0, 7, (9, 4))
    codes = np.arange(18) % 9
    keras.utils.set_random_seed(0)
    model = ImageGPT(ImageGPTConfig(n_px=2, n_vocab=7, n_embd=16, n_head=2, n_layer=1, n_start=10))
    settings = dataclasses.replace(SETTINGS, steps=200, save_every=200, learning_rate=3e-2, class_dropout=0.0)
    pretrain(model, maps[codes], settings, tmp_path, labels=codes)
    drawn = igpt.sample(model, 9, classes=np.arange(9), temperature=0, batch_size=9)
    assert (drawn == maps).mean() > 0.9
    first = igpt.sample(model, 2, classes=[np.int64(3), 4], temperature=0)
    np.testing.assert_array_equal(first, drawn[3:5])
