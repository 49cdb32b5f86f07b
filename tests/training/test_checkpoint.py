"""Checkpoints: what is damaged falls back to the one before, what would be lost is kept, nothing worse is written."""

import csv
import dataclasses
import json
import resource
from pathlib import Path

import keras
import numpy as np
import pytest

from examples import SETTINGS, StopAfter, new_model, run_python, stripes
from igpt_tf.errors import UserError
from igpt_tf.training.best import best_interval
from igpt_tf.training.checkpoint import RunFolder
from igpt_tf.training.pretrain import pretrain

pytestmark = pytest.mark.both_backends
FOUR = dataclasses.replace(SETTINGS, steps=8, save_every=2)


def names(folder, pattern="*"):
    return sorted(path.name for path in folder.glob(pattern))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The losses of a run of four periods, all kept, and its folder, not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    history = pretrain(new_model(), stripes(), FOUR, RunFolder(folder, keep=4))
    return history, folder


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of that folder, to be damaged."""
    for path in whole[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [truncate, Path.unlink], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("suffix", ["safetensors", "json"])
@pytest.mark.slow
def test_a_damaged_checkpoint_falls_back_to_the_one_before(whole, copied, damage, suffix):
    damage(copied / f"epoch-00004.{suffix}")
    told = []
    found = pretrain(new_model(), stripes(), FOUR, RunFolder(copied, warn=told.append))
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in whole[0]], rtol=1e-6)
    if suffix == "json" and damage is Path.unlink:
        assert not told, "without its record, there never was a checkpoint"
    else:
        assert len(told) == 1 and f"epoch-00004.{suffix}" in told[0] and "the checkpoint before it" in told[0]
        assert "\n" not in told[0]


def test_nothing_whole_is_one_line(copied):
    for path in copied.glob("*.safetensors"):
        truncate(path)
    with pytest.raises(UserError, match="no other checkpoint is whole: start anew"):
        pretrain(new_model(), stripes(), FOUR, RunFolder(copied, warn=lambda line: None))


def test_the_latest_and_the_best_are_kept(tmp_path):
    settings = dataclasses.replace(FOUR, steps=12, learning_rate=2.0)
    history = pretrain(new_model(), stripes(), settings, RunFolder(tmp_path, keep=2), stripes(8, seed=1))
    best = best_interval(history)
    assert best < 5, "with this learning rate the first is the best, or this test shows nothing"
    stems = [f"epoch-{number:05d}" for number in sorted({best, 5, 6})]
    assert names(tmp_path, "epoch-*") == [f"{stem}{suffix}" for stem in stems for suffix in (".json", ".safetensors")]


def test_the_log_has_every_period_once(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        pretrain(new_model(), stripes(), FOUR, tmp_path, callbacks=[StopAfter(5)])
    with open(tmp_path / "log.csv", "a") as file:
        file.write("half a line")
    pretrain(new_model(), stripes(), FOUR, tmp_path)
    tables = [list(csv.DictReader((folder / "log.csv").read_text().splitlines())) for folder in (whole[1], tmp_path)]
    for table in tables:
        assert [row["step"] for row in table] == ["2", "4", "6", "8"]
        assert [row["images"] for row in table] == ["8", "16", "24", "32"]
    for name in ("loss", "learning_rate"):
        a, b = ([float(row[name]) for row in table] for table in tables)
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_leftovers_of_a_killed_process_go_away(tmp_path):
    for name in (".epoch-00001.safetensors.22334455.part", ".epoch-00001.json.0011aabb.part"):
        (tmp_path / name).write_text("half")
    pretrain(new_model(), stripes(), FOUR, tmp_path)
    assert not names(tmp_path, ".*")


def test_other_data_of_the_same_size_are_refused(copied):
    with pytest.raises(UserError, match=r"data was .* and is now"):
        pretrain(new_model(), stripes(seed=9), FOUR, copied)


@pytest.mark.slow
def test_a_change_is_accepted_only_where_it_is_asked_for(copied):
    truncate(copied / "epoch-00004.safetensors")
    slower = dataclasses.replace(FOUR, learning_rate=1e-3, clip_norm=1.0)
    with pytest.raises(UserError, match=r"learning_rate was 0.01 and is now 0.001, .*`accept_changes`"):
        pretrain(new_model(), stripes(), slower, RunFolder(copied, warn=lambda line: None))
    assert (
        len(pretrain(new_model(), stripes(), slower, RunFolder(copied, accept_changes=True, warn=lambda line: None)))
        == 4
    )
    with pytest.raises(UserError, match="batch_size was 4 and is now 2") as error:
        pretrain(
            new_model(), stripes(), dataclasses.replace(FOUR, batch_size=2), RunFolder(copied, accept_changes=True)
        )
    assert "accept_changes" not in str(error.value)


class Poison(keras.callbacks.Callback):
    """Makes a weight NaN before a step, as a leap of the loss does."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_begin(self, batch, logs=None):
        """Count down."""
        self.left -= 1
        if not self.left:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            self.model.ln_f.scale.assign(np.full(self.model.ln_f.scale.shape, np.nan))


@pytest.mark.parametrize("step", [4, 5])
@pytest.mark.slow
def test_a_loss_that_is_not_a_number_ends_the_run_and_spoils_nothing(whole, tmp_path, step):
    with pytest.raises(
        UserError, match=f"the loss became NaN or infinite by step {step}.*step {(step - 1) // 2 * 2}, is"
    ) as error:
        pretrain(new_model(), stripes(), FOUR, tmp_path, callbacks=[Poison(step)])
    assert "a `learning_rate` below 0.01" in str(error.value) and "\n" not in str(error.value)
    found = pretrain(new_model(), stripes(), FOUR, tmp_path)
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in whole[0]], rtol=1e-6)


def test_weights_that_are_not_numbers_are_never_saved(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            """After the last step, whose loss knows nothing of it."""
            if epoch == 1:
                self.model.wte.assign(np.full(self.model.wte.shape, np.inf))

    with pytest.raises(UserError, match=r"wte became NaN or infinite by step 4.*step 2, is untouched"):
        pretrain(new_model(), stripes(), FOUR, tmp_path, callbacks=[Spoil()])
    assert names(tmp_path, "epoch-*.json") == ["epoch-00001.json"]


FULL_DISK = """
import resource
import sys

sys.path.insert(0, "tests")
import dataclasses

import keras
from examples import SETTINGS, new_model, stripes

from igpt_tf.errors import UserError
from igpt_tf.training.pretrain import pretrain

FOUR = dataclasses.replace(SETTINGS, steps=8, save_every=2)


class FullDisk(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


try:
    pretrain(new_model(), stripes(), FOUR, sys.argv[1], callbacks=[FullDisk()])
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before(whole, tmp_path):
    ended = run_python(FULL_DISK, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "cannot write" in ended.stdout and "epoch-00003" in ended.stdout and len(ended.stdout.splitlines()) == 1
    assert names(tmp_path, "epoch-*.json") == ["epoch-00001.json", "epoch-00002.json"] and not names(tmp_path, ".*")
    found = pretrain(new_model(), stripes(), FOUR, tmp_path)
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in whole[0]], rtol=1e-5)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_folder_that_cannot_be_written_is_told_before_training():
    with pytest.raises(UserError, match="cannot write /proc/nowhere"):
        pretrain(new_model(), stripes(), FOUR, "/proc/nowhere")


def test_the_state_is_readable_by_people(whole):
    state = json.loads((whole[1] / "epoch-00004.json").read_text())
    assert state["course"]["learning_rate"] == 0.01 and len(state["history"]) == 4
