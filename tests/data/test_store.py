"""The token store: what is in it, what a kill leaves of it, and one line for everything that does not fit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from examples import one_line_error, random_image
from igpt_tf.data.open import open_data, read_tokens
from igpt_tf.data.sources.open import Source, open_source
from igpt_tf.data.store import encode
from igpt_tf.data.store import writer as writing
from igpt_tf.data.store.rows import FileTokens
from igpt_tf.data.store.store import TokenStore, tokenize
from igpt_tf.errors import SkippedWarning
from igpt_tf.pictures.crop import random_resized_crop
from igpt_tf.pictures.palette import Palette

PALETTE = Palette(np.random.default_rng(0).uniform(-1, 1, (20, 3)))
OTHER = Palette(np.random.default_rng(1).uniform(-1, 1, (20, 3)))
ROOT = Path(__file__).parents[2]
N_PX = 8
pytestmark = pytest.mark.filterwarnings("ignore::igpt_tf.errors.SkippedWarning")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def few(monkeypatch):
    """Two examples at a time, and progress recorded after each."""
    monkeypatch.setattr(encode, "CHUNK", 2)
    monkeypatch.setattr(writing, "SAVE_SECONDS", 0)


@pytest.fixture
def pictures(tmp_path):
    """Nine pictures of three classes, the second and the last of them no pictures at all."""
    folder = tmp_path / "pictures"
    for i, image in enumerate(random_image(9, N_PX, N_PX, 3)):
        place = folder / "abc"[i // 3] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        imageio.imwrite(place, image)
    (folder / "a/1.png").write_bytes(b"nonsense")
    (folder / "c/8.png").write_bytes(b"")
    return folder


GOOD = [0, 2, 3, 4, 5, 6, 7]


@pytest.fixture
def store(tmp_path, pictures):
    return tokenize(open_source(pictures), tmp_path / "store", PALETTE, N_PX)


def test_a_store_holds_tokens_labels_and_palette(store, few):
    expected = PALETTE.quantize(random_image(9, N_PX, N_PX, 3)[GOOD])
    assert (len(store), store.shape, store.dtype, store.n_px, store.n_vocab) == (7, (7, 64), np.uint16, 8, 20)
    assert store.palette == PALETTE and store.classes == ("a", "b", "c")
    assert store.labels.tolist() == [0, 0, 1, 1, 1, 2, 2] and store.labels.dtype == np.int32
    for rows in (
        slice(None),
        slice(2, 5),
        np.array([6, 0, 0]),
        [1, 2, -1],
        3,
        -2,
        slice(5, 2),
        slice(None, None, -2),
        [],
    ):
        np.testing.assert_array_equal(store[rows], expected[rows])
        assert type(store[rows]) is np.ndarray and store[rows].dtype == np.uint16
    for rows in ([7], -8, np.array([0, 9])):
        with pytest.raises(IndexError):
            store[rows]
    # What is read is not a view of the file.
    store[:3][:] = 0
    np.testing.assert_array_equal(np.load(store.folder / "tokens.npy"), expected)


def test_pictures_that_cannot_be_read_are_counted_and_named(store):
    assert store.skipped == 2
    lines = (store.folder / "skipped.txt").read_text().splitlines()
    assert len(lines) == 2 and "a/1.png" in lines[0] and "c/8.png" in lines[1]
    assert {path.name for path in store.folder.iterdir()} == {
        *("store.json", "tokens.npy", "labels.npy", "palette.npy", "skipped.txt")
    }


def test_without_labels_and_without_mistakes_there_are_no_such_files(tmp_path):
    source = Source("images", random_image(3, N_PX, N_PX))
    store = tokenize(source, tmp_path / "store", PALETTE, N_PX)
    assert (store.labels, store.classes, store.skipped) == (None, None, 0)
    assert {path.name for path in store.folder.iterdir()} == {"store.json", "tokens.npy", "palette.npy"}


def test_nothing_but_mistakes_is_fatal_and_leaves_nothing(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(b"nonsense")
    source = open_source(tmp_path / "pictures")
    one_line_error(tokenize, source, tmp_path / "store", PALETTE, N_PX, match="a.png: expected an image file")
    assert contents(tmp_path / "store") == {}


def test_any_number_of_threads_gives_the_same_store(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK", 2)
    stores = [tokenize(open_source(pictures), tmp_path / str(n), PALETTE, N_PX, workers=n) for n in (1, 3)]
    assert contents(stores[0].folder) == contents(stores[1].folder)


def test_a_source_of_tokens_is_taken_as_it_is(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 20, (5, N_PX, N_PX))
    np.save(tmp_path / "d_trX.npy", tokens)
    np.save(tmp_path / "d_trY.npy", np.arange(5))
    store = tokenize(open_source(tmp_path / "d"), tmp_path / "store", PALETTE, N_PX)
    np.testing.assert_array_equal(store[:], tokens.reshape(5, -1))
    assert store.labels.tolist() == [0, 1, 2, 3, 4]
    np.save(tmp_path / "e.npy", tokens + 1)
    source = open_source(tmp_path / "e.npy")
    one_line_error(tokenize, source, tmp_path / "e", PALETTE, N_PX, match="from 0 to 19, got 20")
    one_line_error(tokenize, source, tmp_path / "f", PALETTE, 9, match=r"\(N, 81\)")
    one_line_error(
        tokenize, source, tmp_path / "g", PALETTE, N_PX, random_crops=2, match="expected images for random crops"
    )


def test_random_crops_are_rows_that_follow_each_other(tmp_path):
    images = random_image(3, 40, 30, 3)
    store = tokenize(
        Source("images", images, np.arange(3, dtype=np.int32)), tmp_path / "s", PALETTE, N_PX, random_crops=2, seed=5
    )
    assert store.labels.tolist() == [0, 0, 1, 1, 2, 2]
    crops = [random_resized_crop(images[i], N_PX, np.random.default_rng([5, i, k])) for i in range(3) for k in range(2)]
    np.testing.assert_array_equal(store[:], PALETTE.quantize(np.stack(crops)))


KILLED = """
import os, signal, sys
sys.path[:0] = [{root!r}]
from igpt_tf.data.sources.open import open_source
from igpt_tf.data.store import encode, writer as writing
from igpt_tf.data.store.store import tokenize
from igpt_tf.pictures.palette import Palette
encode.CHUNK, writing.SAVE_SECONDS = 2, 0
left = {steps}

