"""Saving a training run so that it can be stopped at any moment and goes on exactly."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import keras

from igpt_tf.backend.processes import all_or_none, from_first_process
from igpt_tf.errors import UserError
from igpt_tf.storage.files import atomic_write, held, require_writable
from igpt_tf.training.variables import (
    DamagedError,
    check_variables,
    load_variables,
    one_line,
    require_finite,
    save_variables,
)

LOG_FILE = "log.csv"
LOCK_FILE = ".lock"
WEIGHTS_SUFFIX = ".safetensors"
# What may be another when a run goes on, if that is said explicitly: nothing here changes what the files hold.
CHANGEABLE = ("learning_rate", "clip_norm", "compute_dtype")


class RunCheckpoint(keras.callbacks.Callback):
    """After every period, write weights and optimiser state, then the file that vouches for them, then a log.

    `epoch-00007.json` is renamed into place after `epoch-00007.safetensors` and holds its length and checksum, the
    course of the run and all of its history, so each pair describes one moment by itself: whenever the process
    dies, or a file is damaged, the newest whole pair is where the run goes on. Nothing that is not finite is saved.

    A context manager: from `restore` to the end of its block no other process can go on with the same run.

    Args:
        folder: the run's folder; created if needed.
        course: what decides the course of the run; a run of another course is not resumed.
        keep: how many of the latest pairs stay, beside the best by `best_period`.
        steps_a_period: for the log.
        accept_changes: go on although some of the course (`CHANGEABLE`) is another than before.
        writes: whether this process writes; of several on one run, one does.
        warn: told in one line of checkpoints that cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        course: dict,
        keep: int = 3,
        steps_a_period: int = 1,
        accept_changes: bool = False,
        writes: bool = True,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.course = json.loads(json.dumps(course))
        self.keep = keep
        self.steps_a_period = steps_a_period
        self.accept_changes = accept_changes
        self.writes = writes
        self.warn = warn
        self.history: list[dict[str, float]] = []
        self.seconds: list[float] = []
        self._began = 0.0
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> RunCheckpoint:
        """Nothing yet: `restore` takes the lock."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let others have the run."""
        self._lock.close()

    def restore(self, model: keras.Model) -> int:
        """Load the newest state that is whole into a compiled model and return its number of periods, 0 for none.

        The process that writes reads it too; the others, whose machines may not have the folder, are told.

        Raises:
            UserError: if the processes are not on the same course.
            UserError: if the folder cannot be written, holds a run of another course or one that another process is
                training, or nothing in it is whole.
        """
        first = from_first_process(self.course)
        with all_or_none():
            if first != self.course:
                told = _differences(first, self.course, "{} is {} in process 0 and {} here")
                raise UserError(f"the processes train different runs ({told}): give all of them the same command")
        self._load(model, lambda: self._find_newest(model))
        return len(self.history)

    def _load(self, model: keras.Model, find: Callable[[], Path | None]) -> None:
        """Load the weights that `find` names, or end with the same problem, in this process and all others."""
        model.optimizer.build(model.trainable_variables)
        path = None
        with all_or_none():
            path = find() if self.writes else None
        found, self.history, self.seconds = from_first_process([path is not None, self.history, self.seconds])
        if found:
            load_variables(path, model)

    def _find_newest(self, model: keras.Model) -> Path | None:
        """The newest weights that are whole, None if there are none; history and log become theirs."""
        require_writable(self.folder)
        try:
            ours = self._lock.enter_context(held(self.folder / LOCK_FILE))
        except OSError as error:
            raise UserError(f"{self.folder / LOCK_FILE}: cannot be written ({error.strerror or error})") from error
        if not ours:
            raise UserError(f"{self.folder}: another process is training this run: wait for it, or give another --out")
        for leftover in self.folder.glob(".*.part"):
            leftover.unlink(missing_ok=True)
        problem = None
        for path in sorted(self.folder.glob("epoch-*.json"), reverse=True):
            try:
                state = read_state(path)
                self._check_course(state["course"])
                weights = whole_weights(path, state, model)
            except DamagedError as error:
                problem = str(error)
                self.warn(f"{problem}: going back to the checkpoint before it")
                continue
            self.history, self.seconds = state["history"], state["seconds"]
            self._write_log()
            return weights
        if problem is not None:
            raise UserError(f"{problem}, and no checkpoint before it is left: start anew with another --out")
        return None

    def best_period(self) -> int | None:
        """As `best_period` of the history."""
        return best_period(self.history)

    def load_best(self, model: keras.Model) -> None:
        """Load the weights of the best period; where they are damaged, of the best that are left.

        Raises:
            UserError: if none are.
        """
        self._load(model, lambda: self._find_best(model))

    def _find_best(self, model: keras.Model) -> Path:
        left = {int(path.stem.removeprefix("epoch-")): path for path in self.folder.glob("epoch-*.json")}
        periods = sorted(range(1, len(self.history) + 1), key=lambda number: _badness(self.history[number - 1]))
        problem = None
        for number in periods:
            if problem is not None and number not in left:
                continue
            path = left.get(number, self.folder / f"epoch-{number:05d}.json")
            try:
                weights = whole_weights(path, read_state(path), model)
            except DamagedError as error:
                problem = str(error)
                continue
            if problem is not None:
                self.warn(f"{problem}: the weights are those of step {number * self.steps_a_period} instead")
            return weights
        raise UserError(f"{problem}, and no other checkpoint is left: start anew with another --out")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the state after `epoch`."""
        require_finite(self.model, (epoch + 1) * self.steps_a_period)
        self.history.append(
            {
                **{name: float(value) for name, value in (logs or {}).items()},
                "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            }
        )
        self.seconds.append(round(time.monotonic() - self._began, 3))
        # A disk that is full ends the others too, which would wait for this process's next step.
        with all_or_none():
            if self.writes:
                self._write(epoch)

    def _write(self, epoch: int) -> None:
        path = self.folder / f"epoch-{epoch + 1:05d}.json"
        size, checksum = save_variables(path.with_suffix(WEIGHTS_SUFFIX), self.model)
        vouched = {"bytes": size, "crc32": checksum}
        state = {**vouched, "course": self.course, "history": self.history, "seconds": self.seconds}
        with atomic_write(path) as file:
            file.write(json.dumps(state, indent=1).encode())
        self._write_log()
        self._forget()

    def _write_log(self) -> None:
        """All of the history as a table, so that no row is there twice or missing whatever happened before."""
        names = list(dict.fromkeys(name for logs in self.history for name in logs))
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["period", "step", "images", *names, "seconds"])
        for period, (logs, seconds) in enumerate(zip(self.history, self.seconds, strict=True), 1):
            step = period * self.steps_a_period
            images = step * self.course.get("batch_size", 1)
            rows.writerow([period, step, images, *(logs.get(name, "") for name in names), seconds])
        with atomic_write(self.folder / LOG_FILE) as file:
            file.write(table.getvalue().encode())

    def _forget(self) -> None:
        """Delete all but the latest pairs and the best one."""
        last = len(self.history)
        kept = {*range(max(1, last - self.keep + 1), last + 1), self.best_period()}
        names = {f"epoch-{number:05d}{suffix}" for number in kept if number for suffix in (".json", WEIGHTS_SUFFIX)}
        # First what vouches, then the weights: a pair without its weights would count as damaged.
        for pattern in ("epoch-*.json", f"epoch-*{WEIGHTS_SUFFIX}"):
            for old in self.folder.glob(pattern):
                if old.name not in names:
                    old.unlink(missing_ok=True)

    def _check_course(self, before: dict) -> None:
        changed = _changed(before, self.course)
        if not changed:
            return
        told = _differences(before, self.course, "{} was {} and is now {}")
        if any(name not in CHANGEABLE for name in changed):
            raise UserError(f"{self.folder} holds another run ({told}): give its settings to go on, or another --out")
        if not self.accept_changes:
            raise UserError(
                f"{self.folder} holds another run ({told}): give its settings to go on, --accept_changes to go on "
                "with these, or another --out"
            )


def _differences(first: dict, second: dict, template: str) -> str:
    return ", ".join(template.format(name, first.get(name), second.get(name)) for name in _changed(first, second))


def _changed(first: dict, second: dict) -> list[str]:
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]


def best_period(history: list[dict[str, float]]) -> int | None:
    """Number, from 1, of the first period that no other is better than; None without validation.

    What counts is the validation accuracy where there is one, of equal ones the validation loss; and else that loss.
    """
    badness = [_badness(logs) for logs in history]
    return 1 + badness.index(min(badness)) if badness and min(badness)[0] < math.inf else None


def _badness(logs: dict[str, float]) -> tuple[float, float]:
    """What orders periods, the best one first."""
    loss = logs.get("val_loss", math.inf)
    return (1 - logs["val_accuracy"] if "val_accuracy" in logs else loss, loss)


def read_state(path: Path) -> dict:
    """What `RunCheckpoint` wrote beside the weights of a period.

    Raises:
        DamagedError: if the file is missing or damaged.
    """
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return {key: state[key] for key in ("bytes", "crc32", "course", "history", "seconds")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path}: expected the state of a training run, found {one_line(error)}") from error


def whole_weights(path: Path, state: dict, model: keras.Model) -> Path:
    """The file of weights that a state of `read_state(path)` vouches for, once it is seen to be whole.

    Raises:
        DamagedError: if it is missing, damaged or another model's.
    """
    weights = path.with_suffix(WEIGHTS_SUFFIX)
    check_variables(weights, model, state["bytes"], state["crc32"])
    return weights
