"""One training run of any model: Keras `fit` in save intervals that end with a checkpoint, resumable at each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from igpt_tf.backend import on_tensorflow
from igpt_tf.backend.devices import count_devices, jit_compile, scope_of
from igpt_tf.backend.processes import Share, process_share
from igpt_tf.errors import UsageError, UserError
from igpt_tf.training.best import Logs, is_out_of_patience
from igpt_tf.training.callbacks import EarlyStop, FiniteLoss, ValidateAverage, put_averages
from igpt_tf.training.checkpoint import RunCheckpoint, RunFolder
from igpt_tf.training.optimizer import new_optimizer
from igpt_tf.training.settings import Plan, RunSettings, scaled_beta2
from igpt_tf.training.state import NotFiniteError

# Inputs, targets and weights of all validation examples; the first axis of every array counts the examples, and the
# weights have the shape of the loss before its mean.
Validation = tuple[Any, Any, np.ndarray]
# (number of this process, number of processes)


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run trains, on what, and what makes it this run and no other.

    Attributes:
        model: any Keras model, built under the strategy it is to train under.
        settings: of the run.
        n_examples: examples in one pass over the data.
        batches: makes the endless batches from the first micro-batch on, for one process's share of them.
        loss: a Keras loss of targets and outputs; losses that the model adds itself are added to it.
        identity: beside the settings, what makes it this run: plain values, compared when a run is resumed.
        validation: examples on which every save interval is evaluated; None: none.
        metrics: makes the metrics that are reported beside the loss.
    """

    model: keras.Model
    settings: RunSettings
    n_examples: int
    batches: Callable[[int, Share], keras.utils.PyDataset]
    loss: keras.losses.Loss
    identity: dict[str, Any] = dataclasses.field(default_factory=dict)
    validation: Validation | None = None
    metrics: Callable[[], list[keras.metrics.Metric]] = list

    def train(
        self, folder: RunFolder | str | Path, callbacks: list[keras.callbacks.Callback] | None = None
    ) -> list[Logs]:
        """Train, or resume the run that `folder` holds; returns the logs of every save interval.

        The model ends with the weights of the last step; with the averaged ones where `settings.ema` is given; with
        those of the best save interval where `settings.patience` is given.

        Args:
            folder: where the checkpoints and the log go.
            callbacks: more Keras callbacks, called before a checkpoint is written.

        Raises:
            UserError: if `folder` cannot be written, holds another run or one that another process is training, or the
                loss becomes NaN.
            UsageError: if the settings do not fit each other or the devices.
        """
        model, share, folder = self.model, process_share(), RunFolder.of(folder)
        self._check(share)
        begun = folder.identity()
        settings = with_beta2(self.settings, begun)
        plan = settings.plan_from(self.n_examples, begun)
        identity = {
            **dataclasses.asdict(settings),
            **settings.length(plan),
            "compute_dtype": model.compute_dtype,
            **self.identity,
        }
        checkpoint = RunCheckpoint(folder, identity, plan.steps, writes=share.process == 0)
        with checkpoint, scope_of(model):
            # In the scope, or a metric's variables would be on another device than the model's.
            model.compile(
                optimizer=new_optimizer(settings, plan.whole, plan.warmup),
                loss=self.loss,
                weighted_metrics=self.metrics() or None,
                jit_compile=jit_compile(),
            )
            done = checkpoint.restore(model)
            if done < plan.n_intervals and not is_out_of_patience(checkpoint.history, settings.patience):
                try:
                    self._fit(plan, callbacks or [], checkpoint, share)
                except NotFiniteError as error:
                    raise UserError(f"{error}. {_advice(checkpoint, settings)}") from error
            if settings.patience is not None:
                checkpoint.load_best(model)
            put_averages(model)
        return checkpoint.history

    def _fit(
        self, plan: Plan, callbacks: list[keras.callbacks.Callback], checkpoint: RunCheckpoint, share: Share
    ) -> None:
        """Keras' `fit` over the save intervals that are left."""
        settings, done = self.settings, len(checkpoint.history)
        micro_batches = plan.steps * settings.accumulate
        validation = None
        if self.validation is not None:
            validation = share_of(self.validation, count_devices(self.model), share)
        # One of Keras' steps is a micro-batch, and one of its epochs a save interval.
        self.model.fit(
            self.batches(done * micro_batches, share),
            shuffle=False,
            steps_per_epoch=micro_batches,
            epochs=plan.n_intervals,
            initial_epoch=done,
            validation_data=validation,
            validation_batch_size=settings.micro_batch_size // share.n_processes,
            callbacks=[
                FiniteLoss(micro_batches, settings.accumulate),
                *([ValidateAverage()] if settings.ema is not None else []),
                *callbacks,
                checkpoint,
                *([EarlyStop(checkpoint.history, settings.patience)] if settings.patience is not None else []),
            ],
            verbose=0,
        )

    def _check(self, share: Share) -> None:
        """Refuse what would fail only later, or mean something else than it says."""
        settings, n_devices = self.settings, count_devices(self.model) * share.n_processes
        if settings.micro_batch_size % n_devices:
            raise UsageError(
                f"expected a batch_size that {n_devices} devices and accumulate {settings.accumulate} divide, "
                f"got {settings.batch_size}"
            )
        if settings.patience is not None and self.validation is None:
            raise UsageError(
                "expected validation images to wait for a better loss on, got none: give some, or leave it out",
                "patience",
            )
        if on_tensorflow() and n_devices > 1 and settings.accumulate > 1:
            raise UsageError(
                "expected the JAX backend for `accumulate` on several devices, got TensorFlow, under whose "
                "tf.distribute Keras cannot accumulate gradients: set KERAS_BACKEND=jax, or use one device"
            )


def with_beta2(settings: RunSettings, begun: dict[str, Any] | None) -> RunSettings:
    """The settings with a number for `beta2`: their own, that of the run that has begun, or the batch size's."""
    if settings.beta2 is not None:
        return settings
    beta2 = scaled_beta2(settings.batch_size) if begun is None else begun["beta2"]
    return dataclasses.replace(settings, beta2=beta2)


def share_of(validation: Validation, n_devices: int, share: Share) -> Validation:
    """One process's share of the validation examples, each of which counts once.

    Args:
        validation: all examples.
        n_devices: devices of each process.
        share: which process, of how many.
    """
    process, n_processes = share
    inputs, targets, weights = validation
    n_examples = len(weights)
    # A last batch that the devices cannot divide is filled with examples of weight 0.
    missing = -n_examples % (n_devices * n_processes)
    whole = n_examples + missing
    mine = slice(process * whole // n_processes, (process + 1) * whole // n_processes)

    def part(array: np.ndarray) -> np.ndarray:
        return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))[mine]

    inputs, targets = cast("Any", keras.tree.map_structure(part, (inputs, targets)))
    return inputs, targets, part(weights * (whole / n_examples)).astype("float32")


def _advice(checkpoint: RunCheckpoint, settings: RunSettings) -> str:
    """What to do after a loss that is not finite."""
    done = len(checkpoint.history)
    change = f"a `learning_rate` below {settings.learning_rate:g}, or `clip_norm`"
    if not done:
        return f"There is no checkpoint yet: start again with {change}"
    return (
        f"The last good checkpoint, of step {done * checkpoint.steps_per_interval}, is untouched: "
        f"resume from it with `accept_changes` and {change}"
    )
