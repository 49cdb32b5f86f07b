"""Checkpoints of a training run, from which it can be resumed exactly after it was stopped at any moment."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import keras

from igpt_tf.backend.processes import all_or_none, from_first_process, process_share
from igpt_tf.errors import UserError
from igpt_tf.storage.files import atomic_write, exclusive, remove_partials, require_writable
from igpt_tf.storage.records import RecordError, read_record, write_record
from igpt_tf.storage.tensors import Tensor, write_tensors
from igpt_tf.training.best import best_interval, rank
from igpt_tf.training.curves import CURVES_FILE, plot_curves
from igpt_tf.training.identity import BEFORE, check_identity, differences
from igpt_tf.training.state import DamagedError, check_state, copy_state, load_state, require_finite

LOG_FILE = "log.csv"
LOCK_FILE = ".lock"
# Seconds between two drawings of the curves; the last one is made at the end.
PLOT_SECONDS = 60.0
WEIGHTS_SUFFIX = ".safetensors"
# "course" is what the identity was first called; runs on disk have it under this name.
FIELDS = {"bytes": int, "course": dict, "history": list, "seconds": list}


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its checkpoints and its log, and how.

    Attributes:
        path: the folder; created if needed.
        keep: how many of the latest checkpoints stay, beside the best one.
        accept_changes: resume although the learning rate, the clipping or the precision has changed.
        warn: is called with one line about each checkpoint that cannot be used.
    """

    path: Path
    keep: int = 3
    accept_changes: bool = False
    warn: Callable[[str], object] = warnings.warn

    @classmethod
    def of(cls, folder: RunFolder | str | Path) -> RunFolder:
        """A run folder from a path; a run folder is returned as it is."""
        return folder if isinstance(folder, RunFolder) else cls(Path(folder))

    def identity(self) -> dict[str, Any] | None:
        """What the run in this folder was trained with up to its newest readable record; None if there is none.

        Every process gets what the first one has read.
        """

        def read() -> dict[str, Any] | None:
            for path in sorted(self.path.glob("epoch-*.json"), reverse=True):
                with contextlib.suppress(DamagedError):
                    return {**BEFORE, **_read(path)["course"]}
            return None

        return from_first_process(read() if process_share()[0] == 0 else None)


