"""Interrupted downloads go on where they stopped, and never join the bytes of two files."""

import io
import os
import signal
import time

import pytest
from fetching import DATA, HASTY, NEW, PALETTE, fails, fetch, half_done, names, offer, run, running, wait_for
from http_server import answer, cut, md5, serving, stall
from tqdm import tqdm

from igpt_tf.download import RemoteFile
from igpt_tf.download.disk import Origins
from igpt_tf.download.files import fetch_all
from igpt_tf.download.http import Identity
from igpt_tf.errors import Notice

pytestmark = pytest.mark.filterwarnings("ignore::igpt_tf.errors.Notice")


def test_cut_connection_is_continued(server, tmp_path):
    offer(server, md5="auto").faults = [cut(70_000), cut(50_000)]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.ranges("/x") == [None, "bytes=70000-", "bytes=120000-"]
    assert server.gets("/x")[1]["If-Range"] == server.files["/x"].etag


def test_progress_resets_the_count_of_failures(server, tmp_path):
    offer(server).faults = [cut(1000) for _ in range(10)]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA


def test_part_is_kept_when_retries_are_used_up_and_continued_by_the_next_run(server, tmp_path):
    offer(server).faults = [cut(70_000)] + [cut(0)] * 3
    assert "run the same command again" in fails(server, tmp_path)
    assert (tmp_path / "x.part").read_bytes() == DATA[:70_000]
    del server.requests[:]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.ranges("/x") == ["bytes=70000-"]
    assert names(tmp_path) == ["x"]


def test_cut_in_a_body_of_untold_length(server, tmp_path):
    offer(server, lengths=False, ranges=False).faults = [lambda handler, remote: handler.serve(remote, stop=90_000)]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA


def test_neither_length_nor_checksum_nor_chunks(server, tmp_path):
    def until_closed(handler, remote):
        handler.reply(200, {}, DATA, length=None, close=True)

    offer(server, lengths=False, ranges=False, etag=None).faults = [until_closed]
    assert "expected a length or a checksum, got neither" in fails(server, tmp_path)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.slow
def test_stopped_process_is_continued(server, tmp_path, stop):
    offer(server, DATA, PALETTE, md5="auto").faults = [stall(70_000)]
    part = tmp_path / "checkpoints/kmeans_centers.npy.part"
    with running(server, tmp_path, "--clusters") as process:
        wait_for(lambda: part.exists() and part.stat().st_size == 70_000)
        started = time.monotonic()
        process.send_signal(stop)
        stdout, stderr = process.communicate(timeout=10)
    kept = part.stat().st_size
    assert kept == 70_000 and part.read_bytes() == DATA[:kept]
    assert not part.with_name("kmeans_centers.npy").exists()
    if stop == signal.SIGINT:
        assert time.monotonic() - started < 3
        assert (process.returncode, stdout) == (130, "")
        assert "the same command resumes" in stderr.splitlines()[-1]
        assert "Traceback" not in stderr
    done = run(server, tmp_path, "--clusters")
    assert done.returncode == 0, done.stderr
    assert server.ranges(PALETTE) == [None, f"bytes={kept}-"]
    assert part.with_name("kmeans_centers.npy").read_bytes() == DATA
    assert sorted(os.listdir(part.parent)) == [".igpt-download.json", "kmeans_centers.npy"]


def test_interrupt_stops_threads_that_wait_for_a_retry(server, tmp_path):
    class Interrupting(tqdm):
        def set_postfix_str(self, text="", refresh=True):
            if text.startswith("waiting"):
                signal.raise_signal(signal.SIGINT)

    offer(server).faults = [answer(503, {"Retry-After": "60"})] * 9
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path, bar=Interrupting(file=io.StringIO()))
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "manners",
    [
        {},
        {"md5": "auto", "etag": None},
        {"etag": None, "last_modified": "Mon, 01 Jun 2020 00:00:00 GMT"},
    ],
    ids=["etag", "md5", "date"],
)
def test_file_that_changed_between_runs(server, tmp_path, manners):
    half_done(server, tmp_path, **manners)
    if "last_modified" in manners:
        manners["last_modified"] = "Tue, 02 Jun 2020 00:00:00 GMT"
    offer(server, NEW, **manners)
    with pytest.warns(Notice, match="over: its part cannot be shown"):
        fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == NEW
    assert server.ranges("/x") == [None]


