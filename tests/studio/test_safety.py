"""What other sites, broken files and wild requests get: a status and one sentence, and the server goes on serving."""

import json
import struct
import zlib

import httpx
import imageio.v3 as imageio
import numpy as np
import pytest
from studio_serving import HEADERS, client_of, events_of, load, served, studio_of

from examples import TINY, random_image
from igpt_tf.errors import UserError
from igpt_tf.studio import server
from igpt_tf.studio.guard import MOST_BYTES
from igpt_tf.studio.models import StudioModel
from igpt_tf.studio.server import Studio
from igpt_tf.weights.presets import open_preset

TOKENS = [0] * TINY.n_tokens
KNOWN = [1] * 32 + [0] * 32


@pytest.fixture(scope="module")
def name(preset):
    return str(preset)


@pytest.fixture(scope="module")
def address(preset):
    with served(studio_of(preset)) as address:
        yield address


@pytest.fixture
def client(address, name):
    """A client; after what the test did, the server still draws."""
    with client_of(address) as client:
        yield client
        assert list(events_of(client, {"model": name, "tokens": TOKENS, "known": KNOWN, "n": 1}))[-1]["nats"]


def refused(answer, status, *words):
    assert answer.status_code == status
    reason = answer.json()["error"]
    assert all(word in reason for word in words), reason
    assert "\n" not in reason and "Traceback" not in reason and len(reason) <= 400