def count(function):
    def counting(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return counting

# Everything that leaves a trace on the disk.
os.replace, os.fsync, os.unlink = count(os.replace), count(os.fsync), count(os.unlink)
writing.StoreWriter.append = count(writing.StoreWriter.append)
tokenize(open_source({source!r}), {store!r}, Palette.load({palette!r}), 8)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_goes_on(tmp_path, pictures, few):
    """Killed after every 3 steps of writing, again and again, until it gets through."""
    PALETTE.save(tmp_path / "palette.npy")
    whole = tokenize(open_source(pictures), tmp_path / "whole", PALETTE, N_PX)
    kills, done = 0, []
    for steps in [*range(1, 40, 3), 1000]:
        places = {"source": str(pictures), "store": str(tmp_path / "killed"), "palette": str(tmp_path / "palette.npy")}
        code = KILLED.format(root=str(ROOT), steps=steps, **places)
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        kills += 1
        if (tmp_path / "killed" / "store.json").exists():
            np.testing.assert_array_equal(TokenStore.open(tmp_path / "killed")[:], whole[:])
            continue
        one_line_error(TokenStore.open, tmp_path / "killed", match="expected a finished token store|no store.json")
        if (tmp_path / "killed" / "progress.json").exists():
            done.append(json.loads((tmp_path / "killed" / "progress.json").read_bytes())["done"])
    assert kills > 2 and sorted(done) == done and len(set(done)) > 1
    assert contents(tmp_path / "killed") == contents(whole.folder)


def stop_after(monkeypatch, examples):
    """Make encoding fail after N examples, and count the examples it gets."""
    inner = encode.Encoder.__call__
    counted = []

    def call(self, numbers, items):
        counted.append(len(numbers))
        if numbers[0] >= examples:
            raise KeyboardInterrupt
        return inner(self, numbers, items)

    monkeypatch.setattr(encode.Encoder, "__call__", call)
    return counted


def stopped(monkeypatch, pictures, folder):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 6)
        tokenize(open_source(pictures), folder, PALETTE, N_PX)


