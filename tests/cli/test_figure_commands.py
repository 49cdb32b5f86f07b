"""`figure`: what each part prints and writes, and the mistakes it refuses."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest

import igpt_tf as igpt
from examples import labelled_pictures, pretrain_line, run
from igpt_tf.probing.attention import over_pixels
from igpt_tf.weights.presets import open_series


def test_attention(capsys, tmp_path, preset, pictures, palette):
    figure = tmp_path / "new" / "attention.png"
    arguments = [pictures / "a.png", "--model", preset, "--layer", 1, 2, "--pixel", "3,4", "0,0", "--head", 0, 3]
    code, out, _ = run(capsys, "figure", "attention", *arguments, "--out", figure, "--json")
    found = json.loads(out)
    assert code == 0 and found["figure"] == str(figure) and imageio.imread(figure).ndim == 3
    assert [(row["layer"], row["pixel"], row["head"]) for row in found["maps"]] == [
        (layer, pixel, head) for layer in (1, 2) for pixel in ([3, 4], [0, 0]) for head in (0, 3)
    ]
    tokens = palette.quantize(imageio.imread(pictures / "a.png")[None])
    maps = igpt.attention_maps(igpt.ImageGPT.from_preset(preset), tokens, 2, [4 * 8 + 3])[0, 3, 0]
    row = found["maps"][5]
    # Position s reads pixel s - 1.
    x, y = row["at"]
    assert row["most"] == pytest.approx(maps[1 + 8 * y + x]) and row["start"] == pytest.approx(maps[0])
    assert row["most"] == pytest.approx(maps[1:].max())
    assert found["maps"][-1]["start"] == 1


def test_attention_of_a_bert_model(capsys, tmp_path, bert_model, palette, pictures):
    bert_model.save_to_preset(tmp_path / "bert", palette)
    arguments = [pictures / "b.png", "--model", tmp_path / "bert", "--out", tmp_path / "a.svg"]
    code, out, _ = run(capsys, "figure", "attention", *arguments)
    assert code == 0 and "start" not in out and out.splitlines()[0].startswith("layer 1, head 0, pixel 4,4: at most ")
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_pixels_are_read_one_position_late(tiny_model, bert_model):
    maps = np.arange(64.0)
    pixels, start = over_pixels(tiny_model, maps)
    assert start == 0 and pixels[0, 0] == 1 and pixels[7, 6] == 63 and pixels[7, 7] == 0
    pixels, start = over_pixels(bert_model, maps)
    assert start is None and pixels[7, 7] == 63


def test_surprise(capsys, tmp_path, preset, pictures):
    arguments = [pictures, "--model", preset, "--out", tmp_path / "s.pdf", "--json"]
    code, out, _ = run(capsys, "figure", "surprise", *arguments)
    found = json.loads(out)
    assert code == 0 and (tmp_path / "s.pdf").read_bytes().startswith(b"%PDF")
    _, out, _ = run(capsys, "score", pictures, "--model", preset, "--json")
    expected = [one["nats_per_token"] for one in json.loads(out)["scores"]]
    np.testing.assert_allclose([one["nats_per_token"] for one in found["pictures"]], expected, rtol=1e-6)


def test_palette(capsys, tmp_path, preset, pictures, palette):
    arguments = [pictures / "a.png", "--palette", preset, "--n_px", 8, "--out", tmp_path / "p.png"]
    code, out, _ = run(capsys, "figure", "palette", *arguments)
    lines = out.splitlines()
    assert code == 0 and lines[0] == f"{preset}: 11 colours" and imageio.imread(tmp_path / "p.png").ndim == 3
    assert lines[1] == f"{pictures / 'a.png'}: root mean square error 0.00 of 255"
    igpt.Palette(np.linspace(-1, 1, 4)[:, None]).save(tmp_path / "grey.npy")
    for more in ([pictures / "b.png"], []):
        code, out, _ = run(
            capsys, "figure", "palette", *more, "--palette", tmp_path / "grey.npy", "--out", tmp_path / "g.png"
        )
        assert code == 0 and "4 colours" in out


@pytest.mark.slow
def test_completions_are_those_of_complete(capsys, tmp_path, monkeypatch, preset, pictures, palette):
    from igpt_tf.pictures import plots

    drawn = []
    monkeypatch.setattr(plots, "draw_completions", lambda path, *images: drawn.append(images))
    options = [pictures / "a.png", pictures / "b.png", "--model", preset, "--rows", 3, "--n", 2, "--seed", 7]
    code, out, _ = run(capsys, "figure", "completions", *options, "--out", tmp_path / "c.png")
    given, completions, originals = drawn[0]
    assert code == 0 and out.strip() == str(tmp_path / "c.png")
    assert run(capsys, "complete", *options, "--out", tmp_path, "--pixels")[0] == 0
    for i, name in enumerate("ab"):
        for k in range(2):
            np.testing.assert_array_equal(completions[i, k], imageio.imread(tmp_path / f"{name}_{k}.png"))
        np.testing.assert_array_equal(given[i, :3], originals[i, :3])
        np.testing.assert_array_equal(originals[i], imageio.imread(pictures / f"{name}.png"))
    monkeypatch.undo()
    plots.draw_completions(tmp_path / "c.png", given, completions, originals)
    assert imageio.imread(tmp_path / "c.png").ndim == 3


def write_images(path):
    """OpenAI's files of tokens and labels, of both splits."""
    for split, n, seed in (("tr", 60, 0), ("te", 30, 1)):
        for name, array in zip("XY", labelled_pictures(n, seed), strict=True):
            np.save(f"{path}_{split}{name}.npy", array)
    return path


