"""Callbacks of a run: checks of the loss, averaged weights, early stopping, grids of samples."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import keras
import numpy as np

from igpt_tf.backend.events import log_picture
from igpt_tf.backend.processes import all_or_none, from_first_process
from igpt_tf.model.image_gpt import image_gpt_of
from igpt_tf.pictures.figures import in_rows
from igpt_tf.pictures.writing import grid, write_png
from igpt_tf.sampling import sampler_of
from igpt_tf.training.best import is_out_of_patience
from igpt_tf.training.state import NotFiniteError

if TYPE_CHECKING:
    from igpt_tf.pictures.palette import Palette


class FiniteLoss(keras.callbacks.Callback):
    """Ends the run, before anything is saved, when the loss becomes NaN or infinite.

    Keras' loss is the mean over the save interval so far, so it stays NaN from the first such step on. Where the
    device runs ahead (JAX), losses are reported late, in other threads and in any order.

    Args:
        micro_batches: what Keras counts as steps of a save interval.
        accumulate: micro-batches per step.
    """

    async_safe = True

    def __init__(self, micro_batches: int, accumulate: int = 1) -> None:
        super().__init__()
        self.micro_batches = micro_batches
        self.accumulate = accumulate
        self._interval = 0
        self._bad: list[int] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember which save interval begins."""
        self._interval = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the micro-batches with a bad loss."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self._bad.append(batch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Raise `NotFiniteError` if a loss reported so far was bad."""
        if self._bad:
            step = (self._interval * self.micro_batches + min(self._bad)) // self.accumulate + 1
            raise NotFiniteError(f"the loss became NaN or infinite by step {step}")

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Check the last steps before time is spent on validation."""
        self.on_train_batch_begin(self.micro_batches)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Check the last steps and the validation loss."""
        self.on_train_batch_begin(self.micro_batches)
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                step = (epoch + 1) * self.micro_batches // self.accumulate
                raise NotFiniteError(f"{name} became {value} by step {step}")


def put_averages(model: keras.Model) -> None:
    """Give the model the optimiser's averaged weights, if it has any."""
    if not model.optimizer.use_ema:
        return
    model.optimizer.finalize_variable_values(model.trainable_variables)
    for variable in model.trainable_variables:
        # On JAX it shares the average's memory now, which the next step of training would free.
        variable.assign(np.array(variable))


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Give the model the averaged weights, if there are any, and its own ones back at the end, bit for bit."""
    if not model.optimizer.use_ema:
        yield
        return
    before = [np.array(variable) for variable in model.trainable_variables]
    put_averages(model)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, before, strict=True):
            variable.assign(value)


class ValidateAverage(keras.callbacks.Callback):
    """Has `fit` validate the averaged weights."""

    def __init__(self) -> None:
        super().__init__()
        self._scope = contextlib.ExitStack()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Put the averages in."""
        self._scope.enter_context(averaged_weights(cast("keras.Model", self.model)))

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Put the weights back."""
        self._scope.close()


class EarlyStop(keras.callbacks.Callback):
    """Stops training when the best save interval, by `best_interval`, is `patience` intervals old.

    Args:
        history: the run's history, which has the latest save interval before this callback is called.
        patience: save intervals to wait for a better one.
    """

    def __init__(self, history: list[dict[str, float]], patience: int) -> None:
        super().__init__()
        self.history = history
        self.patience = patience

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop, or not."""
        if is_out_of_patience(self.history, self.patience):
            cast("keras.Model", self.model).stop_training = True


class TimeLimit(keras.callbacks.Callback):
    """Stops training after the save interval that the next one would not end within the time.

    Args:
        seconds: from the creation of this callback on.

    Attributes:
        stopped: whether it has stopped training before its end.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.monotonic() + seconds
        self._began = 0.0
        self.stopped = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the interval's clock."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop, or not; of several processes, when the first one stops."""
        now = time.monotonic()
        is_late = from_first_process(now + (now - self._began) > self._end)
        if is_late and epoch + 1 < cast("dict[str, int]", self.params)["epochs"]:
            self.stopped = cast("keras.Model", self.model).stop_training = True


class SampleGrids(keras.callbacks.Callback):
    """Draws images after every `every` save intervals, as one picture: `samples-00007.png` after the seventh.

    A model of classes draws them in turn, a column for each; of many classes, the first ones.

    Args:
        folder: where the pictures go.
        palette: colours of the tokens.
        every: save intervals between two pictures.
        n: images per picture, in about as many rows as columns; rounded up until every class has equally many.
        seed: of the images; always the same, so that pictures can be compared.
        writes: whether this process writes the picture; of several that train together, all draw, to stay in step.
        log_dir: TensorBoard's folder, where the pictures go too; None: nowhere.
    """

    def __init__(
        self,
        folder: str | Path,
        palette: Palette,
        every: int = 1,
        n: int = 16,
        seed: int = 0,
        writes: bool = True,
        log_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.palette = palette
        self.every = every
        self.n = n
        self.seed = seed
        self.writes = writes
        self.log_dir = log_dir

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draw, with the averaged weights where there are any."""
        if (epoch + 1) % self.every:
            return
        model = cast("keras.Model", self.model)
        sampler = sampler_of(model)
        n, columns, classes = self.n, math.ceil(math.sqrt(self.n)), None
        n_class = image_gpt_of(model).config.n_start - 1
        if n_class:
            columns = n_class if n_class <= self.n else columns
            n = columns * math.ceil(self.n / columns)
            classes = [i % n_class for i in range(n)]
        with averaged_weights(model):
            tokens = sampler.sample(n, classes=classes, seed=self.seed, batch_size=n)
        # Training needs the memory of the second copy.
        sampler.release()
        images = list(self.palette.dequantize(np.asarray(tokens)))
        picture = grid(in_rows(images, columns), scale=2)
        with all_or_none():
            if self.writes:
                write_png(self.folder / f"samples-{epoch + 1:05d}.png", picture)
                if self.log_dir is not None:
                    log_picture(Path(self.log_dir) / "samples", "samples", picture, epoch)
