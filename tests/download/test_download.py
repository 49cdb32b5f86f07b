"""`python download.py`: what lands where, what is printed, and the exit code."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fetching import DATA, HASTY, NEW, PALETTE, ROOT, fetch, half_done, names, offer, offer_checkpoint, run
from http_server import cut
from tqdm import tqdm

from igpt_tf.cli import download as cli
from igpt_tf.download import RemoteFile
from igpt_tf.download.files import fetch_all
from igpt_tf.download.openai import SHARDS, checkpoint_files, checkpoint_prefix, dataset_files, palette_file
from igpt_tf.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::igpt_tf.errors.Notice")


def test_official_addresses_and_places():
    files = checkpoint_files("l", 131000, bert=True)
    assert len(files) == SHARDS["l"] + 2 == 66
    assert files[1].source == "checkpoints/igpt-l-bert/131000/model.ckpt-131000.data-00001-of-00064"
    assert files[1].path == Path("checkpoints/igpt-l-bert/model.ckpt-131000.data-00001-of-00064")
    assert checkpoint_files("s", folder=Path("D"))[-1].path == Path("D/model.ckpt-1000000.index")
    assert checkpoint_prefix("s") == Path("checkpoints/igpt-s/model.ckpt-1000000")
    assert palette_file().path == Path("checkpoints/kmeans_centers.npy")
    assert palette_file(Path("D")) == RemoteFile("color-clusters/kmeans_centers.npy", Path("D/kmeans_centers.npy"))
    assert [file.source for file in dataset_files("cifar10")][:2] == [
        "datasets/cifar10_trX.npy",
        "datasets/cifar10_trY.npy",
    ]
    assert dataset_files("imagenet")[-1].path == Path("checkpoints/datasets/imagenet_teY.npy")


def test_everything_arrives_and_a_second_run_fetches_nothing(server, tmp_path):
    files = offer_checkpoint(server)
    offer(server, b"\x93NUMPY palette", PALETTE, md5="auto")
    first = run(server, tmp_path, "--model", "s", "--clusters")
    assert first.returncode == 0, first.stderr
    everything = [*files, palette_file()]
    assert first.stdout.split() == [str(file.path) for file in everything]
    for file in everything:
        assert (tmp_path / file.path).read_bytes() == server.files[f"/{file.source}"].data
    step = "run.py sample --model checkpoints/igpt-s/model.ckpt-1000000 --palette checkpoints/kmeans_centers.npy"
    assert step in first.stderr
    assert "B/s" not in first.stderr, "no bar goes into a pipe"
    assert names(tmp_path / "checkpoints") == ["igpt-s", "kmeans_centers.npy"]
    before = len(server.gets())
    second = run(server, tmp_path, "--model", "s", "--clusters")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert "0 downloaded, 35 there before" in second.stderr
    assert len(server.gets()) == before


def test_index_is_the_last_to_appear(server, tmp_path):
    files = offer_checkpoint(server)
    index = f"/{files[-1].source}"
    seen = []

    def look(handler, remote):
        seen.extend(names(tmp_path))
        handler.serve(remote)

    server.files[index].faults = [look]
    fetch_all(checkpoint_files("s", folder=tmp_path), server.url, patience=HASTY)
    assert len(seen) == 33
    assert not [name for name in seen if name.endswith((".part", ".json", ".index"))]
    assert len(names(tmp_path)) == 34


def test_json_lists_paths_and_bytes(server, tmp_path):
    offer(server, DATA, PALETTE)
    done = run(server, tmp_path, "--clusters", "--download_dir", "a b/c", "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert result == {"files": [{"path": "a b/c/kmeans_centers.npy", "bytes": 200_000, "fetched": True}], "failed": []}
    assert "python download.py --model s --download_dir 'a b/c'" in done.stderr


def test_progress_counts_every_byte_once(server, tmp_path):
    offer(server, md5="auto").faults = [cut(70_000)]
    bar = tqdm(file=io.StringIO())
    fetch(server, tmp_path, bar=bar)
    assert (bar.n, bar.total) == (200_000, 200_000)


def test_several_files_at_once(server, tmp_path):
    together = threading.Barrier(3, timeout=5)

    def meet(handler, remote):
        together.wait()
        handler.serve(remote)

    for name in "xyz":
        offer(server, path=f"/{name}").faults = [meet]
    assert all(one.fetched for one in fetch(server, tmp_path, *"xyz", jobs=3))


@pytest.mark.parametrize("head_status", [403, 405, 501])
def test_head_refused(server, tmp_path, head_status):
    offer(server, head_status=head_status)
    assert fetch(server, tmp_path)[0].fetched and (tmp_path / "x").stat().st_size == 200_000
    assert server.ranges("/x") == ["bytes=0-0", None]


def test_length_never_told(server, tmp_path):
    offer(server, lengths=False, ranges=False)
    fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == DATA
    assert not fetch(server, tmp_path)[0].error, "the receipt says that it is this file"
    (tmp_path / ".igpt-download.json").unlink()
    with pytest.raises(UserError, match="in the way"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("manners", [{}, {"md5": "auto"}])
def test_two_checkpoints_do_not_mix(server, tmp_path, manners):
    offer_checkpoint(server, "s", seed=0, **manners)
    offer_checkpoint(server, "m", seed=1, **manners)
    assert run(server, tmp_path, "--model", "s", "--download_dir", "D").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "D").iterdir()}
    gets = len(server.gets())
    refused = run(server, tmp_path, "--model", "m", "--download_dir", "D")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "in the way" in refused.stderr
    assert "another folder (--download_dir)" in refused.stderr.splitlines()[-1]
    assert {path: path.read_bytes() for path in (tmp_path / "D").iterdir()} == before
    assert len(server.gets()) == gets, "nothing was fetched"


def test_same_size_other_md5(server, tmp_path):
    offer(server, md5="auto")
    (tmp_path / "x").write_bytes(NEW)
    with pytest.raises(UserError, match=r"expected MD5 .* got"):
        fetch(server, tmp_path)
    assert (tmp_path / "x").read_bytes() == NEW


def test_same_size_from_another_checkpoint_without_md5(server, tmp_path):
    for folder in ("igpt-s", "igpt-s-bert"):
        offer(server, path=f"/{folder}/x")
    fetch_all([RemoteFile("igpt-s/x", tmp_path / "x")], server.url, patience=HASTY)
    with pytest.raises(UserError, match="expected igpt-s-bert/x, got a download of igpt-s/x"):
        fetch_all([RemoteFile("igpt-s-bert/x", tmp_path / "x")], server.url, patience=HASTY)


def test_part_of_another_checkpoint_is_kept(server, tmp_path):
    half_done(server, tmp_path)
    offer(server, NEW, "/other/x")
    with pytest.raises(UserError, match="expected part of other/x, got part of x"):
        fetch_all([RemoteFile("other/x", tmp_path / "x")], server.url, patience=HASTY)
    assert (tmp_path / "x.part").read_bytes() == DATA[:70_000]


def test_file_from_elsewhere_is_hashed_once(server, tmp_path, monkeypatch):
    offer(server, md5="auto")
    (tmp_path / "x").write_bytes(DATA)
    assert not fetch(server, tmp_path)[0].fetched
    monkeypatch.setattr("igpt_tf.download.files.md5_of", None)
    assert not fetch(server, tmp_path)[0].fetched
    (tmp_path / ".igpt-download.json").write_text("[]")
    monkeypatch.undo()
    assert not fetch(server, tmp_path)[0].fetched, "spoilt receipts count for nothing"


def test_folder_of_that_name(server, tmp_path):
    offer(server)
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match="in the way"):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "try python download.py --model s --clusters"),
        (["--ckpt", "131000"], "expected --model"),
        (["--bert", "--clusters"], "expected --model"),
        (["--model", "xl"], "got 'xl'"),
        (["--model", "s", "--ckpt", "5"], "got 5"),
        (["--dataset", "mnist"], "got 'mnist'"),
        (["--clusters", "--jobs", "0"], "--jobs: expected a whole number of at least 1"),
        (["--clusters", "--base_url", "ftp://example.org"], "http://"),
    ],
)
def test_wrong_use(server, tmp_path, arguments, message):
    done = run(server, tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_starts_without_heavy_libraries(tmp_path):
    script = (
        "import runpy, sys; sys.argv = ['download.py', '--help']\n"
        f"try: runpy.run_path({str(ROOT / 'download.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "import igpt_tf.download\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'jax', 'torch'} & set(sys.modules)\n"
        "sys.exit(code or ' '.join(heavy) or 0)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--download_dir" in done.stdout


def test_data_set_and_bert_go_to_their_places(server, tmp_path):
    for file in [*checkpoint_files("m", 131000, bert=True), *dataset_files("cifar10")]:
        offer(server, hashlib.sha256(file.source.encode()).digest(), f"/{file.source}")
    done = run(server, tmp_path, "--model", "m", "--ckpt", "131000", "--bert", "--dataset", "cifar10")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "checkpoints/igpt-m-bert/model.ckpt-131000.index").exists()
    assert len(names(tmp_path / "checkpoints/datasets")) == 6
    assert "Next: python download.py --clusters" in done.stderr


def test_interrupt_that_a_library_turned_into_another_error(monkeypatch, capsys):
    def broken(options):
        try:
            raise KeyboardInterrupt
        finally:
            raise AttributeError("half-made")

    monkeypatch.setattr(cli, "_download", broken)
    assert cli.main(["--clusters"]) == 130
    assert "interrupted" in capsys.readouterr().err