def test_layers(capsys, tmp_path, preset):
    data = write_images(tmp_path / "data")
    assert run(capsys, "probe", "--data", data, "--model", preset, "--out", tmp_path / "$one_")[0] == 0
    figure = tmp_path / "layers.png"
    code, out, _ = run(capsys, "figure", "layers", tmp_path / "$one_", tmp_path / "$one_", "--out", figure, "--json")
    found = json.loads(out)
    fields = json.loads((tmp_path / "$one_" / "probe.json").read_text())
    assert code == 0 and imageio.imread(figure).ndim == 3
    assert found["probes"][0] == {
        "probe": str(tmp_path / "$one_"),
        **{name: fields[name] for name in ("model", "best_layer", "accuracy")},
    }
    code, _, err = run(capsys, "figure", "layers", preset)
    assert code == 1 and "expected a folder that probe has written, with probe.json, got none" in err


@pytest.mark.slow
def test_progress_over_the_checkpoints_of_a_run(capsys, tmp_path, palette, preset):
    line = [*pretrain_line(tmp_path, palette), "--steps", 6, "--keep", 9]
    assert run(capsys, *line)[0] == 0
    series = open_series(tmp_path / "model")
    assert [called for called, _ in series] == ["step 2", "step 4", "step 6"]
    assert not np.array_equal(series[0][1].read("wte"), series[2][1].read("wte"))
    data, figure = write_images(tmp_path / "data"), tmp_path / "progress.png"
    models = [tmp_path / "model", preset]
    code, out, err = run(capsys, "figure", "progress", *models, "--data", data, "--out", figure, "--layer", 1, "--json")
    found = json.loads(out)["runs"]
    assert code == 0 and imageio.imread(figure).ndim == 3
    assert [one["run"] for one in found] == [str(model) for model in models]
    assert [point["checkpoint"] for point in found[0]["points"]] == ["step 2", "step 4", "step 6"]
    # The last checkpoint is the model that the run has left.
    last, (tokens, labels) = igpt.ImageGPT.from_preset(tmp_path / "model"), labelled_pictures(30, 1)
    point = found[0]["points"][2]
    assert point["nats_per_token"] == pytest.approx(igpt.evaluate(last, tokens).nats, rel=1e-5)
    probed = igpt.probe(last, labelled_pictures(60, 0), (tokens, labels), layers=[1], seed=42).best
    assert point["accuracy"] == pytest.approx(probed.accuracy / 100)
    assert f"{tmp_path / 'model'}, step 4: " in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("attention {a} --layer 3", "--layer: expected numbers from 1 to 2, got 3"),
        ("attention {a} --head 4", "--head: expected numbers from 0 to 3, got 4"),
        ("attention {a} --pixel 8,0", "--pixel: expected numbers from 0 to 7, got 8"),
        ("attention {a} --pixel 8", "--pixel: expected column,row such as 16,20, got '8'"),
        ("attention {a} --out {a}", "expected a new file to write, got one that is read"),
        ("surprise {a} --out a.jpg", "--out: expected the name of a .png, .pdf, .svg file, got a.jpg"),
        ("attention {folder}", "expected one picture, got 3"),
    ],
)
def test_mistakes(capsys, preset, pictures, line, message):
    words = line.format(a=pictures / "a.png", folder=pictures).split()
    code, out, err = run(capsys, "figure", *words, "--model", preset)
    assert (code, out) == (2, "") and message in err
