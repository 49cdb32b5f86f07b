"""Bytes that are not the file's, servers that say no, and a disk that has no room."""

import json
import socket
import time

import pytest
from fetching import DATA, HASTY, NEW, PAGE, fails, fetch, half_done, names, offer, offer_checkpoint, run
from http_server import answer, cut, md5, serving, stall

from igpt_tf.download import RemoteFile
from igpt_tf.download.files import fetch_all
from igpt_tf.download.http import Patience
from igpt_tf.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::igpt_tf.errors.Notice")


def test_bytes_damaged_on_the_way_are_fetched_again_once(server, tmp_path):
    offer(server, md5="auto")
    damaged = answer(200, server.files["/x"].tags(), NEW)
    server.files["/x"].faults = [damaged]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    (tmp_path / "x").unlink()
    server.files["/x"].faults = [damaged] * 2
    line = fails(server, tmp_path)
    assert md5(DATA) in line and md5(NEW) in line
    assert names(tmp_path) == []


def test_md5_of_a_resumed_part(server, tmp_path):
    half_done(server, tmp_path, md5="auto")
    (tmp_path / "x.part").write_bytes(NEW[:70_000])
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.ranges("/x") == ["bytes=70000-", None]


def test_azure_tells_the_md5_of_the_whole_under_its_own_name(server, tmp_path):
    half_done(server, tmp_path, headers={"x-ms-blob-content-md5": md5(DATA)})
    (tmp_path / "x.part").write_bytes(NEW[:70_000])
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA


def test_nonsense_in_content_md5_is_no_checksum(server, tmp_path):
    offer(server, md5="d41d8cd98f00b204e9800998ecf8427e")
    assert fetch(server, tmp_path)[0].fetched


def test_more_bytes_than_announced(server, tmp_path):
    """Past Content-Length nobody reads; in chunks, it shows."""
    offer(server)
    tags = server.files["/x"].tags()
    server.files["/x"].faults = [answer(200, tags, DATA + b"more", length=len(DATA))]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    (tmp_path / "x").unlink()
    server.files["/x"].faults = [lambda handler, remote: handler.chunked(DATA + b"more", tags)] * 2
    assert "expected 200000 bytes, got more" in fails(server, tmp_path)
    assert names(tmp_path) == []


def test_fewer_bytes_than_announced(server, tmp_path):
    offer(server)
    short = answer(200, server.files["/x"].tags(), DATA[:100], length=len(DATA))
    nothing = answer(206, {"Content-Range": "bytes 100-199999/200000"}, b"", length=199_900)
    server.files["/x"].faults = [short] + [nothing] * 3
    fails(server, tmp_path)
    assert (tmp_path / "x.part").read_bytes() == DATA[:100]
    tags = server.files["/x"].tags()
    server.files["/x"].faults = [lambda handler, remote: handler.chunked(DATA[:100], tags)]
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA


def test_length_that_changes_without_a_change(server, tmp_path):
    tags = offer(server).tags()
    server.files["/x"].faults = [answer(200, tags, DATA[:100])] * 4
    assert "expected 200000 bytes, got 100" in fails(server, tmp_path)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_web_page_in_place_of_the_file(server, tmp_path, kind):
    half_done(server, tmp_path)
    server.files["/x"].faults = [answer(200, {"Content-Type": kind}, PAGE, length=len(DATA))] * 9
    server.files["/x"].faults[0] = answer(200, {"Content-Type": kind}, PAGE + bytes(len(DATA) - len(PAGE)))
    assert "web page" in fails(server, tmp_path)
    assert (tmp_path / "x.part").read_bytes() == DATA[:70_000], "what was fetched is kept"


def test_web_page_in_pieces(server, tmp_path):
    offer(server, PAGE).faults = [cut(5)]
    assert "web page" in fails(server, tmp_path)
    assert names(tmp_path) == []


def test_web_pages_for_everything(server, tmp_path):
    files = offer_checkpoint(server, headers={"Content-Type": "text/html"})
    done = run(server, tmp_path, "--model", "s")
    assert (done.returncode, done.stdout) == (1, "")
    complaints = [line for line in done.stderr.splitlines() if "web page" in line]
    assert len(complaints) == 1
    assert f"and {len(files) - 1} more files" in complaints[0]
    assert names(tmp_path / "checkpoints/igpt-s") == []


