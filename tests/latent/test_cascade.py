"""A cascade: stages that fit each other, draws that a seed decides, known pixels that stay, presets that come back."""

import json
import shutil

import numpy as np
import pytest
from latent_examples import N_CODES, codebook_of, tiny_cascade

from examples import one_line_error, random_image
from igpt_tf.config import ImageGPTConfig
from igpt_tf.latent.cascade import Cascade
from igpt_tf.latent.stages import draw_first, known_codes
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.sampling.controls import Controls
from igpt_tf.weights.presets import open_preset

pytestmark = pytest.mark.both_backends


@pytest.fixture(scope="module")
def cascade():
    return tiny_cascade()


IMAGES = random_image(3, 16, 16, 3)


def test_codes_are_those_of_the_codebooks(cascade):
    codes = cascade.encode(IMAGES)
    assert [part.shape for part in codes] == [(3, 1), (3, 4), (3, 64)]
    assert cascade.grids == [(1, 1), (2, 2), (8, 8)]
    for stage, part in enumerate(codes):
        np.testing.assert_array_equal(cascade.decode(part, stage), cascade.reconstruct(IMAGES, stage))
    np.testing.assert_array_equal(cascade.reconstruct(IMAGES), cascade.reconstruct(IMAGES, 2))


def test_an_image_of_a_seed_is_the_same_whatever_is_drawn_beside_it(cascade):
    whole = cascade.draw(5, seed=3, batch_size=4)
    part = cascade.draw(2, seed=3, first=3, batch_size=1)
    for all_codes, some in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_codes[3:], some)
    assert not np.array_equal(whole[2], cascade.draw(5, seed=4)[2])
    images = cascade.generate(5, seed=3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, cascade.decode(whole[-1]))


def test_the_first_code_has_its_frequency(cascade):
    codes = draw_first(cascade.counts, Controls(), 0, range(2000))
    counts = np.bincount(codes[:, 0], minlength=3) / 2000
    # Three standard errors of 5/8 in 2000 draws.
    assert counts[1] == 0 and abs(counts[0] - 5 / 8) < 3 * (5 / 8 * 3 / 8 / 2000) ** 0.5
    assert set(draw_first(cascade.counts, Controls(0.0), 0, range(5)).reshape(-1)) == {0}


def test_stages_are_drawn_given_a_photographs_own(cascade):
    codes = cascade.encode(IMAGES)
    drawn = cascade.draw(3, seed=1, given=codes[:2])
    np.testing.assert_array_equal(drawn[0], codes[0])
    np.testing.assert_array_equal(drawn[1], codes[1])
    assert not np.array_equal(drawn[2], codes[2])
    greedy = cascade.draw(3, seed=1, given=codes[:2], controls=[Controls(), Controls(), Controls(0.0)])
    np.testing.assert_array_equal(greedy[2], cascade.draw(3, seed=2, given=codes[:2], controls=Controls(0.0))[2])


def test_beams_and_candidates_are_for_each_stage(cascade):
    codes = cascade.encode(IMAGES)[:1]
    beams = [Controls(), Controls(beam_width=2), Controls()]
    first, second = (cascade.draw(3, seed=seed, given=codes, controls=beams) for seed in (1, 2))
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[2], second[2])
    assert cascade.draw(2, num_beam=[1, 2, 1], seed=0)[2].shape == (2, 64)


def test_known_pixels_stay(cascade):
    known = np.ones((16, 16), bool)
    known[10:14, 10:14] = False
    drawn = cascade.complete(IMAGES, known, method="forced")
    np.testing.assert_array_equal(drawn[:, known], IMAGES[:, known])
    other = IMAGES.copy()
    other[:, ~known] = 0
    np.testing.assert_array_equal(drawn, cascade.complete(other, known, method="forced"))
    # A position of the map is 2 pixels: 10 to 14 are positions 5 and 6, and one around them is drawn too.
    given = known_codes(known[None], (8, 8), (8, 8))[0].reshape(8, 8)
    assert not given[4:8, 4:8].any() and given.sum() == 64 - 16
    np.testing.assert_array_equal(known_codes(known[None], (8, 8), (2, 2))[0], [True, True, True, False])