class RunCheckpoint(keras.callbacks.Callback):
    """After every save interval, write weights and optimiser state, then the record of them, then the log.

    `epoch-00007.json` is renamed into place after `epoch-00007.safetensors`. It holds the size of that file, the
    identity of the run and its whole history, so each pair describes one moment by itself: if the process dies or a
    file is truncated, the run resumes from the newest pair that is whole. Nothing that is not finite is saved.

    The variables are copied and the copies are written in another thread while training continues; a file that cannot
    be written ends the run at the next checkpoint.

    A context manager: from `restore` to the end of its block no other process can resume the same run, and at its end
    everything is written.

    Args:
        folder: where the files go.
        identity: what makes it this run and no other; a run of another identity is not resumed.
        steps_per_interval: for the log.
        writes: whether this process writes; of several on one run, one does.
    """

    def __init__(self, folder: RunFolder, identity: dict[str, Any], steps_per_interval: int, writes: bool) -> None:
        super().__init__()
        self.folder = folder
        self.path = folder.path
        self.identity = json.loads(json.dumps(identity))
        self.steps_per_interval = steps_per_interval
        self.writes = writes
        self.history: list[dict[str, float]] = []
        self.seconds: list[float] = []
        self._began = 0.0
        self._plotted = time.monotonic()
        self._lock = contextlib.ExitStack()
        self._writer = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None

    def __enter__(self) -> RunCheckpoint:
        """Nothing yet: `restore` takes the lock."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the last checkpoint, draw the curves, and release the lock."""
        self._writer.shutdown()
        if self.writes and self.history:
            self._plot()
        self._lock.close()

    def restore(self, model: keras.Model) -> int:
        """Load the newest whole checkpoint into a compiled model; returns how many save intervals are done.

        The process that writes also reads; the others get what it has read, as their machines may not have the folder.

        Raises:
            UserError: if the processes train different runs; if the folder cannot be written, holds another run or one
                that another process is training, or none of its checkpoints is whole.
        """
        first = from_first_process(self.identity)
        with all_or_none():
            if first != self.identity:
                found = differences(first, self.identity, "{} is {} in process 0 and {} here")
                raise UserError(f"the processes train different runs ({found}): give all of them the same settings")
        self._load(model, lambda: self._find_newest(model))
        return len(self.history)

    def load_best(self, model: keras.Model) -> None:
        """Load the weights of the best save interval; where they are damaged, of the best one that is left.

        Raises:
            UserError: if none are left.
        """
        self._load(model, lambda: self._find_best(model))

    def _load(self, model: keras.Model, find: Callable[[], Path | None]) -> None:
        """Load the weights that `find` returns, or raise its error, in this process and in all others."""
        model.optimizer.build(model.trainable_variables)
        path = None
        with all_or_none():
            path = find() if self.writes else None
        found, self.history, self.seconds = from_first_process([path is not None, self.history, self.seconds])
        if found:
            load_state(path, model)

    def _find_newest(self, model: keras.Model) -> Path | None:
        """The newest whole weights, None if there is no checkpoint; history and log become theirs."""
        require_writable(self.path)
        self._lock.enter_context(
            exclusive(self.path / LOCK_FILE, f"{self.path}: another process is training this run: wait until it ends")
        )
        remove_partials(self.path)
        found = self._first_whole(sorted(self.path.glob("epoch-*.json"), reverse=True), model, self._check_identity)
        if found is None:
            return None
        path, record, problem = found
        if problem is not None:
            self.folder.warn(f"{problem}: resuming from the checkpoint before it")
        self.history, self.seconds = record["history"], record["seconds"]
        self._write_log(len(self.history))
        return path

    def _find_best(self, model: keras.Model) -> Path:
        numbers = sorted(range(1, len(self.history) + 1), key=lambda number: rank(self.history[number - 1]))
        # The best one must be there, of the others those that were kept.
        records = [self._record_of(number) for number in numbers]
        found = self._first_whole([records[0], *filter(Path.exists, records[1:])], model)
        assert found is not None
        path, _, problem = found
        if problem is not None:
            step = int(path.stem.removeprefix("epoch-")) * self.steps_per_interval
            self.folder.warn(f"{problem}: the weights are those of step {step} instead")
        return path

    def _first_whole(
        self, records: Iterable[Path], model: keras.Model, check: Callable[[dict[str, Any]], None] = lambda record: None
    ) -> tuple[Path, dict[str, Any], str | None] | None:
        """Weights, record, and the problem of the ones before, of the first whole checkpoint; None if there is none.

        Raises:
            UserError: if there are checkpoints and all are damaged.
        """
        problem = None
        for path in records:
            weights = path.with_suffix(WEIGHTS_SUFFIX)
            try:
                record = _read(path)
                check(record)
                check_state(weights, model, record["bytes"])
                return weights, record, problem
            except DamagedError as error:
                problem = str(error)
        if problem is not None:
            raise UserError(f"{problem}, and no other checkpoint is whole: start anew in another folder")
        return None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the checkpoint of a save interval, which Keras counts as an epoch."""
        model = cast("keras.Model", self.model)
        require_finite(model, (epoch + 1) * self.steps_per_interval)
        learning_rate = float(cast("Any", keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append({**values, "learning_rate": learning_rate})
        self.seconds.append(round(time.monotonic() - self._began, 3))
        self._finish_writing()
        if self.writes:
            self._written = self._writer.submit(self._write, copy_state(model), len(self.history))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Wait for the last checkpoint."""
        self._finish_writing()

    def _finish_writing(self) -> None:
        """Wait for the checkpoint that is being written, and raise its error in all processes."""
        # A full disk must end the other processes too, which would wait for this one's next step.
        with all_or_none():
            written, self._written = self._written, None
            if written is not None:
                written.result()

    def _write(self, state: list[Tensor], number: int) -> None:
        """Write the checkpoint of save interval `number`, which no later one can overtake."""
        path, history, seconds = self._record_of(number), self.history[:number], self.seconds[:number]
        size = write_tensors(path.with_suffix(WEIGHTS_SUFFIX), state)
        write_record(path, {"bytes": size, "course": self.identity, "history": history, "seconds": seconds})
        self._write_log(number)
        self._delete_old(number)
        if time.monotonic() - self._plotted > PLOT_SECONDS:
            self._plot()

    def _plot(self) -> None:
        """Draw the curves; that they cannot be written ends no run."""
        self._plotted = time.monotonic()
        try:
            plot_curves(self.path / CURVES_FILE, self.history.copy(), self.steps_per_interval)
        except UserError as error:
            self.folder.warn(str(error))

    def _write_log(self, last: int) -> None:
        """Write the history up to save interval `last` as a table: every row once, whatever happened before."""
        names = list(dict.fromkeys(name for logs in self.history[:last] for name in logs))
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["period", "step", "images", *names, "seconds"])
        for number, (logs, seconds) in enumerate(zip(self.history[:last], self.seconds[:last], strict=True), 1):
            step = number * self.steps_per_interval
            images = step * self.identity["batch_size"]
            rows.writerow([number, step, images, *(logs.get(name, "") for name in names), seconds])
        with atomic_write(self.path / LOG_FILE) as file:
            file.write(table.getvalue().encode())

    def _delete_old(self, last: int) -> None:
        """Delete all checkpoints but the latest up to save interval `last`, and the best of them."""
        kept = {*range(max(1, last - self.folder.keep + 1), last + 1), best_interval(self.history[:last])}
        stems = {self._record_of(number).stem for number in kept if number}
        # The record first: a record without its weights would count as damaged.
        for pattern in ("epoch-*.json", f"epoch-*{WEIGHTS_SUFFIX}"):
            for old in self.path.glob(pattern):
                if old.stem not in stems:
                    old.unlink(missing_ok=True)

    def _record_of(self, number: int) -> Path:
        return self.path / f"epoch-{number:05d}.json"

    def _check_identity(self, record: dict[str, Any]) -> None:
        step = len(record["history"]) * self.steps_per_interval
        check_identity(self.path, record["course"], self.identity, step, self.folder.accept_changes, self.folder.warn)


def _read(path: Path) -> dict[str, Any]:
    """The record of a checkpoint; a `DamagedError` if it is missing or something else."""
    try:
        record = read_record(path, FIELDS)
    except RecordError as error:
        raise DamagedError(f"{path}: expected the record of a checkpoint, got {error}") from error
    if record is None:
        raise DamagedError(f"{path}: expected the record of a checkpoint, got no file")
    return record
