"""A cascade in the studio: whole pictures, finer at every stage."""

import shlex

import imageio.v3 as imageio
import numpy as np
import pytest
from latent_examples import tiny_cascade
from studio_serving import client_of, events_of, served

from examples import random_image, run
from igpt_tf.latent.cascade import Cascade
from igpt_tf.sampling import Controls, known_outside_box
from igpt_tf.studio.cascades import CascadeModel
from igpt_tf.studio.server import Studio


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cascade")
    tiny_cascade().save_to_preset(folder)
    return folder


@pytest.fixture(scope="module")
def client(folder):
    model = CascadeModel(str(folder), folder, Cascade.from_preset)
    with served(Studio([model])) as address, client_of(address) as client:
        yield client


def unpacked(tokens):
    return (np.array(tokens).reshape(-1, 16, 16, 1) >> np.array([16, 8, 0]) & 255).astype(np.uint8)


def test_stages_come_from_coarse_to_fine(client, folder):
    fields = {"model": str(folder), "n": 3, "seed": 6, "temperature": 0.7}
    events = list(events_of(client, fields))
    seen = [event for event in events if "tokens" in event]
    assert [event["stage"] for event in seen] == [1, 2, 3]
    assert [event["provisional"] for event in seen] == [True, True, False]
    cascade = Cascade.from_preset(folder)
    codes = cascade.draw(3, controls=Controls(0.7), seed=6)
    for stage, event in enumerate(seen):
        np.testing.assert_array_equal(unpacked(event["tokens"]), cascade.decode(codes[stage], stage))
    assert events[-1] == {
        "nats": None,
        "command": f"igpt cascade generate --model {folder} --n 3 --seed 6 --n_sub_batch 3 --temperature 0.7",
    }


def test_a_hole_is_filled_and_the_rest_stays(client, folder):
    picture = random_image(16, 16, 3)
    data = imageio.imwrite("<bytes>", picture, extension=".png")
    tokens = client.post("/api/picture", params={"model": str(folder)}, content=data).json()["tokens"]
    np.testing.assert_array_equal(unpacked(tokens)[0], picture)
    known = np.ones((16, 16), int)
    known[4:9, 4:9] = 0
    fields = {"model": str(folder), "n": 2, "particles": 2, "tokens": tokens, "known": known.reshape(-1).tolist()}
    drawn = unpacked([event for event in events_of(client, fields) if "tokens" in event][-1]["tokens"])
    np.testing.assert_array_equal(drawn[:, known == 1], np.stack([picture[known == 1]] * 2))
    assert (drawn[0] != picture).any()
    saved = client.post("/api/png", json={"model": str(folder), "images": [tokens]}).content
    np.testing.assert_array_equal(imageio.imread(saved), picture)


def test_it_knows_no_likelihood(client, folder):
    for path in ("surprise", "classify"):
        answer = client.post(f"/api/{path}", json={"model": str(folder), "tokens": [0] * 256})
        assert answer.status_code == 400 and "expected a model that" in answer.json()["error"]


def test_the_command_of_a_hole_draws_the_same_pictures(client, folder, tmp_path, capsys):
    picture = random_image(16, 16, 3)
    imageio.imwrite(tmp_path / "picture.png", picture)
    query = {"params": {"model": str(folder)}, "content": (tmp_path / "picture.png").read_bytes()}
    tokens = client.post("/api/picture", **query).json()["tokens"]
    known = known_outside_box(16, 4, 5, 6, 7).astype(int).tolist()
    for changes in ({}, {"method": "forced"}, {"known": [1] * 128 + [0] * 128}):
        fields = {"model": str(folder), "n": 2, "particles": 2, "tokens": tokens, "known": known} | changes
        *_, last, end = events_of(client, fields | {"picture": str(tmp_path / "picture.png")})
        words = shlex.split(end["command"])
        assert words[:3] == ["igpt", "cascade", "complete"]
        code, _, err = run(capsys, *words[1:], "--scale", "1", "--out", str(tmp_path / "out"))
        assert code == 0, err
        for number, drawn in enumerate(unpacked(last["tokens"])):
            np.testing.assert_array_equal(imageio.imread(tmp_path / f"out/picture_{number}.png"), drawn)


def test_where_nothing_is_given_every_method_draws_as_generate_does(client, folder):
    auto, smc, empty = (
        [event.get("tokens") for event in events_of(client, {"model": str(folder), "n": 2} | how)]
        for how in ({}, {"method": "smc"}, {"tokens": [0] * 256, "known": [0] * 256})
    )
    assert auto == smc == empty