def test_a_preset_is_the_same_cascade(cascade, tmp_path):
    cascade.save_to_preset(tmp_path / "c")
    again = Cascade.from_preset(tmp_path / "c")
    for one, other in zip(cascade.draw(2, seed=1), again.draw(2, seed=1), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(cascade.reconstruct(IMAGES), again.reconstruct(IMAGES))


def test_half_of_the_bytes(cascade, tmp_path):
    cascade.save_to_preset(tmp_path / "half", "float16")
    again = Cascade.from_preset(tmp_path / "half")
    assert [part.shape for part in again.draw(1)] == [(1, 1), (1, 4), (1, 64)]


def test_the_bundled_one_is_found_by_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    bundled = Cascade.from_preset("nano-cascade")
    assert (bundled.height, bundled.width, bundled.grids) == (64, 64, [(1, 1), (4, 4), (16, 16)])
    # What lies in the working folder comes first.
    tiny_cascade().save_to_preset("nano-cascade")
    assert Cascade.from_preset("nano-cascade").height == 16
    tiny_cascade().save_to_preset("checkpoints/mine")
    assert Cascade.from_preset("mine").height == 16


@pytest.mark.parametrize("name", ["nano-cascade", "mine"])
def test_what_expects_a_model_says_what_it_is(monkeypatch, tmp_path, cascade, name):
    monkeypatch.chdir(tmp_path)
    cascade.save_to_preset("mine")
    one_line_error(open_preset, name, match=f"{name}: expected a model, got a cascade of several: `igpt cascade gen")


def test_damaged_and_missing_parts(cascade, tmp_path):
    one_line_error(Cascade.from_preset, tmp_path, match=r"cascade\.json: .* got nothing")
    cascade.save_to_preset(tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "model-2")
    one_line_error(Cascade.from_preset, tmp_path / "c", match="model-2.*got nothing")
    cascade.save_to_preset(tmp_path / "c")
    codebook_of(cascade.autoencoder, 1, N_CODES[2], seed=1).save(tmp_path / "c" / "codebook-2")
    one_line_error(Cascade.from_preset, tmp_path / "c", match="trained on the codes of others")
    for text in ("{}", "[]", json.dumps({"n_stages": 3, "height": 16, "width": 16, "counts": "a", "models": []})):
        (tmp_path / "c" / "cascade.json").write_text(text)
        one_line_error(Cascade.from_preset, tmp_path / "c", match=r"cascade\.json: expected")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: (c.codebooks[:2], c.models), "got 2 codebooks and 2 models"),
        (lambda c: (c.codebooks[:1], []), "got 1 codebooks and 0 models"),
        (lambda c: ([c.codebooks[1], *c.codebooks[1:]], c.models), "one code of the whole map in stage 0, got 2 x 2"),
        (lambda c: (c.codebooks, c.models[::-1]), "Image GPT as the model of stage 1, got one of Refiner"),
        (lambda c: (c.codebooks, [c.models[0], c.models[0]]), "refiner as the model of stage 2, got one of ImageGPT"),
        (
            lambda c: (c.codebooks, [ImageGPT(ImageGPTConfig(2, 5, 8, 2, 1)), c.models[1]]),
            "stage 1 of 2 x 2 of 5 codes given 1 x 1 of 3, got 2 x 2 of 5 codes given 1 x 1 of 0",
        ),
        (
            lambda c: ([*c.codebooks[:2], codebook_of(c.autoencoder, 1, 7, 9)], c.models),
            "stage 2 that was trained on the codes of these codebooks",
        ),
    ],
)
def test_stages_that_do_not_fit(cascade, change, match):
    one_line_error(lambda: Cascade(cascade.autoencoder, *change(cascade), cascade.counts, 16, 16), match=match)


def test_what_cannot_be_asked_for(cascade):
    one_line_error(cascade.encode, IMAGES[:, :8], match="images of 16 x 16 pixels, got")
    one_line_error(cascade.reconstruct, IMAGES, 3, match="`stage` from 0 to 2, got 3")
    one_line_error(cascade.generate, 0, match="`n`.*got 0")
    one_line_error(lambda: cascade.draw(1, controls=[Controls()]), match="for each of 3 stages, or one for all, got 1")
    one_line_error(lambda: cascade.draw(2, given=[np.zeros((1, 1), int)]), match="given codes of shape")
    one_line_error(lambda: cascade.draw(1, given=[np.full((1, 1), 9)]), match="from 0 to 2, got 9")
    one_line_error(lambda: cascade.complete(IMAGES, np.zeros((16, 16), bool)), match="some known pixels")


@pytest.mark.parametrize("rows", [0, 8])
def test_what_is_streamed_is_what_is_drawn_or_completed(cascade, rows):
    known = np.arange(16)[:, None] < np.full(16, rows)
    how = {"controls": Controls(0.8), "seed": 4}
    steps = list(cascade.stream(IMAGES, known, n_particles=3, **how))
    assert [(stage, row) for stage, row, _ in steps if stage < 2][-1] == (1, 2)
    assert {stage for stage, _, _ in steps} == {0, 1, 2}
    codes = steps[-1][2]
    if rows:
        drawn = cascade.complete(IMAGES, known, n_particles=3, **how)
        np.testing.assert_array_equal(np.where(known[..., None], IMAGES, cascade.decode(codes)), drawn)
    else:
        for stage, expected in enumerate(cascade.draw(3, **how)):
            np.testing.assert_array_equal([step for step in steps if step[0] == stage][-1][2], expected)
    np.testing.assert_array_equal(
        list(cascade.stream(IMAGES[1:], known, first=1, n_particles=3, **how))[-1][2], codes[1:]
    )