def test_what_is_done_is_not_done_again(tmp_path, pictures, few, monkeypatch):
    stopped(monkeypatch, pictures, tmp_path / "store")
    counted = stop_after(monkeypatch, 100)
    tokenize(open_source(pictures), tmp_path / "store", PALETTE, N_PX)
    assert sum(counted) == 9 - 6
    tokenize(open_source(pictures), tmp_path / "store", PALETTE, N_PX)
    assert sum(counted) == 9 - 6


@pytest.mark.parametrize("finished", [False, True])
def test_going_on_with_something_else_is_refused(tmp_path, pictures, few, monkeypatch, finished):
    store, source = tmp_path / "store", open_source(pictures)
    if finished:
        tokenize(source, store, PALETTE, N_PX)
    else:
        stopped(monkeypatch, pictures, store)
    one_line_error(tokenize, source, store, OTHER, N_PX, match="begun with palette .* got")
    one_line_error(tokenize, source, store, PALETTE, 9, match="begun with n_px 9, got 8")
    one_line_error(tokenize, source, store, PALETTE, N_PX, random_crops=1, match="random_crops 1, got 0")
    (pictures / "b/3.png").write_bytes(b"changed")
    one_line_error(tokenize, open_source(pictures), store, PALETTE, N_PX, match="begun with data .* got")


def test_a_part_that_lost_its_end_is_begun_anew(tmp_path, pictures, few, monkeypatch, store):
    stopped(monkeypatch, pictures, tmp_path / "again")
    part = tmp_path / "again" / "tokens.npy.part"
    part.write_bytes(part.read_bytes()[:-5])
    again = tokenize(open_source(pictures), tmp_path / "again", PALETTE, N_PX)
    np.testing.assert_array_equal(again[:], store[:])


def test_folders_that_are_not_for_a_store(tmp_path, pictures, monkeypatch):
    source = open_source(pictures)
    one_line_error(tokenize, source, pictures, PALETTE, N_PX, match="new or an empty folder, got one with a in it")
    (tmp_path / "file").write_bytes(b"")
    one_line_error(tokenize, source, tmp_path / "file", PALETTE, N_PX, match="file: cannot be written")
    (tmp_path / "held").mkdir()
    with writing.held(tmp_path / "held" / writing.LOCK):
        one_line_error(tokenize, source, tmp_path / "held", PALETTE, N_PX, match="another process")
    (tmp_path / "held" / "progress.json").write_bytes(b"{")
    one_line_error(tokenize, source, tmp_path / "held", PALETTE, N_PX, match="damaged")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(tmp_path, pictures):
    (tmp_path / "store").mkdir(mode=0o500)
    one_line_error(tokenize, open_source(pictures), tmp_path / "store", PALETTE, N_PX, match="cannot be written")


def edit(folder, **fields):
    about = json.loads((folder / "store.json").read_bytes())
    (folder / "store.json").write_text(json.dumps(about | fields))


def replace(folder, name, array):
    np.save(folder / name, array)


def damages():
    tokens = np.zeros((7, 64), np.uint16)
    return {
        "no tokens": (lambda folder: (folder / "tokens.npy").unlink(), "tokens.npy: expected .*, got nothing"),
        "no labels": (lambda folder: (folder / "labels.npy").unlink(), "labels.npy: expected .*, got nothing"),
        "no palette": (lambda folder: (folder / "palette.npy").unlink(), "palette.npy"),
        "no store.json": (lambda folder: (folder / "store.json").unlink(), "no store.json"),
        "half a store.json": (
            lambda folder: (folder / "store.json").write_text('{"n_px": 8'),
            "store.json: .* got a damaged one",
        ),
        "wrong field": (lambda folder: edit(folder, images="7"), "store.json: .* got a damaged one"),
        "later format": (lambda folder: edit(folder, format=2), "expected a store of version 1, got another"),
        "truncated": (lambda folder: os.truncate(folder / "tokens.npy", 900), "tokens.npy: expected"),
        "fewer": (lambda folder: replace(folder, "tokens.npy", tokens[:5]), r"expected uint16 \(7, 64\)"),
        "wider": (lambda folder: replace(folder, "tokens.npy", tokens.astype(int)), "got int64"),
        "outside": (lambda folder: replace(folder, "tokens.npy", tokens + np.uint16(20)), "from 0 to 19, got 20"),
        "few labels": (lambda folder: replace(folder, "labels.npy", np.zeros(6, np.int32)), "expected 7 labels"),
        "bad label": (lambda folder: replace(folder, "labels.npy", np.full(7, 3, np.int32)), "of 3 classes"),
        "other palette": (lambda folder: OTHER.save(folder / "palette.npy"), "got another: tokenize again"),
    }