def huge_png(width, height):
    """A PNG that claims to be large and is a few hundred bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("path", ["/", "/api/state", "/page/index.html"])
def test_another_host_is_refused(client, path):
    """A name of another site that points to this machine."""
    refused(client.get(path, headers={"Host": "evil.example:80"}), 403, "evil.example")


def test_another_sites_page_is_refused(client, name):
    picture = imageio.imwrite("<bytes>", random_image(9, 9, 3), extension=".png")
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        refused(client.post("/api/picture", params={"model": name}, content=picture, headers=headers), 403, "own page")
    answer = client.options("/api/draw", headers={"Origin": "http://evil.example"})
    assert not [header for header in answer.headers if header.startswith("access-control")]


def test_a_request_without_the_pages_header_is_refused(address, name):
    body = json.dumps({"model": name, "tokens": TOKENS, "known": KNOWN})
    answer = httpx.post(f"{address}api/draw", content=body, headers={"Content-Type": "text/plain"})
    refused(answer, 403, "x-igpt-studio")


def test_the_pages_own_origin_is_answered(client, address):
    assert client.get("/api/state", headers={"Origin": address.rstrip("/")}).status_code == 200


def test_answers_keep_the_page_to_itself(client):
    for path in ("/", "/api/state", "/page/index.html", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["referrer-policy"] == "no-referrer"


def test_a_body_that_is_too_large_is_refused(client, name):
    large = bytes(50_000_000)
    refused(client.post("/api/picture", params={"model": name}, content=large), 413, "10,000,000", "50,000,000")

    def in_parts():
        for _ in range(12):
            yield bytes(MOST_BYTES // 10)

    refused(client.post("/api/picture", params={"model": name}, content=in_parts()), 413, "10,000,000")


@pytest.mark.parametrize("size", [(20_000, 15_000), (100_000_000, 3)])
def test_too_many_pixels_are_refused_before_they_are_decoded(client, name, size):
    answer = client.post("/api/picture", params={"model": name}, content=huge_png(*size))
    refused(answer, 400, "at most 100,000,000 pixels", f"{size[0]:,}")
    refused(client.post("/api/mask", params={"model": name}, content=huge_png(*size)), 400, "pixels")


def test_broken_files_are_refused_as_complete_refuses_them(client, name):
    jpeg = imageio.imwrite("<bytes>", random_image(60, 60, 3), extension=".jpg")
    for data, words in (
        (jpeg[: len(jpeg) // 2], "cannot be decoded"),
        (b"hello", "PNG or JPEG"),
        (b"", "an empty one"),
    ):
        refused(client.post("/api/picture", params={"model": name}, content=data), 400, words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"known": [0] * 63}, "mask"),
        ({"known": [2] * 64}, "0 and 1"),
        ({"known": "all"}, "mask"),
        ({"known": [1] * 64}, "to be drawn"),
        ({"known": None}, "one of them"),
        ({"tokens": [0] * 1024}, "64 numbers"),
        ({"tokens": [11] + [0] * 63}, "from 0 to 10"),
        ({"tokens": [0.0] * 64}, "from 0 to 10"),
        ({"tokens": [True] * 64}, "from 0 to 10"),
        ({"n": 17}, "`n`"),
        ({"n": "4"}, "`n`"),
        ({"n": 0}, "`n`"),
        ({"n": 10**400}, "`n`"),
        ({"seed": -1}, "`seed`"),
        ({"seed": 1.5}, "`seed`"),
        ({"temperature": "hot"}, "`temperature`"),
        ({"temperature": -1}, "`temperature`"),
        ({"temperature": None}, "`temperature`"),
        ({"top_p": 2}, "`top_p`"),
        ({"top_k": 0}, "`top_k`"),
        ({"method": "magic"}, "`method`"),
        ({"particles": 10**6}, "`particles`"),
        ({"class_name": "cat"}, "without classes"),
        ({"guidance": 3}, "class"),
        ({"model": "../../etc/passwd"}, "`model`"),
        ({"model": ["a"]}, "`model`"),
        ({"path": "/etc/passwd"}, "nothing more"),
    ],
)
def test_wrong_values_are_refused(client, name, changes, words):
    fields = {"model": name, "tokens": TOKENS, "known": KNOWN} | changes
    refused(client.post("/api/draw", json=fields), 400, "expected", words)


@pytest.mark.parametrize(
    "body",
    ['{"model": NaN}', '{"temperature": Infinity}', "[1]", "nonsense", "\xff", "[" * 100_000, '{"n": 1e999}', ""],
)
def test_what_is_no_json_is_refused(client, body):
    for path in ("/api/draw", "/api/png", "/api/surprise"):
        refused(client.post(path, content=body.encode("latin-1")), 400, "expected")


def test_files_of_too_many_pixels_are_not_made(client, name, monkeypatch):
    monkeypatch.setattr(server, "MOST_FILE_PIXELS", 1000)
    for path in ("/api/png", "/api/gif"):
        refused(client.post(path, json={"model": name, "images": [TOKENS] * 2, "scale": 3}), 400, "1,000", "1,152")
        assert client.post(path, json={"model": name, "images": [TOKENS], "scale": 3}).status_code == 200


def test_no_path_reaches_the_file_system(client):
    for path in (
        "/api/photo/..%2F..%2FREADME.md",
        "/page/..%2f..%2fserver.py",
        "/page/%2e%2e/server.py",
        "/etc/passwd",
    ):
        refused(client.get(path), 404, "expected")


def test_a_crop_outside_the_picture_is_refused(client, name):
    picture = imageio.imwrite("<bytes>", random_image(9, 9, 3), extension=".png")
    for crop in ({"left": -1, "top": 0, "side": 3}, {"left": 0, "top": 0, "side": 10}, {"left": 0}, {"side": "NaN"}):
        refused(client.post("/api/picture", params={"model": name} | crop, content=picture), 400, "crop")


def test_a_token_is_needed_where_others_reach_the_server(preset):
    with (
        served(studio_of(preset), token="secret") as address,
        httpx.Client(base_url=address, headers=HEADERS) as client,
    ):
        for path in ("/", "/?token=wrong", "/api/state"):
            refused(client.get(path), 403, "token")
        assert client.get("/?token=secret").status_code == 200
        assert client.get("/api/state", headers={"x-igpt-token": "secret"}).status_code == 200


def test_a_drawing_that_needs_too_much_memory_is_refused(preset, name):
    def require(*what):
        asked.append(what)
        raise UserError("candidates: expected about 3 images at once, got 16: give candidates 3")

    asked = []
    studio = Studio([StudioModel(name, open_preset(preset), load, require)])
    with served(studio) as address, client_of(address) as client:
        fields = {"model": name, "tokens": TOKENS, "known": KNOWN, "n": 16}
        assert list(events_of(client, fields))[-1]["error"].startswith("candidates: expected about 3")
        list(events_of(client, fields | {"known": KNOWN[::-1], "particles": 20}))
    assert asked == [("candidates", 16, False, 32), ("particles", 20, False, 0)]


def test_many_at_once_get_an_answer_each(client, name):
    """More requests than there are places: the server refuses some, in one sentence."""
    import concurrent.futures

    def draw(_):
        with client_of(str(client.base_url)) as one:
            return one.post("/api/draw", json={"model": name, "tokens": TOKENS, "known": KNOWN, "n": 2})

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(draw, range(20)))
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert all(np.all(json.loads(a.text.splitlines()[-1])["nats"]) for a in answers if a.status_code == 200)
