"""`convert`: what is written, printed and refused."""

import json

from examples import run
from igpt_tf.weights.presets import load_palette, open_preset


def test_to_openais_format_and_back(capsys, tmp_path, preset):
    code, out, _ = run(capsys, "convert", preset, tmp_path / "a", "--to", "openai", "--n_shards", 2, "--json")
    found = json.loads(out)
    assert code == 0 and (found["folder"], found["format"]) == (str(tmp_path / "a"), "openai")
    assert [path.removeprefix(f"{tmp_path}/a/") for path in found["files"]] == [
        "checkpoint",
        "kmeans_centers.npy",
        "model.ckpt.data-00000-of-00002",
        "model.ckpt.data-00001-of-00002",
        "model.ckpt.index",
    ]
    assert run(capsys, "convert", tmp_path / "a", tmp_path / "b") == (0, f"{tmp_path / 'b'}\n", "")
    assert open_preset(tmp_path / "b").fingerprint() == open_preset(preset).fingerprint()
    assert load_palette(tmp_path / "b") == load_palette(preset)


def test_what_is_refused_has_one_line(capsys, tmp_path, preset):
    code, out, err = run(capsys, "convert", preset, preset)
    assert (code, out, err.count("\n")) == (1, "", 1) and "a new or an empty folder" in err
    code, _, err = run(capsys, "convert", "nano-cifar10", tmp_path / "a", "--to", "huggingface")
    assert code == 1 and "leave these out with --drop_classes" in err
