"""What the page asks, over a real socket: pictures, drawings in rows, files, and a line that is fair."""

import io
import threading
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image
from studio_serving import client_of, events_of, load, served, studio_of, wait_until

from examples import TINY, photograph
from igpt_tf.errors import UserError
from igpt_tf.pictures.crop import resize_and_crop
from igpt_tf.sampling import Controls, Sampler, known_outside_box, known_rows
from igpt_tf.sampling.keys import candidate_seeds
from igpt_tf.scoring.evaluation import score
from igpt_tf.studio import serving
from igpt_tf.studio.line import MOST, FullError, Line
from igpt_tf.studio.models import StudioModel
from igpt_tf.studio.serving import open_place
from igpt_tf.weights.presets import open_preset


@pytest.fixture(scope="module")
def studio(preset):
    return studio_of(preset)


@pytest.fixture(scope="module")
def address(studio):
    with served(studio) as address:
        yield address


@pytest.fixture
def client(address):
    with client_of(address) as client:
        yield client


@pytest.fixture(scope="module")
def sampler(preset):
    return Sampler(load(open_preset(preset)))


@pytest.fixture
def fields(preset):
    """A request for the lower half of a picture of random tokens."""
    tokens = np.random.default_rng(3).integers(0, TINY.n_vocab, TINY.n_tokens).tolist()
    return {"model": str(preset), "tokens": tokens, "known": known_rows(8, 4).astype(int).tolist(), "n": 3, "seed": 5}


def png(array):
    return imageio.imwrite("<bytes>", array, extension=".png")


def test_the_state_names_models_and_photographs(client, preset, palette):
    state = client.get("/api/state").json()
    (model,) = state["models"]
    assert (model["name"], model["n_px"], model["n_vocab"]) == (str(preset), 8, TINY.n_vocab)
    assert model["palette"] == palette.dequantize(np.arange(TINY.n_vocab).reshape(1, 1, -1))[0, 0].tolist()
    assert {"cat.jpg", "boat.jpg"} <= {photo["name"] for photo in state["photos"]}
    assert client.get("/api/photo/cat.jpg").content[:2] == b"\xff\xd8"


def test_a_picture_is_cropped_and_reduced_to_the_models_colours(client, preset, palette):
    query = {"model": str(preset)}
    wide = photograph(20, 30)
    seen = client.post("/api/picture", params=query, content=png(wide)).json()
    assert (seen["width"], seen["height"], seen["crop"]) == (30, 20, [5, 0, 20])
    assert seen["tokens"] == palette.quantize(resize_and_crop(wide, 8)[None])[0].tolist()
    assert seen["preview"].startswith("data:image/png;base64,")
    crop = {"left": 0, "top": 0, "side": 8}
    corner = client.post("/api/picture", params=query | crop, content=png(wide)).json()
    assert corner["tokens"] == palette.quantize(wide[None, :8, :8])[0].tolist()


def test_rows_arrive_one_after_another_and_are_those_of_the_sampler(client, fields, sampler, preset):
    events = list(events_of(client, fields))
    rows = [event for event in events if "tokens" in event]
    assert [event["row"] for event in rows] == [4, 5, 6, 7, 8]
    assert rows[0]["progress"] == 0 and rows[-1]["progress"] == 1
    tokens, known = np.array(fields["tokens"]), np.array(fields["known"], bool)
    expected = sampler.complete(tokens[None].repeat(3, 0), known[None].repeat(3, 0), seed=candidate_seeds(5, 1, 3))
    np.testing.assert_array_equal(rows[-1]["tokens"], expected)
    nats = score(load(open_preset(preset)), expected)
    np.testing.assert_allclose(events[-1]["nats"], nats, atol=1e-3)
    assert events[-1]["command"].startswith("igpt complete picture.png --rows 4 --model")


def test_a_hole_is_drawn_by_smc_whose_rows_are_provisional(client, fields, sampler):
    known = known_outside_box(8, 2, 2, 3, 3)
    fields |= {"known": known.astype(int).tolist(), "particles": 20, "n": 2}
    events = list(events_of(client, fields))
    rows = [event for event in events if "tokens" in event]
    assert [event["candidates"] for event in rows if not event["provisional"]] == [[0, 1], [1, 2]]
    assert [event["provisional"] for event in rows].count(True) >= 4
    tokens = np.array(fields["tokens"])[None].repeat(2, 0)
    seeds = candidate_seeds(5, 1, 2)
    expected = sampler.complete(tokens, known, seed=seeds, n_particles=20, method="smc")
    drawn = [event["tokens"][0] for event in rows if not event["provisional"]]
    np.testing.assert_array_equal(drawn, expected)
    assert "--box 2,2,3,3 --particles 20" in events[-1]["command"]


