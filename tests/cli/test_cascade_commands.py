"""The cascade's commands: their pictures, files and output, and one line for every mistake."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest
from latent_examples import tiny_cascade

from examples import random_image, run
from igpt_tf.cli.main import main

pytestmark = pytest.mark.both_backends


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cascade of three stages, in a folder."""
    folder = tmp_path_factory.mktemp("cascade")
    tiny_cascade().save_to_preset(folder)
    return folder


def generate(capsys, folder, out, *words):
    return run(capsys, "cascade", "generate", "--model", folder, "--out", out, *words)


@pytest.mark.slow
def test_pictures_and_a_column_for_each_stage(capsys, tmp_path, folder):
    code, out, err = generate(capsys, folder, tmp_path, "--n", 3, "--scale", 2, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [path.rpartition("/")[2] for path in found["pictures"]] == ["sample_0.png", "sample_1.png", "sample_2.png"]
    assert imageio.imread(tmp_path / "sample_0.png").shape == (32, 32, 3)
    stages = imageio.imread(found["stages"])
    assert stages.shape == (3 * 32 + 4 * 2, 3 * 32 + 4 * 2, 3)
    np.testing.assert_array_equal(stages[2:34, -34:-2], imageio.imread(tmp_path / "sample_0.png"))
    code, _, err = generate(capsys, folder, tmp_path / "other", "--num-images", 1, "--batch-size", 2)
    assert code == 0, err
    one = imageio.imread(tmp_path / "other/sample_0.png")
    np.testing.assert_array_equal(one, imageio.imread(tmp_path / "sample_0.png")[::2, ::2])


@pytest.mark.slow
def test_variations_of_a_photograph(capsys, tmp_path, folder):
    imageio.imwrite(tmp_path / "cat.png", random_image(16, 16, 3))
    line = ["--from", tmp_path / "cat.png", "--n", 2, "--temperature", 1, 1, 0, "--stage", 1]
    code, _, err = generate(capsys, folder, tmp_path / "out", *line)
    assert code == 0, err
    first, second = (imageio.imread(tmp_path / f"out/cat_{i}.png") for i in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--stage", 1], 2, "--stage: expected --from with it"),
        (["--temperature", 1, 1], 2, "--temperature: expected one value, or one for each of 3 stages, got 2"),
        (["--beam_width", 2, "--temperature", 0.5], 2, "got both"),
        (["--from", "nothing.png"], 1, "nothing.png"),
        (["--n", 0], 2, "--n"),
    ],
)
def test_mistakes(capsys, tmp_path, folder, words, code, message):
    found, _, err = generate(capsys, folder, tmp_path, *words)
    assert found == code and message in err and len(err.splitlines()) == 1, err


def test_what_is_no_cascade(capsys, tmp_path):
    code, _, err = generate(capsys, tmp_path, tmp_path)
    assert code == 1 and "cascade.json: expected" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("line", [["cascade", "--help"], ["cascade", "generate", "--help"], ["cascade", "train", "-h"]])