def test_file_that_changes_while_it_is_fetched(server, tmp_path):
    """The server does not know If-Range, as some do, and sends the rest of the new file."""

    def change(handler, remote):
        handler.serve(remote, stop=70_000)
        remote.data, remote.etag, remote.md5 = NEW, '"new"', md5(NEW)

    def ignore_if_range(handler, remote):
        del handler.headers["If-Range"]
        handler.serve(remote)

    offer(server, md5="auto").faults = [change, ignore_if_range]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == NEW


def test_new_file_that_does_not_get_through_at_first(server, tmp_path):
    """The answer tells of the new file but brings nothing of it: the old bytes must not be taken for its start."""
    half_done(server, tmp_path)

    def change(handler, remote):
        remote.data, remote.etag = NEW, '"new"'
        handler.serve(remote, stop=0)

    server.files["/x"].faults = [change]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == NEW


def test_server_that_ignores_ranges(server, tmp_path):
    offer(server, ranges=False).faults = [cut(70_000)]
    bar = tqdm(file=io.StringIO())
    fetch(server, tmp_path, bar=bar)
    assert (tmp_path / "x").read_bytes() == DATA
    assert (bar.n, bar.total) == (200_000, 200_000)


def test_server_that_ignores_ranges_and_always_cuts_is_given_up(server, tmp_path):
    offer(server, ranges=False).faults = [cut(70_000)] * 50
    fails(server, tmp_path)
    assert (tmp_path / "x.part").read_bytes() == DATA[:70_000]


@pytest.mark.parametrize("told", ["bytes 60000-199999/200000", "bytes 70000-199999/300000", "nonsense", ""])
def test_range_that_does_not_fit(server, tmp_path, told):
    half_done(server, tmp_path)
    server.files["/x"].faults = [answer(206, {"Content-Range": told}, DATA[60_000:])]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.ranges("/x") == ["bytes=70000-", None]


def test_part_longer_than_the_file(server, tmp_path):
    half_done(server, tmp_path)
    (tmp_path / "x.part").write_bytes(DATA + b"more")
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA


def test_whole_part_needs_no_request(server, tmp_path):
    half_done(server, tmp_path, md5="auto")
    (tmp_path / "x.part").write_bytes(DATA)
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.gets() == []


@pytest.mark.parametrize("part", [DATA, DATA + b"more"], ids=["whole", "longer"])
def test_nothing_beyond_the_part(server, tmp_path, part):
    """A 416 where no length is known: the whole is there if the server says so, else it is fetched anew."""
    remote = offer(server, lengths=False)
    (tmp_path / "x.part").write_bytes(part)
    Origins(tmp_path).note(tmp_path / "x.part", "x", Identity(f"{server.url}/x", version=remote.etag))
    remote.head_status = 405
    remote.faults = [answer(416, {"Content-Range": f"bytes */{len(DATA)}"})]
    fetch_all([RemoteFile("x", tmp_path / "x")], server.url, patience=HASTY)
    assert (tmp_path / "x").read_bytes() == DATA


def test_range_refused_with_416(server, tmp_path):
    half_done(server, tmp_path)
    server.files["/x"].faults = [answer(416, {"Content-Range": "bytes */5"})]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA


def test_server_that_dates_nothing_is_continued_by_the_length(server, tmp_path):
    half_done(server, tmp_path, etag=None)
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.ranges("/x") == ["bytes=70000-"]


def test_part_of_unknown_origin_is_not_continued(server, tmp_path):
    offer(server)
    (tmp_path / "x.part").write_bytes(b"whatever")
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA


def test_part_is_continued_from_a_mirror_only_with_a_checksum(server, tmp_path):
    for manners, ranges in (({"md5": "auto"}, ["bytes=70000-"]), ({}, [None])):
        half_done(server, tmp_path, **manners)
        with serving() as mirror:
            offer(mirror, **manners)
            fetch(mirror, tmp_path)
            assert mirror.ranges("/x") == ranges
        assert (tmp_path / "x").read_bytes() == DATA
        (tmp_path / "x").unlink()
