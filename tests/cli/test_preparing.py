"""Training on a folder of pictures, with a palette of their own or of a model."""

import json

import imageio.v3 as imageio
import numpy as np
import pytest

from examples import TINY, run
from igpt_tf.cli import preparing, pretrain, training
from igpt_tf.data.store.store import TokenStore
from igpt_tf.pictures.palette import Palette

pytestmark = pytest.mark.both_backends
SHAPE = ["--n_px", 8, "--n_embd", 16, "--n_head", 2, "--n_layer", 1, "--steps", 2, "--batch_size", 2]


def write(folder, grey=False, n=6):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        picture = rng.integers(0, 256, (8, 8, 3), dtype="uint8")
        imageio.imwrite(folder / f"{i}.png", np.repeat(picture[..., :1], 3, 2) if grey else picture)
    return folder


@pytest.mark.parametrize(("grey", "n_vocab"), [(False, 11), (True, 11), (True, 512)])
def test_pictures_get_a_palette_of_their_own(tmp_path, grey, n_vocab):
    from igpt_tf.data.sources.open import open_source

    store = preparing.prepare(open_source(write(tmp_path / "shapes", grey)), tmp_path / "out", 8, n_vocab)
    assert store.palette.n_channels == (1 if grey else 3) and len(store) == 6
    # As many levels as there are, where there are fewer.
    levels = np.unique([imageio.imread(path)[..., 0] for path in (tmp_path / "shapes").iterdir()])
    assert len(store.palette) == (len(levels) if n_vocab == 512 else n_vocab)


def test_a_folder_of_pictures_is_enough_and_a_killed_step_resumes(capsys, monkeypatch, tmp_path):
    out = tmp_path / "m"
    line = ["pretrain", "--data", write(tmp_path / "shapes"), "--out", out, "--n_vocab", 11, *SHAPE]
    (tmp_path / "shapes/broken.png").write_bytes(b"no picture")
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "resolve_palette", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        code, _, err = run(capsys, *line)
    assert code == 130 and "there is no checkpoint yet; the same command resumes" in err
    written = (out / "training/tokens/store.json").stat().st_mtime_ns
    code, _, err = run(capsys, *line)
    assert code == 0, err
    assert "choosing colours" not in err and "using the tokens of 11 colours" in err
    assert "skipped 1 of 7 pictures" in err and err.count("broken.png") == 1
    assert (out / "training/tokens/store.json").stat().st_mtime_ns == written
    assert Palette.load(out / "palette.npy") == TokenStore.open(out / "training/tokens").palette


def test_a_palette_has_the_name_of_a_model(capsys, tmp_path, preset):
    shapes = write(tmp_path / "shapes")
    line = ["tokenize", "--data", shapes, "--n_px", 8, "--out", tmp_path / "tokens", "--json", "--palette"]
    code, out, err = run(capsys, *line, preset)
    assert code == 0 and json.loads(out)["n_vocab"] == TINY.n_vocab, err
    code, _, err = run(capsys, *line, "nothing")
    assert code == 1 and "nothing: expected a palette .npy, or a model with a palette, got neither" in err
    code, _, err = run(capsys, "pretrain", "--data", shapes, "--out", tmp_path / "m", *SHAPE, "--palette", preset)
    assert code == 0, err
    assert Palette.load(tmp_path / "m/palette.npy") == Palette.load(preset / "palette.npy")


def test_a_preset_that_training_will_replace_is_named(capsys, monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "choose_precision", stop)
    out = tmp_path / "m"
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"of another run")
    code, _, err = run(capsys, "pretrain", "--data", write(tmp_path / "shapes"), "--out", out, *SHAPE)
    assert code == 130 and f"replacing {out}/model.safetensors of an earlier run" in err