def test_help(capsys, line):
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "cascade generate" in out or "cascade train" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "ACTION"), (["genrate"], "did you mean generate?"), (["generate", "--mode", "x"], "--model")],
)
def test_wrong_use(capsys, words, message):
    code, _, err = run(capsys, "cascade", *words)
    assert code == 2 and message in err and len(err.splitlines()) == 1


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve pictures of 16 pixels, in an .npy."""
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, random_image(12, 16, 16, 3))
    return path


SMALL = {"min_channel": 4, "max_channel": 4, "num_layers": 1, "latent_channel": 2, "batch_size": 4, "steps": 2}
REFINER = "--num_enc_layers 1 --num_dec_layers 1 --self_attn_heads 2 --cross_attn_heads 2 --in_dim 8 --hidden_dim 8"


@pytest.mark.slow
def test_every_part_by_its_own_command(capsys, tmp_path, images):
    (tmp_path / "ae.json").write_text(json.dumps(SMALL))

    def typed(part, *words):
        code, out, err = run(capsys, "cascade", part, *(str(word) for word in words))
        assert code == 0, err
        return out

    at = {name: tmp_path / name for name in ("ae", "maps", "c0", "c1", "c2", "c2-small", "base", "refiner", "all")}
    data = ["--data", images, "--n_px", 16]
    autoencoder = ["autoencoder", *data, "--validation", images, "--config", tmp_path / "ae.json", "--out", at["ae"]]
    assert "val_psnr" in typed(*autoencoder)
    assert "8 x 8 x 2" in typed("encode", "--model", at["ae"], *data, "--out", at["maps"])
    for name, size, units in (("c0", 8, 2), ("c1", 4, 4), ("c2", 1, 6)):
        line = ["--maps", at["maps"], "--patch_H", size, "--patch_W", size, "--num_embeddings", units, "--steps", 2]
        typed("codebook", *line, "--batch_size", 64, "--autoencoder", at["ae"], "--out", at[name])
        assert (at[name] / "units.png").exists()
    prune = ["--codebook", at["c2"], "--maps", at["maps"], "--autoencoder", at["ae"], "--data", images]
    assert "PSNR" in typed("prune", *prune, "--out", at["c2-small"])
    run_options = ["--maps", at["maps"], "--validation_maps", at["maps"], "--steps", 2, "--batch_size", 4]
    base = ["--n_layer", 1, "--n_embd", 8, "--n_head", 2, "--out", at["base"]]
    typed("base", *run_options, "--codebooks", at["c0"], at["c1"], *base)
    refiner = [*REFINER.split(), "--use_sliding_window", "true", "--sliding_window", 8, "--out", at["refiner"]]
    typed("refine", *run_options, "--codebooks", at["c1"], at["c2"], *refiner)
    parts = ["--autoencoder", at["ae"], "--models", at["base"], at["refiner"], "--maps", at["maps"], "--out", at["all"]]
    assert "16 x 16 pixels in 3 stages" in typed("assemble", *parts, "--codebooks", at["c0"], at["c1"], at["c2"])
    assert "sample_0.png" in typed("generate", "--model", at["all"], "--n", 1, "--out", tmp_path / "out")
    picture = random_image(16, 16, 3)
    imageio.imwrite(tmp_path / "cat.png", picture)
    typed("complete", tmp_path / "cat.png", "--model", at["all"], "--n", 1, "--scale", 1, "--out", tmp_path / "out")
    np.testing.assert_array_equal(imageio.imread(tmp_path / "out/cat_0.png")[:8], picture[:8])
    adapt = ["--autoencoder", at["ae"], "--codebook", at["c2"], *data, "--steps", 2, "--batch_size", 4]
    typed("adapt", *adapt, "--out", tmp_path / "adapted")
    assert (tmp_path / "adapted/codebook/codebook.json").exists()
    wrong = ["assemble", *parts, "--codebooks", at["c0"], at["c1"], at["c1"]]
    code, _, err = run(capsys, "cascade", *wrong)
    assert code == 1 and "of others" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "words", "message"),
    [
        ({"min_chanel": 4}, [], "got min_chanel (did you mean min_channel?)"),
        ({"min_channel": "wide"}, [], "expected min_channel as a positive integer, got 'wide'"),
        ([], [], "got list"),
        ({}, ["--hidden_activation_type", "tansh"], "expected hidden_activation_type as one of"),
        ({}, ["--n_px", 17], "17"),
        ({}, ["--use_final_dec_activation", "maybe"], "expected true or false, got 'maybe'"),
        ({"epochs": "many"}, [], "expected"),
    ],
)
def test_configs_and_shapes_that_mean_nothing(capsys, tmp_path, images, config, words, message):
    (tmp_path / "c.json").write_text(json.dumps(config))
    line = ["--data", images, "--n_px", 16, "--config", tmp_path / "c.json", "--out", tmp_path / "out"]
    code, _, err = run(capsys, "cascade", "autoencoder", *line, *words)
    assert code in (1, 2) and message in err and len(err.splitlines()) == 1, err
    assert not (tmp_path / "out").exists()