@pytest.mark.parametrize("name", damages())
def test_a_damaged_store_is_one_line(store, name):
    damage, match = damages()[name]
    damage(store.folder)
    one_line_error(TokenStore.open, store.folder, match=match)


def test_a_damaged_row_is_told_when_it_is_read(store):
    tokens = np.load(store.folder / "tokens.npy")
    tokens[3, 5] = 20
    np.save(store.folder / "tokens.npy", tokens)
    np.testing.assert_array_equal(store[:3], tokens[:3])
    one_line_error(store.__getitem__, np.array([1, 3]), match="from 0 to 19, got 20: tokenize again")


def test_fingerprints_tell_stores_apart(tmp_path, store):
    images = random_image(3, N_PX, N_PX, 3)
    prints = {store.fingerprint, TokenStore.open(store.folder).fingerprint}
    for name, source, palette in (
        ("a", Source("x", images), PALETTE),
        ("b", Source("x", images[::-1]), PALETTE),
        ("c", Source("x", images, np.arange(3, dtype=np.int32)), PALETTE),
        ("d", Source("x", images), OTHER),
    ):
        prints.add(tokenize(source, tmp_path / name, palette, N_PX).fingerprint)
    assert len(prints) == 5


def test_tokens_of_stores_files_and_images(tmp_path, store, pictures):
    assert read_tokens(open_data(store.folder), N_PX, PALETTE, 20).fingerprint == store.fingerprint
    assert read_tokens(open_data(str(store.folder)), N_PX, None).n_vocab == 20
    one_line_error(read_tokens, open_data(store.folder), 9, PALETTE, match="expected images of 9 pixels, .* n_px 8")
    one_line_error(read_tokens, open_data(store.folder), N_PX, OTHER, match="another palette")
    one_line_error(read_tokens, open_data(store.folder), N_PX, None, 19, match="made with 20 colours")
    np.save(tmp_path / "tokens.npy", store[:].reshape(7, 8, 8).astype("int64"))
    tokens = read_tokens(open_data(tmp_path / "tokens.npy"), N_PX, None, 20)
    assert isinstance(tokens, FileTokens) and tokens.shape == (7, 64)
    np.testing.assert_array_equal(tokens[[3, 1]], store[[3, 1]])
    np.testing.assert_array_equal(tokens[4], store[4])
    one_line_error(read_tokens, open_data(tmp_path / "tokens.npy"), N_PX, None, 5, match="from 0 to 4")
    with pytest.warns(SkippedWarning, match="skipped 2 of 9 pictures, which cannot be read: .*1.png.*8.png"):
        np.testing.assert_array_equal(read_tokens(open_data(pictures), N_PX, PALETTE), store[:])
    np.testing.assert_array_equal(read_tokens(open_data(pictures / "b"), N_PX, PALETTE)[:], store[2:5])
    (store.folder / "store.json").rename(store.folder / "progress.json")
    one_line_error(open_data, store.folder, match="expected a finished token store")


def test_reading_a_store_keeps_nothing_in_memory(tmp_path):
    """Of 200 MB, every row read once: much less than that becomes resident."""
    path = tmp_path / "tokens.npy"
    array = np.lib.format.open_memmap(path, "w+", np.uint16, (100_000, 1024))
    array[:] = 7
    array.flush()
    del array
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from pathlib import Path
import numpy as np
from igpt_tf.data.store.rows import FileTokens

def resident():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

tokens = FileTokens(Path({str(path)!r}))
before = resident()
for rows in np.array_split(np.random.default_rng(0).permutation(len(tokens)), 800):
    assert (tokens[rows] == 7).all()
print(resident() - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is measured on Linux alone")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(ended.stdout) < 50
