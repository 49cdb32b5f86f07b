"""Pretraining in its simplest form: Keras `fit` on tokens."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import keras
import numpy as np

from igpt_tf.backend import jit_compile, scope_of
from igpt_tf.data.batches import TrainingBatches
from igpt_tf.errors import UsageError, UserError
from igpt_tf.model import ImageGPT
from igpt_tf.training.checkpoint import RunCheckpoint


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """What decides the course of a run; the defaults are ours for small models, the paper's where it names one.

    Attributes:
        epochs: passes over the data; may be a fraction.
        batch_size: images a step, over all devices (the paper: 128).
        learning_rate: the peak (the paper: 0.003 for S).
        warmup_steps: linear warm-up, then cosine decay to 0 at the last step.
        save_every: steps between checkpoints (and validations); None means about one pass over the data.
        seed: of the initial weights and of the order of the data.
    """

    epochs: float = 1.0
    batch_size: int = 16
    learning_rate: float = 3e-3
    warmup_steps: int = 200
    save_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no run can have."""
        for name in ("epochs", "batch_size", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if self.warmup_steps < 0:
            raise UsageError(f"warmup_steps must be at least 0, got {self.warmup_steps}")
        if self.save_every is not None and self.save_every < 1:
            raise UsageError(f"save_every must be at least 1, got {self.save_every}")

    def plan(self, n_images: int) -> tuple[int, int]:
        """Periods of the run and steps in each; together at least `epochs` passes over `n_images`."""
        steps = math.ceil(self.epochs * n_images / self.batch_size)
        save_every = self.save_every or math.ceil(n_images / self.batch_size)
        n_periods = max(1, round(steps / save_every))
        return n_periods, math.ceil(steps / n_periods)


def compile_model(model: keras.Model, settings: PretrainSettings, n_steps: int) -> None:
    """Compile for the paper's objective: Adam (0.9, 0.95), linear warm-up, cosine decay to 0 after `n_steps`."""
    warmup = min(settings.warmup_steps, n_steps - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else settings.learning_rate,
        n_steps - warmup,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    model.compile(
        optimizer=keras.optimizers.Adam(schedule, beta_1=0.9, beta_2=0.95),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile(),
    )


def pretrain(
    model: ImageGPT,
    tokens: np.ndarray,
    settings: PretrainSettings,
    folder: str | Path,
    validation_tokens: np.ndarray | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
) -> list[dict[str, float]]:
    """Train an autoregressive model on tokens, going on where an earlier run in `folder` stopped.

    Args:
        model: an autoregressive `ImageGPT`, built under the `tf.distribute` strategy it is to train under.
        tokens: (N, T) integers; may be memory-mapped.
        settings: the course of the run.
        folder: where the run keeps its state.
        validation_tokens: (M, T), scored after every period.
        callbacks: more Keras callbacks.

    Returns:
        Keras' logs of every period: `loss` and, with validation, `val_loss`, in nats per token.

    Raises:
        UserError: if `folder` holds a run with other settings or another number of images.
    """
    if model.config.bert:
        raise UserError("pretraining is for autoregressive models; this one has the BERT objective")
    n_periods, period = settings.plan(len(tokens))
    course = {**dataclasses.asdict(settings), **model.config.to_dict(), "n_images": len(tokens)}
    checkpoint = RunCheckpoint(folder, course)
    with scope_of(model):
        compile_model(model, settings, n_periods * period)
        done = checkpoint.restore(model)
        if done < n_periods:
            _fit(
                model, tokens, settings, validation_tokens, (done, n_periods, period), [*(callbacks or []), checkpoint]
            )
    return checkpoint.history


def _fit(
    model: ImageGPT,
    tokens: np.ndarray,
    settings: PretrainSettings,
    validation_tokens: np.ndarray | None,
    periods: tuple[int, int, int],
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Keras' `fit` over the periods that are left: (done, all, steps in each)."""
    done, n_periods, period = periods
    batches = TrainingBatches(tokens, settings.batch_size, period, settings.seed)
    # Keras looks at batches and ends an epoch before the first one begins: only its own count can be trusted.
    clock = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch))
    model.fit(
        batches,
        shuffle=False,
        epochs=n_periods,
        initial_epoch=done,
        validation_data=None if validation_tokens is None else (np.asarray(validation_tokens, "int32"),) * 2,
        validation_batch_size=settings.batch_size,
        callbacks=[clock, *callbacks],
        verbose=0,
    )
