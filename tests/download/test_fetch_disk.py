"""A disk without room, folders that cannot be used, and two downloaders in one folder."""

import builtins
import errno
import io
import os
import resource
import shutil
from pathlib import Path

import pytest
from fetching import DATA, PALETTE, fetch, half_done, names, offer, run, running, wait_for
from http_server import stall

from igpt_tf.download import RemoteFile
from igpt_tf.download import files as partial
from igpt_tf.download.disk import readable
from igpt_tf.download.http import Connection, Patience
from igpt_tf.errors import UserError
from igpt_tf.progress import ProgressBar


def test_disk_without_room(server, tmp_path, monkeypatch):
    offer(server)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=150_000))
    with pytest.raises(UserError, match=r"200.0 kB still to fetch, got 150.0 kB"):
        fetch(server, tmp_path)
    assert server.gets() == []
    assert names(tmp_path) == []


def test_room_is_needed_only_for_what_is_missing(server, tmp_path, monkeypatch):
    half_done(server, tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=150_000))
    assert fetch(server, tmp_path)[0].fetched


def test_readable():
    assert [readable(count) for count in (0, 999, 1000, 16.5e9, 3e15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "16.5 GB",
        "3000.0 TB",
    ]


def test_full_disk_keeps_what_was_fetched(server, tmp_path, monkeypatch):
    offer(server)

    class SmallDisk(io.FileIO):
        def write(self, data):
            room = 100_000 - self.tell()
            if room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data[:room])

    def small_open(path, mode="r", buffering=-1):
        return SmallDisk(path, mode) if buffering == 0 else builtins.open(path, mode, buffering)

    monkeypatch.setattr(partial, "open", small_open, raising=False)
    with pytest.raises(UserError, match=r"the disk is full.*run the same command again"):
        fetch(server, tmp_path)
    assert (tmp_path / "x.part").read_bytes() == DATA[:100_000]
    monkeypatch.undo()
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.ranges("/x") == [None, "bytes=100000-"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_device_that_is_full(tmp_path):
    origins = partial.Origins(tmp_path)
    bar = partial.Bar(ProgressBar())
    download = partial.Download(
        RemoteFile("x", tmp_path / "x"), "http://127.0.0.1", Connection(Patience()), origins, bar
    )
    download.part.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"x\.part: the disk is full"):
        download._append([DATA], 0)


def test_limit_of_file_size(server, tmp_path):
    offer(server, DATA, PALETTE)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = run(server, tmp_path, "--clusters", preexec_fn=limit)
    assert done.returncode == 1
    assert "grew larger than" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    part = tmp_path / "checkpoints/kmeans_centers.npy.part"
    assert part.read_bytes() == DATA[:100_000]
    assert run(server, tmp_path, "--clusters").returncode == 0
    assert server.ranges(PALETTE) == [None, "bytes=100000-"]


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/igpt", "/dev/null"])
def test_folder_that_cannot_be(server, tmp_path, folder):
    (tmp_path / "file").write_text("not a folder")
    done = run(server, tmp_path, "--clusters", "--download_dir", folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "--download_dir" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(server, tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match=r"Permission denied.*another folder"):
        fetch(server, tmp_path)


def test_second_downloader_in_the_same_folder(server, tmp_path):
    offer(server, DATA, PALETTE).faults = [stall(70_000)]
    with running(server, tmp_path, "--clusters") as first:
        wait_for(lambda: (tmp_path / "checkpoints/kmeans_centers.npy.part").exists())
        second = run(server, tmp_path, "--clusters")
        assert first.poll() is None
    assert second.returncode == 1
    assert "another download into checkpoints is running" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_lock_of_a_dead_process_holds_nobody_up(server, tmp_path):
    offer(server)
    (tmp_path / ".igpt-download.lock").write_text("")
    assert fetch(server, tmp_path)[0].fetched
    assert not (tmp_path / ".igpt-download.lock").exists()


def test_file_that_appears_meanwhile_is_not_overwritten(server, tmp_path):
    def appear(handler, remote):
        (tmp_path / "x").write_text("precious")
        handler.serve(remote)

    offer(server).faults = [appear]
    with pytest.raises(UserError, match="appeared"):
        fetch(server, tmp_path)
    assert (tmp_path / "x").read_text() == "precious"
