"""A batch that does not fit into memory is refused before it is computed."""

import dataclasses

import pytest

from examples import TINY, run
from igpt_tf.cli import memory
from igpt_tf.config import SIZES, ImageGPTConfig

NANO = ImageGPTConfig(n_px=32, n_vocab=512, n_embd=128, n_head=4, n_layer=4)
MIB = 2**20


def test_memory_that_is_free_is_known_here():
    free = memory.available_memory()
    assert free is None or free > 100 * MIB


def test_estimates_are_below_what_was_measured_and_not_far():
    """MiB for each image on TensorFlow's CPU."""
    assert 0.5 < memory.bytes_to_predict(NANO) / MIB / 14.4 < 0.95
    assert 0.5 < memory.bytes_to_train(NANO) / MIB / 109 < 0.95
    assert memory.bytes_to_draw(NANO, guided=True) == 2 * memory.bytes_to_draw(NANO) == 2 * 4 * MIB
    assert 0.5 < memory.bytes_to_draw(NANO) / MIB / 6.2 < 0.95
    # A cache of fewer bytes lets more images be drawn at once.
    stored = [memory.bytes_to_draw(NANO, dtype=dtype) for dtype in ("float32", "bfloat16", "int8")]
    assert stored == [4 * MIB, 2 * MIB, MIB]
    assert 0.5 < memory.bytes_to_draw(NANO, n_given=992) / MIB / 26 < 0.95
    assert memory.bytes_to_train(NANO, remat=True) < memory.bytes_to_train(NANO, item=2) < memory.bytes_to_train(NANO)
    bert = dataclasses.replace(NANO, bert=True)
    assert memory.bytes_to_predict(NANO) < memory.bytes_to_predict(bert)
    assert memory.bytes_to_train(SIZES["s"]) > memory.bytes_to_train(NANO)


@pytest.mark.parametrize(
    "version, group", [(1, "memory:/a/b"), (2, ":/a/b"), (2, ":/outside/of/the/container")], ids=str
)
def test_limits_of_control_groups_count(tmp_path, monkeypatch, version, group):
    root = tmp_path / "cgroup" / ("memory" if version == 1 else "")
    folder = root if "outside" in group else root / "a"
    folder.mkdir(parents=True)
    names = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
    names = names if version == 1 else ("max", "current", "inactive_file")
    for name, text in zip(names, ("1000000", "700000"), strict=False):
        (folder / f"memory.{name}").write_text(text)
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} 100000\n")
    (tmp_path / "groups").write_text(f"7:cpu:/x\n4:{group}\n")
    (tmp_path / "meminfo").write_text("MemAvailable: 5000 kB\nSwapFree: 0 kB\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.available_memory() == 400_000
    (tmp_path / "meminfo").write_text("MemAvailable: 100 kB\nSwapFree: 2 kB\n")
    assert memory.available_memory() == 102 * 1024
    (tmp_path / "meminfo").unlink()
    assert memory.available_memory() is None


@pytest.mark.parametrize(
    "line, flag, needed",
    [
        ("sample --n 20 --n_sub_batch 20 --out {out}", "--n_sub_batch", memory.bytes_to_draw(TINY)),
        ("complete {pictures} --box 0,0,2,2 --particles 40 --out {out}", "--particles", memory.bytes_to_draw(TINY)),
        ("eval --data {pictures}", "--n_sub_batch", memory.bytes_to_predict(TINY)),
        (
            "finetune --data {classes} --validation {classes} --n_sub_batch 2 --out {out}",
            "--n_sub_batch",
            memory.bytes_to_train(TINY, 2),
        ),
    ],
)
def test_what_does_not_fit_is_refused(capsys, tmp_path, monkeypatch, preset, pictures, line, flag, needed):
    for name, folder in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / "classes" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "classes" / folder / f"{name}.png").write_bytes((pictures / f"{name}.png").read_bytes())
    line = line.format(pictures=pictures, out=tmp_path / "out", classes=tmp_path / "classes").split()
    monkeypatch.setattr(memory, "available_memory", lambda: needed)
    code, out, err = run(capsys, *line, "--model", preset)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(f"run.py: {flag}: expected about ") and len(err.splitlines()) < 3
    assert not list(tmp_path.glob("out/*.png"))


def test_what_fits_is_computed(capsys, tmp_path, monkeypatch, preset):
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * memory.bytes_to_draw(TINY))
    code, _, err = run(capsys, "sample", "--n", 2, "--n_sub_batch", 1000, "--model", preset, "--out", tmp_path)
    assert code == 0, err
