"""A studio with tiny models on a real socket, and clients of it."""

import asyncio
import contextlib
import json
import threading
import time

import httpx
import uvicorn

from igpt_tf.model import ImageGPT, ImageGPTClassifier
from igpt_tf.studio.guard import OWN_HEADER
from igpt_tf.studio.models import StudioModel
from igpt_tf.studio.server import Studio, make_app
from igpt_tf.studio.serving import open_place
from igpt_tf.weights.presets import open_preset

HEADERS = {OWN_HEADER: "test"}


def load(preset):
    return (ImageGPT if preset.n_class is None else ImageGPTClassifier).from_preset(preset)


def studio_of(*presets, load=load):
    """A studio of preset folders, each called by its path."""
    return Studio([StudioModel(str(preset), open_preset(preset), load) for preset in presets])


@contextlib.contextmanager
def served(studio, token=None):
    """The address of a studio that is served until the block ends."""
    place = open_place("127.0.0.1", 0)
    hosts = None if token else place.hosts
    config = uvicorn.Config(make_app(studio, hosts, token), log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(place.sockets)))
    thread.start()
    try:
        yield place.address
    finally:
        server.force_exit = server.should_exit = True
        thread.join(30)
        place.sockets[0].close()


def client_of(address, **headers):
    return httpx.Client(base_url=address, headers={**HEADERS, **headers}, timeout=60)


def events_of(client, fields):
    """What a drawing streams, event by event."""
    with client.stream("POST", "/api/draw", json=fields) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            yield json.loads(line)


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this takes too long"
        time.sleep(0.01)
