"""A file is written completely or not at all, and one process at a time holds a lock."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from igpt_tf.errors import UserError
from igpt_tf.storage.files import atomic_write, exclusive, held, remove_partials

ROOT = Path(__file__).parents[2]


def test_writes_and_creates_parent_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with atomic_write(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    expected = UserError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), atomic_write(path) as file:
        file.write(b"half of")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(UserError, match=r"cannot write .*file\.bin: No space left") as caught,
        atomic_write(tmp_path / "file.bin"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "\n" not in str(caught.value)


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "below.bin", tmp_path / "folder"):
        with pytest.raises(UserError, match="cannot write"), atomic_write(path) as file:
            file.write(b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_the_data_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    path, calls = tmp_path / "file.bin", []
    fsync, replace = os.fsync, os.replace

    def recorded(name, function):
        def call(*arguments):
            calls.append((name, path.exists(), [one.stat().st_size for one in tmp_path.glob(".*.part")]))
            return function(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", recorded("fsync", fsync))
    monkeypatch.setattr(os, "replace", recorded("replace", replace))
    with atomic_write(path) as file:
        file.write(b"data")
    # Written out in full, still without the name, in both calls.
    assert calls == [("fsync", False, [4]), ("replace", False, [4])]


def test_partials_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    for name in (".a.json.0123abcd.part", ".b.npy.4567cdef.part", "a.json", "c.part", ".d.json"):
        (tmp_path / name).write_bytes(b"")
    remove_partials(tmp_path, "a.json")
    assert not (tmp_path / ".a.json.0123abcd.part").exists() and (tmp_path / ".b.npy.4567cdef.part").exists()
    remove_partials(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".d.json", "a.json", "c.part"]


HOLDER = """
import sys, time
from igpt_tf.storage.files import held
with held(sys.argv[1]) as ours:
    print(ours, flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def holder(path):
    """Another process that holds a lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout.readline() == "True\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_of_two_processes_one_holds_the_lock(tmp_path):
    path = tmp_path / ".lock"
    with holder(path):
        with held(path) as ours:
            assert not ours
        with pytest.raises(UserError, match="busy: wait"), exclusive(path, "busy: wait"):
            pytest.fail("the block must not run")
        assert path.exists()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / ".lock"
    with holder(path) as process:
        process.kill()
        process.wait()
        assert path.exists()
        with exclusive(path, "busy"):
            assert path.exists()
    assert not path.exists()


def test_a_lock_is_free_after_the_block_however_it_ends(tmp_path):
    path = tmp_path / ".lock"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), exclusive(path, "busy"):
            raise KeyboardInterrupt
        assert not path.exists()


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(UserError, match="cannot be written") as caught,
        exclusive(tmp_path / "file" / ".lock", "busy"),
    ):
        pytest.fail("the block must not run")
    assert "\n" not in str(caught.value)
