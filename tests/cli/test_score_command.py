"""`score`: likelihoods of pictures and data, surprise maps, and two sets of images compared."""

import csv
import json

import imageio.v3 as imageio
import numpy as np
import pytest

from examples import run
from igpt_tf.model import ImageGPT
from igpt_tf.scoring.evaluation import score
from igpt_tf.scoring.likelihood import image_scores, png_bits, roc_area
from igpt_tf.weights.presets import load_palette


@pytest.fixture
def expected(preset, pictures, palette):
    """Mean nats of the three pictures."""
    images = np.stack([imageio.imread(path) for path in sorted(pictures.glob("*.png"))])
    return score(ImageGPT.from_preset(preset), palette.quantize(images)).mean(axis=1)


def test_a_line_for_each_picture_and_the_mean(capsys, preset, pictures, expected):
    code, out, _ = run(capsys, "score", pictures, "--model", preset)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 4
    for line, name, nats in zip(lines, "abc", expected, strict=False):
        bits = nats / np.log(2)
        assert line == (
            f"{pictures / name}.png: {nats:.4f} nats/token, {bits:.4f} bits/token, "
            f"{bits / 3:.4f} bits/dimension of the quantised picture"
        )
    assert lines[-1].startswith(f"mean of 3 images: {expected.mean():.4f} nats/token")


def test_json_csv_and_maps(capsys, tmp_path, preset, pictures, expected):
    table, maps = tmp_path / "a" / "scores.csv", tmp_path / "maps"
    code, out, _ = run(capsys, "score", pictures, "--model", preset, "--json", "--csv", table, "--map", maps)
    found = json.loads(out)
    assert code == 0 and found["images"] == 3
    np.testing.assert_allclose([one["nats_per_token"] for one in found["scores"]], expected, rtol=1e-6)
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [one["image"] for one in found["scores"]]
    np.testing.assert_allclose([float(row["bits_per_token"]) for row in rows], expected / np.log(2), rtol=1e-6)
    assert sorted(path.name for path in maps.iterdir()) == ["a.png", "b.png", "c.png"]
    assert imageio.imread(maps / "a.png").ndim == 3


def test_data_are_streamed_and_limited(capsys, tmp_path, preset, expected, pictures):
    code, out, _ = run(
        capsys, "score", "--data", pictures, "--model", preset, "--limit", 2, "--csv", tmp_path / "s.csv"
    )
    assert code == 0 and out.startswith(f"mean of 2 images: {expected[:2].mean():.4f} nats/token")
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 3


def test_two_sets_of_images(capsys, tmp_path, preset, pictures):
    histogram = tmp_path / "both.png"
    code, out, _ = run(
        capsys, "score", pictures, "--model", preset, "--against", pictures, "--histogram", histogram, "--json"
    )
    found = json.loads(out)
    assert code == 0 and histogram.exists()
    assert found == {"images": [3, 3], "auroc_likelihood": 0.5, "auroc_likelihood_minus_png": 0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected pictures or --data, got neither"),
        (["x.png", "--data", "y"], "expected pictures or --data, got both"),
        (["x.png", "--limit", "2"], "--limit: expected --data"),
        (["x.png", "--histogram", "h.png"], "--histogram: expected --against"),
        (["x.png", "--against", "y", "--csv", "t.csv"], "--against: expected it without --csv"),
    ],
)
def test_wrong_use(capsys, preset, arguments, message):
    code, out, err = run(capsys, "score", *arguments, "--model", preset)
    assert (code, out) == (2, "") and message in err


@pytest.mark.parametrize(
    "command, why",
    [
        (["sample"], "cannot draw pixels one after another"),
        (["complete", "{pictures}"], "cannot draw pixels one after another"),
        (["figure", "completions", "{pictures}"], "cannot draw pixels one after another"),
        (["score", "{pictures}"], "gives images no likelihood"),
        (["figure", "surprise", "{pictures}"], "gives images no likelihood"),
    ],
)
def test_bert_models_are_refused_alike(capsys, tmp_path, bert_model, palette, pictures, command, why):
    bert_model.save_to_preset(tmp_path / "bert", palette)
    words = [word.format(pictures=pictures) for word in command]
    out = ["--out", tmp_path / "out.png"] if words[0] != "score" else []
    code, _, err = run(capsys, *words, "--model", tmp_path / "bert", *out)
    expected = f"{tmp_path / 'bert'}: expected an autoregressive model, got a BERT model, which {why}"
    assert code == 1 and expected in err and len(err.splitlines()) == 1


def test_simple_images_are_small_files_and_areas_are_exact(tiny_model, preset):
    palette = load_palette(preset)
    tokens = np.random.default_rng(0).integers(0, len(palette), (9, 64))
    tokens[0] = 3
    sizes = png_bits(palette.dequantize(tokens))
    assert sizes[0] < sizes[1:].min() and not (sizes % 8).any()
    likelihood, corrected = image_scores(tiny_model, tokens, palette, batch_size=2)
    np.testing.assert_allclose(likelihood, score(tiny_model, tokens).sum(axis=1) / np.log(2), rtol=1e-5)
    np.testing.assert_allclose(likelihood - corrected, sizes)
    assert roc_area(np.array([1, 2, 3]), np.array([2.5, 4])) == 5 / 6


def test_maps_do_not_go_among_the_pictures(capsys, preset, pictures):
    code, _, err = run(capsys, "score", pictures, "--model", preset, "--map", pictures / "maps")
    assert code == 2 and "--map: expected a folder outside of" in err
    assert not (pictures / "maps").exists()
