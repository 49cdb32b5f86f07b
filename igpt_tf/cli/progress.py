"""What shows how a training proceeds: a bar with the expected end, and TensorBoard's log."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from igpt_tf.cli.console import remark
from igpt_tf.errors import UserError
from igpt_tf.progress import ProgressBar

if TYPE_CHECKING:
    import keras

    from igpt_tf.training.settings import RunSettings

# Steps that the estimate of a run's end leaves out, and those that it is made of.
SKIPPED_STEPS, TIMED_STEPS = 5, 20


def progress_bar(settings: RunSettings, note: str | None) -> keras.callbacks.Callback:
    """A bar over all steps of a run with the latest losses and, once, a line with the expected end; on stderr.

    Args:
        settings: of the run.
        note: a line to print when training begins, which is after every mistake was reported.
    """
    accumulate = settings.accumulate
    import keras

    class ShowProgress(keras.callbacks.Callback):
        # On JAX, Keras may then run ahead instead of waiting for every loss.
        async_safe = True

        def on_train_begin(self, logs=None) -> None:
            params = cast("dict[str, Any]", self.params)
            self.steps = params["steps"] // accumulate
            self.bar = ProgressBar(
                total=params["epochs"] * self.steps, unit="step", first="compiling", desc="training", leave=True
            )
            self.counted = 0
            if note is not None:
                remark(note)

        def on_epoch_begin(self, epoch, logs=None) -> None:
            self.step = epoch * self.steps
            self.bar.update(self.step - self.bar.n)
            self.bar.unpause()

        def on_train_batch_end(self, batch, logs=None) -> None:
            if (batch + 1) % accumulate == 0:
                self.bar.set_postfix(logs or {}, refresh=False)
                self.bar.update()
                self.step += 1
                self.counted += 1
                self.estimate()

        def estimate(self) -> None:
            # Without the first steps, in which the program is compiled.
            if self.counted == SKIPPED_STEPS:
                self.began = time.monotonic()
            if self.counted == SKIPPED_STEPS + TIMED_STEPS:
                rate = TIMED_STEPS / (time.monotonic() - self.began)
                left = self.bar.total - self.step
                seconds = left / rate
                end = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
                remark(
                    f"{left} steps left, {rate * settings.batch_size:.3g} images/s: about "
                    f"{_duration(seconds)} without validation, until {end:%a %d %b %H:%M}"
                )

        def on_epoch_end(self, epoch, logs=None) -> None:
            self.bar.set_postfix(logs or {})

        def on_train_end(self, logs=None) -> None:
            self.bar.close()

    return ShowProgress()


def _duration(seconds: float) -> str:
    """A time of at least two hours in hours, of at least two minutes in minutes, or else in seconds."""
    unit, size = next((one for one in (("h", 3600), ("min", 60)) if seconds >= 2 * one[1]), ("s", 1))
    return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"


def tensorboard(folder: Path) -> keras.callbacks.Callback:
    """Keras' own log for TensorBoard; a `UserError` where the backend or the package cannot write it."""
    import importlib.util

    import keras

    from igpt_tf.storage.files import require_writable

    if keras.backend.backend() != "tensorflow":
        raise UserError(
            "--log_dir: expected the TensorFlow backend, which alone writes TensorBoard's files, got JAX: see log.csv"
        )
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--log_dir: expected the package tensorboard, got none: pip install tensorboard")
    require_writable(folder)
    return keras.callbacks.TensorBoard(str(folder), write_graph=False)
