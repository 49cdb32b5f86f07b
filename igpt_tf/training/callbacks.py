"""What happens beside the steps of a run: watching the loss, averaging weights, ending early, drawing samples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from igpt_tf.backend.processes import all_or_none
from igpt_tf.pictures.imaging import grid, write_png
from igpt_tf.sampling import sampler_of
from igpt_tf.training.checkpoint import best_period
from igpt_tf.training.variables import NotFiniteError

if TYPE_CHECKING:
    from igpt_tf.pictures.palette import Palette


class FiniteLoss(keras.callbacks.Callback):
    """Ends the run, before anything is saved, when the loss is not a number any more.

    Keras' loss is the mean over the period so far, so it is NaN from the first step on that was. Steps may be
    told of late and out of order where the device runs ahead (JAX); they are judged in order.

    Args:
        parts_a_period: what Keras counts as steps of a period.
        n_parts: parts of a step.
    """

    async_safe = True

    def __init__(self, parts_a_period: int, n_parts: int = 1) -> None:
        super().__init__()
        self.parts_a_period = parts_a_period
        self.n_parts = n_parts
        self._period = 0
        self._next = 0
        self._losses: dict[int, float] = {}

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Begin to count."""
        self._period, self._next = epoch, 0
        self._losses.clear()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Take note."""
        self._losses[batch] = (logs or {}).get("loss", 0.0)

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Judge the steps before."""
        while self._next in self._losses:
            loss = self._losses.pop(self._next)
            if not math.isfinite(loss):
                step = (self._period * self.parts_a_period + self._next) // self.n_parts + 1
                raise NotFiniteError(f"the loss became {loss} at step {step}")
            self._next += 1

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Judge the last steps before time is spent on validation."""
        self.on_train_batch_begin(self.parts_a_period)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Judge the last steps and the validation loss."""
        self.on_train_batch_begin(self.parts_a_period)
        for name, value in (logs or {}).items():
            if not math.isfinite(value):
                step = (epoch + 1) * self.parts_a_period // self.n_parts
                raise NotFiniteError(f"{name} became {value} at step {step}")


def put_averages(model: keras.Model) -> None:
    """Give the model the optimiser's averaged weights; nothing happens where it keeps none."""
    if not model.optimizer.use_ema:
        return
    model.optimizer.finalize_variable_values(model.trainable_variables)
    for variable in model.trainable_variables:
        # On JAX it shares the average's memory now, which the next step of training would free.
        variable.assign(np.array(variable))


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """In this scope the model has the optimiser's averaged weights, where it keeps any; then its own, bit by bit."""
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
        self._scope.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Put the weights back."""
        self._scope.close()


class EarlyStop(keras.callbacks.Callback):
    """Ends training when no period has been the best, by `best_period`, for so many.

    Args:
        history: the run's history, which has the period before this callback is asked.
        patience: periods to wait for a better one.
    """

    def __init__(self, history: list[dict[str, float]], patience: int) -> None:
        super().__init__()
        self.history = history
        self.patience = patience

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Decide."""
        if is_out_of_patience(self.history, self.patience):
            self.model.stop_training = True


def is_out_of_patience(history: list[dict[str, float]], patience: int | None) -> bool:
    """Whether the best period, by `best_period`, is at least `patience` periods old."""
    best = best_period(history)
    return patience is not None and best is not None and len(history) - best >= patience


class SampleGrids(keras.callbacks.Callback):
    """Draws images every so many periods and writes them as one picture, `samples-00007.png` after period 7.

    Args:
        folder: where the pictures go.
        palette: colours of the tokens.
        every: periods between two pictures.
        n: images a picture, in rows of about the square root of it.
        seed: of the images; the same at every period, so that they can be compared.
        writes: whether this process writes; of several on one run all draw, as they all have to keep step.
    """

    def __init__(
        self, folder: str | Path, palette: Palette, every: int = 1, n: int = 16, seed: int = 0, writes: bool = True
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.palette = palette
        self.every = every
        self.n = n
        self.seed = seed
        self.writes = writes

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draw, with the averaged weights where there are any."""
        if (epoch + 1) % self.every:
            return
        sampler = sampler_of(self.model)
        with averaged_weights(self.model):
            tokens = sampler.sample(self.n, seed=self.seed, batch_size=self.n)
        # Training needs the memory of the second copy.
        sampler.release()
        images = list(self.palette.dequantize(np.asarray(tokens)))
        columns = math.ceil(math.sqrt(self.n))
        rows = [images[i : i + columns] for i in range(0, self.n, columns)]
        with all_or_none():
            if self.writes:
                write_png(self.folder / f"samples-{epoch + 1:05d}.png", grid(rows, scale=2))