def test_compression_is_not_asked_for_and_refused(server, tmp_path):
    offer(server)
    fetch(server, tmp_path)
    assert {headers["Accept-Encoding"] for _, _, headers in server.requests} == {"identity"}
    (tmp_path / "x").unlink()
    server.files["/x"].headers["Content-Encoding"] = "gzip"
    assert "Content-Encoding gzip" in fails(server, tmp_path)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_errors_that_pass(server, tmp_path, status):
    offer(server).faults = [answer(status)] * 3
    assert fetch(server, tmp_path)[0].fetched


def test_retry_after(server, tmp_path):
    offer(server).faults = [answer(429, {"Retry-After": "1"})]
    started = time.monotonic()
    assert fetch(server, tmp_path)[0].fetched
    assert time.monotonic() - started >= 1
    (tmp_path / "x").unlink()
    server.files["/x"].faults = [answer(503, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"})]
    assert "asks to wait" in fails(server, tmp_path)


def test_backoff_doubles_up_to_half_a_minute():
    retry, waits = Patience(retries=9).begin(), []
    for _ in range(9):
        retry = retry.increment("GET", "/", error=OSError())
        waits.append(retry.get_backoff_time())
    assert waits[0] == 0, "the first failure is made good at once"
    for wait, expected in zip(waits[1:], [2, 4, 8, 16, 30, 30, 30, 30], strict=True):
        assert expected <= wait <= expected + 0.2 and wait <= 30


@pytest.mark.parametrize("status", [403, 404, 410, 451])
def test_errors_that_stay(server, tmp_path, status):
    offer(server).faults = [answer(status)] * 9
    assert f"HTTP {status}" in fails(server, tmp_path)
    assert len(server.gets()) == 1, "asked once"


def test_one_missing_file_of_many(server, tmp_path):
    files = offer_checkpoint(server)
    lost = f"/{files[3].source}"
    del server.files[lost]
    done = run(server, tmp_path, "--model", "s", "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert len(result["files"]) == 32
    assert [failure["url"] for failure in result["failed"]] == [server.url + lost, f"{server.url}/{files[-1].source}"]
    assert f"{server.url}{lost}: expected the file, got HTTP 404" in done.stderr
    assert "32 of 34 files are in place" in done.stderr.splitlines()[-1]
    assert not (tmp_path / files[-1].path).exists(), "a checkpoint with an index would be taken for a whole one"


def test_no_network(tmp_path):
    with serving() as server:
        pass
    done = run(server, tmp_path, "--model", "s", "--retries", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot reach 127.0.0.1" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_name_service(server, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    server.url = "http://example.org"
    with pytest.raises(UserError, match=r"cannot reach example\.org: its name cannot be resolved: check"):
        fetch(server, tmp_path)


def test_proxy_that_is_down(server, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.url = "http://example.org"
    with pytest.raises(UserError, match=r"cannot reach example\.org: the proxy.*HTTPS_PROXY"):
        fetch(server, tmp_path)


def test_server_without_tls(server, tmp_path):
    server.url = server.url.replace("http:", "https:")
    with pytest.raises(UserError, match=r"cannot reach .*TLS"):
        fetch(server, tmp_path)


def test_server_that_dies(server, tmp_path):
    """What was fetched stays, and the other files are not tried one after the other."""

    def die(handler, remote):
        handler.server.socket.close()
        handler.serve(remote, stop=70_000)

    offer(server).faults = [die]
    with pytest.raises(UserError, match="cannot reach"):
        fetch(server, tmp_path)
    assert (tmp_path / "x.part").read_bytes() == DATA[:70_000]


def test_silence(server, tmp_path):
    offer(server).faults = [stall(70_000)]
    patience = Patience(retries=0, read_s=0.2)
    assert "nothing came for 0.2 s" in fails(server, tmp_path, patience=patience)
    assert (tmp_path / "x.part").exists()


@pytest.mark.parametrize("content, reason", [(None, "invalid path"), ("no certificate", "NO_CERTIFICATE")])
def test_certificates_that_are_not_there(server, tmp_path, monkeypatch, content, reason):
    place = tmp_path / "bundle.pem"
    if content:
        place.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(place))
    with pytest.raises(UserError, match=f"REQUESTS_CA_BUNDLE: expected a file of certificates.*{reason}"):
        fetch_all([RemoteFile("x", tmp_path / "x")], server.url.replace("http:", "https:"), patience=HASTY)
