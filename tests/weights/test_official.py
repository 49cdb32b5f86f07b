"""OpenAI's models by name: the weights alone come over the network, checked, and work offline afterwards."""

import threading

import numpy as np
import pytest
from checkpoint_files import random_weights, training_state, write_checkpoint
from http_server import Remote, cut

from examples import TINY, one_line_error
from igpt_tf.config import ImageGPTConfig
from igpt_tf.download.consent import allow_downloads
from igpt_tf.download.http import Patience
from igpt_tf.download.openai import checkpoint_files, palette_file
from igpt_tf.errors import UserError
from igpt_tf.weights.bundle import parse_index
from igpt_tf.weights.official import fetch_official
from igpt_tf.weights.presets import load_palette, open_preset

# As deep as S, but narrow.
CONFIG = ImageGPTConfig(n_px=8, n_vocab=11, n_embd=32, n_head=4, n_layer=24)
HASTY = Patience(retries=3, connect_s=2.0, read_s=2.0, backoff_s=0.0)
WEIGHTS = random_weights(CONFIG)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The files of a checkpoint as OpenAI's, path on the server to bytes."""
    folder = tmp_path_factory.mktemp("openai")
    write_checkpoint(folder / "model.ckpt-1000000", training_state(WEIGHTS), 32)
    files = {file.source: folder / file.path.name for file in checkpoint_files("s")}
    return {f"/{source}": path.read_bytes() for source, path in files.items() if path.exists()}


@pytest.fixture
def mirror(server, published, palette, tmp_path):
    """A server that has the checkpoint and the palette."""
    palette.save(tmp_path / "palette.npy")
    content = {**published, f"/{palette_file().source}": (tmp_path / "palette.npy").read_bytes()}
    content["/checkpoints/igpt-s/1000000/model.ckpt-1000000.meta"] = b"a graph"
    server.files = {path: Remote(data) for path, data in content.items()}
    return server


def fetch(mirror, folder, **options):
    fetch_official("s", 1_000_000, False, folder, mirror.url, patience=HASTY, **options)


def assert_whole(folder):
    preset = open_preset(folder)
    assert preset.config == CONFIG
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(preset.read(name), array, err_msg=name)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_index_says_where_every_array_lies(published):
    entries = parse_index(published["/checkpoints/igpt-s/1000000/model.ckpt-1000000.index"])
    assert len(entries) == 3 * len(WEIGHTS) + 1
    for name, array in WEIGHTS.items():
        entry = entries[f"model/{name}"]
        shard = published[f"/checkpoints/igpt-s/1000000/model.ckpt-1000000.data-{entry.shard:05d}-of-00032"]
        assert entry.shape == array.shape
        assert shard[entry.offset : entry.offset + entry.size] == array.tobytes()


def test_a_damaged_index(published):
    data = published["/checkpoints/igpt-s/1000000/model.ckpt-1000000.index"]
    for damaged in (b"", b"text", data[:-1], data[:100] + b"?" + data[101:]):
        one_line_error(parse_index, damaged, match="expected the index of a checkpoint, got another or a damaged file")


def test_a_third_of_the_bytes_make_a_preset(mirror, tmp_path, palette):
    fetch(mirror, tmp_path / "igpt-s")
    whole = sum(len(remote.data) for remote in mirror.files.values())
    assert mirror.sent < 0.36 * whole
    assert files_in(tmp_path / "igpt-s") == ["config.json", "model.safetensors", "palette.npy"]
    assert_whole(tmp_path / "igpt-s")
    assert load_palette(tmp_path / "igpt-s") == palette


def test_a_second_time_nothing_is_asked_for(mirror, tmp_path):
    fetch(mirror, tmp_path / "igpt-s")
    del mirror.requests[:]
    fetch(mirror, tmp_path / "igpt-s")
    assert not mirror.requests