def test_images_from_nothing_are_those_of_sample(client, fields, sampler):
    events = list(events_of(client, {"model": fields["model"], "n": 2, "seed": 9, "temperature": 0.9}))
    np.testing.assert_array_equal(events[-2]["tokens"], sampler.sample(2, Controls(0.9), seed=9))
    assert events[-1]["command"].startswith("igpt sample --model")
    smc = list(events_of(client, {"model": fields["model"], "n": 2, "seed": 9, "temperature": 0.9, "method": "smc"}))
    assert smc[-2]["tokens"] == events[-2]["tokens"]


def test_surprise_is_the_score(client, fields, preset):
    answer = client.post("/api/surprise", json={"model": fields["model"], "tokens": fields["tokens"]})
    nats = score(load(open_preset(preset)), np.array([fields["tokens"]]))[0]
    np.testing.assert_allclose(answer.json()["nats"], nats, atol=1e-3)


def test_files_have_the_pictures_pixels(client, fields, palette):
    (picture,) = palette.dequantize(np.array([fields["tokens"]]))
    request = {"model": fields["model"], "images": [fields["tokens"]]}
    for scale in (1, 4):
        answer = client.post("/api/png", json=request | {"scale": scale})
        np.testing.assert_array_equal(imageio.imread(answer.content), picture.repeat(scale, 0).repeat(scale, 1))
    both = request | {"images": [fields["tokens"]] * 2, "known": fields["known"], "scale": 2}
    assert imageio.imread(client.post("/api/png", json=both).content).shape == (20, 38, 3)
    film = Image.open(io.BytesIO(client.post("/api/gif", json=both).content))
    assert film.n_frames > 10
    mask = imageio.imread(client.post("/api/mask.png", json=both | {"known": fields["known"]}).content)
    np.testing.assert_array_equal(mask.reshape(8, 8, -1)[..., 0] == 0, known_rows(8, 4).reshape(8, 8))


def test_a_mask_is_read_as_complete_reads_it(client, preset):
    mask = np.zeros((16, 16), np.uint8)
    mask[4:8, 6:10] = 255
    answer = client.post("/api/mask", params={"model": str(preset)}, content=png(mask)).json()
    np.testing.assert_array_equal(np.array(answer["known"], bool), known_outside_box(8, 3, 2, 2, 2))
    black = client.post("/api/mask", params={"model": str(preset)}, content=png(np.zeros((9, 9), np.uint8)))
    assert black.status_code == 400 and "expected a mask with white" in black.json()["error"]


def test_a_client_that_vanishes_frees_the_line_within_a_row(client, studio, fields):
    steps = events_of(client, fields | {"n": 16})
    assert next(steps)["place"] == 0
    next(steps)
    assert len(studio.line) == 1
    steps.close()
    wait_until(lambda: len(studio.line) == 0)
    assert len(list(events_of(client, fields))) == 7


def test_twenty_drawings_at_once_wait_and_are_all_drawn(address, fields):
    found = []

    def draw(number):
        with client_of(address, **{"x-igpt-studio": f"browser {number % 4}"}) as client:
            found.append(list(events_of(client, fields)))

    threads = [threading.Thread(target=draw, args=[number]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert all(events[-2]["tokens"] == found[0][-2]["tokens"] for events in found)
    assert max(event.get("place", 0) for events in found for event in events) > 3


def test_a_model_that_cannot_be_compiled_is_not_called_compiling(preset):
    def require(*_):
        raise UserError("expected more memory")

    model = StudioModel(str(preset), open_preset(preset), load, require)
    with pytest.raises(UserError, match="memory"):
        list(model.warm_up())
    assert model.state == "ready"


def test_the_usual_port_may_be_left_out_of_the_host(monkeypatch):
    listening = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 80))
    monkeypatch.setattr(serving.socket, "create_server", lambda *_, **__: listening)
    assert {"127.0.0.1", "localhost:80"} <= (open_place("127.0.0.1", 80).hosts or set())


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", ""])
def test_an_address_of_no_or_another_machine_is_refused(host):
    with pytest.raises(UserError, match="expected `host` as an address of this machine, got"):
        open_place(host, 0)


def test_the_address_of_a_server_for_others_can_be_opened():
    place = open_place("0.0.0.0", 0)
    place.sockets[0].close()
    assert place.token and place.hosts is None and "0.0.0.0" not in place.address.split("?")[0]


def test_the_line_is_fair():
    line = Line()
    waiting = [line.join(client) for client in "aaabbc"]
    assert [ticket.place for ticket in waiting] == [0, 3, 5, 1, 4, 2]
    order = []
    while waiting:
        turn = next(ticket for ticket in waiting if ticket.place == 0)
        order.append(turn.client)
        waiting.remove(turn)
        line.leave(turn)
    assert "".join(order) == "abcaba"
    tickets = [line.join("a") for _ in range(MOST)]
    with pytest.raises(FullError, match="try again later"):
        line.join("b")
    for ticket in tickets:
        line.leave(ticket)
    assert not len(line)
