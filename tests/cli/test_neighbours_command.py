"""`neighbours`: the nearest images of a data set, as lines, JSON and a figure."""

import json

import imageio.v3 as imageio
import numpy as np

from examples import run
from igpt_tf.probing.neighbours import nearest_images


def test_a_picture_is_nearest_to_itself(capsys, tmp_path, preset, pictures):
    figure = tmp_path / "figures" / "nearest.png"
    arguments = [
        pictures / "b.png",
        pictures / "c.png",
        "--data",
        pictures,
        "--model",
        preset,
        "--n",
        2,
        "--out",
        figure,
    ]
    code, out, _ = run(capsys, "neighbours", *arguments, "--json")
    found = json.loads(out)
    assert code == 0 and (found["figure"], found["layer"]) == (str(figure), 1)
    for one, name in zip(found["pictures"], "bc", strict=True):
        assert one["picture"] == one["nearest"][0]["image"] == str(pictures / f"{name}.png")
        assert abs(one["nearest"][0]["similarity"] - 1) < 1e-4 and len(one["nearest"]) == 2
    assert imageio.imread(figure).ndim == 3
    code, out, _ = run(capsys, "neighbours", *arguments)
    assert code == 0 and out.splitlines()[0].startswith(f"{pictures / 'b.png'}: {pictures / 'b.png'} 1.000, ")


def test_a_layer_that_is_not_there(capsys, preset, pictures):
    code, _, err = run(capsys, "neighbours", pictures, "--data", pictures, "--model", preset, "--layer", 3)
    assert code == 2 and "--layer: expected a number from 0 to 2, got 3" in err


def test_a_picture_is_not_overwritten(capsys, preset, pictures):
    before = (pictures / "a.png").read_bytes()
    arguments = [pictures / "a.png", "--data", pictures, "--model", preset, "--out", pictures / "a.png"]
    code, _, err = run(capsys, "neighbours", *arguments)
    assert code == 2 and "expected a new file to write, got one that is read" in err
    assert (pictures / "a.png").read_bytes() == before


def test_directions_are_seen_from_the_mean():
    features = np.array([[11, 10], [9, 10], [10, 12], [10, 8]], "float32")
    nearest, similarity = nearest_images(features, np.array([[10, 11], [10.5, 10]], "float32"), 9)
    assert nearest[:, 0].tolist() == [2, 0] and nearest.shape == (2, 4)
    np.testing.assert_allclose(similarity[:, 0], 1)
    np.testing.assert_allclose(similarity[:, -1], -1)