def test_an_interrupted_download_resumes_array_by_array(mirror, tmp_path):
    name = "/checkpoints/igpt-s/1000000/model.ckpt-1000000.data-00007-of-00032"
    lost = mirror.files.pop(name)
    with pytest.raises(UserError, match="HTTP 404"):
        fetch(mirror, tmp_path / "igpt-s")
    assert files_in(tmp_path / "igpt-s") == ["model.safetensors.part"]
    mirror.files[name] = lost
    del mirror.requests[:]
    fetch(mirror, tmp_path / "igpt-s")
    asked = {path for method, path, _ in mirror.requests if method == "GET" and ".data-" in path}
    assert asked == {name}
    assert_whole(tmp_path / "igpt-s")


def test_cut_connections_and_damaged_bytes_are_made_good(mirror, tmp_path):
    def damage(handler, remote):
        right = remote.data
        remote.data = bytes(len(right))
        handler.serve(remote)
        remote.data = right

    first, second = [path for path in mirror.files if ".data-0000" in path][2:4]
    mirror.files[first].faults = [cut(10)]
    mirror.files[second].faults = [damage]
    fetch(mirror, tmp_path / "igpt-s")
    assert_whole(tmp_path / "igpt-s")
    mirror.files[second].data = bytes(len(mirror.files[second].data))
    with pytest.raises(UserError, match=r"expected CRC-32C [0-9a-f]{8}, got another, twice"):
        fetch(mirror, tmp_path / "other")
    assert not (tmp_path / "other" / "config.json").exists()


def test_a_server_without_ranges_sends_whole_files(mirror, tmp_path, palette):
    for remote in mirror.files.values():
        remote.ranges = False
    fetch(mirror, tmp_path / "igpt-s")
    assert_whole(tmp_path / "igpt-s")
    assert load_palette(tmp_path / "igpt-s") == palette


def test_two_at_once_fetch_it_once(mirror, tmp_path):
    threads = [threading.Thread(target=fetch, args=(mirror, tmp_path / "igpt-s")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_whole(tmp_path / "igpt-s")
    assert mirror.sent < 0.36 * sum(len(remote.data) for remote in mirror.files.values())


# By name


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A place for downloads, and a record of what would be downloaded."""
    asked = []
    monkeypatch.setenv("IGPT_HOME", str(tmp_path))
    monkeypatch.setattr("igpt_tf.weights.presets.fetch_official", lambda *what: asked.append(what) or what[-1].mkdir())
    yield asked
    allow_downloads(False)


def test_nothing_is_downloaded_without_a_yes(at_home):
    one_line_error(open_preset, "igpt-s", match=r"--ckpt 1000000 --clusters`, or its weights alone with `yes`")
    one_line_error(open_preset, "igpt-l-bert@262000", match="--model l --ckpt 262000 --bert")
    assert not at_home


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("igpt-s", ("s", 1_000_000, False, "igpt-s")),
        ("igpt-m-bert", ("m", 1_000_000, True, "igpt-m-bert")),
        ("igpt-l@131000", ("l", 131_000, False, "igpt-l@131000")),
    ],
)
def test_a_name_is_downloaded_where_that_is_allowed(at_home, tmp_path, name, expected):
    allow_downloads()
    with pytest.raises(UserError, match=r"expected a folder with one checkpoint \(\*\.index\), got none"):
        open_preset(name)
    assert at_home == [(*expected[:3], tmp_path / expected[3])]


def test_a_whole_checkpoint_of_the_step_needs_no_download(at_home, tmp_path):
    weights = random_weights(TINY)
    (tmp_path / "igpt-s").mkdir()
    write_checkpoint(tmp_path / "igpt-s" / "model.ckpt-131000", training_state(weights))
    assert open_preset("igpt-s@131000").config == TINY
    assert not at_home


def test_on_a_terminal_the_user_is_asked(at_home, monkeypatch, capsys):
    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            return "n\n"

    monkeypatch.setattr("igpt_tf.download.consent.is_watched", lambda: True)
    monkeypatch.setattr("sys.stdin", Terminal())
    one_line_error(open_preset, "igpt-s", match="expected a downloaded checkpoint")
    assert "igpt-s is not here yet. Download 30" in capsys.readouterr().err
