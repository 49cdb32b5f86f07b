"""One training run, whatever for: Keras `fit` in periods that end with a checkpoint, going on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from igpt_tf.backend import on_tensorflow
from igpt_tf.backend.devices import count_devices, jit_compile, scope_of
from igpt_tf.backend.processes import process_share
from igpt_tf.config import ImageGPTConfig, check_tokens
from igpt_tf.data.augment import Augmentation
from igpt_tf.data.batches import TrainingBatches, fingerprint, sample_rows
from igpt_tf.errors import UsageError, UserError
from igpt_tf.model.bert import draw_mask
from igpt_tf.training.callbacks import EarlyStop, FiniteLoss, ValidateAverage, is_out_of_patience, put_averages
from igpt_tf.training.checkpoint import RunCheckpoint
from igpt_tf.training.optimizer import new_optimizer
from igpt_tf.training.settings import PretrainSettings
from igpt_tf.training.variables import NotFiniteError

# Validation has masks of its own, the same whatever the run's seed.
VALIDATION_MASKS = 0

# Inputs, targets and weights of all images to validate on; the first axis of every array is that of the images.
Validation = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run trains and on what.

    Attributes:
        model: anything with a categorical loss, built under the strategy it is to train under.
        config: the shape of the `ImageGPT` in it.
        settings: the course.
        tokens: (N, T) integers, or anything with a length and `[rows]`; may lie on disk.
        labels: (N,) targets; None: the tokens are.
        masked: whether inputs are masked, as a BERT model's are.
        validation: likewise, of what every period ends with; None: with nothing.
        metrics: makes what is told beside the loss.
        course: what else decides the course, for a run that goes on; the settings, the shape and the data are known.
    """

    model: keras.Model
    config: ImageGPTConfig
    settings: PretrainSettings
    tokens: np.ndarray
    labels: np.ndarray | None = None
    masked: bool = False
    validation: Validation | None = None
    metrics: Callable[[], list[keras.metrics.Metric]] = list
    course: dict = dataclasses.field(default_factory=dict)

    def train(
        self,
        folder: str | Path,
        callbacks: list[keras.callbacks.Callback] | None = None,
        *,
        keep: int = 3,
        accept_changes: bool = False,
        warn: Callable[[str], None] = warnings.warn,
    ) -> list[dict[str, float]]:
        """Train, going on where an earlier run in `folder` stopped; arguments and result as of `pretrain`.

        Raises:
            UserError: if the tokens do not fit the model, `folder` cannot be written, holds a run of another course or
                data or one that another process is training, or the loss becomes NaN.
            UsageError: if the settings do not fit each other or the devices.
        """
        model, settings, share = self.model, self.settings, process_share()
        self._check(share)
        n_periods, period = settings.plan(len(self.tokens))
        course = {
            **dataclasses.asdict(settings),
            **self.config.to_dict(),
            "compute_dtype": model.compute_dtype,
            "n_images": len(self.tokens),
            "data": fingerprint(self.tokens),
            **self.course,
        }
        checkpoint = RunCheckpoint(folder, course, keep, period, accept_changes, share[0] == 0, warn)
        with checkpoint, scope_of(model):
            # In the scope, or a metric's variables would be on another device than the model's.
            compile_model(model, settings, n_periods * period, settings.warmup(len(self.tokens)), self.metrics())
            done = checkpoint.restore(model)
            if done < n_periods and not is_out_of_patience(checkpoint.history, settings.patience):
                try:
                    self._fit(callbacks or [], checkpoint, share)
                except NotFiniteError as error:
                    raise UserError(f"{error}. {_way_on(checkpoint, settings)}") from error
            if settings.patience is not None:
                checkpoint.load_best(model)
            put_averages(model)
        return checkpoint.history

    def _fit(
        self, callbacks: list[keras.callbacks.Callback], checkpoint: RunCheckpoint, share: tuple[int, int]
    ) -> None:
        """Keras' `fit` over the periods that are left."""
        settings = self.settings
        n_periods, period = settings.plan(len(self.tokens))
        parts = period * settings.accumulate
        done = len(checkpoint.history)
        batches = TrainingBatches(
            self.tokens,
            settings.part_size,
            settings.seed,
            first=done * parts,
            share=share,
            augment=Augmentation(settings.augment, self.config.n_px) if settings.augment else None,
            mask=_training_masks(settings) if self.masked else None,
            labels=self.labels,
        )
        n_devices = count_devices(self.model)
        self.model.fit(
            batches,
            shuffle=False,
            steps_per_epoch=parts,
            epochs=n_periods,
            initial_epoch=done,
            validation_data=self.validation and share_of(self.validation, n_devices, share),
            validation_batch_size=settings.part_size // share[1],
            callbacks=[
                FiniteLoss(parts, settings.accumulate),
                *([ValidateAverage()] if settings.ema is not None else []),
                *callbacks,
                checkpoint,
                *([EarlyStop(checkpoint.history, settings.patience)] if settings.patience is not None else []),
            ],
            verbose=0,
        )

    def _check(self, share: tuple[int, int]) -> None:
        """Refuse what would fail only later, or mean something else than it says."""
        check_tokens(self.config, sample_rows(self.tokens))
        if self.validation is not None:
            check_tokens(self.config, self.validation[0]["tokens"])
        settings, n_devices = self.settings, count_devices(self.model) * share[1]
        if settings.part_size % n_devices:
            raise UsageError(
                f"expected a batch that {n_devices} devices and accumulate {settings.accumulate} divide, "
                f"found {settings.batch_size} images"
            )
        if settings.patience is not None and self.validation is None:
            raise UsageError("patience waits for a better validation: give images for validation too")
        if on_tensorflow() and n_devices > 1 and settings.accumulate > 1:
            raise UsageError(
                "accumulating gradients on several devices needs the JAX backend, as Keras cannot do it under "
                "tf.distribute: set KERAS_BACKEND=jax, or use one device"
            )


def training_scope(config: ImageGPTConfig, rematerialise: bool) -> contextlib.AbstractContextManager:
    """Create a model of this shape in this scope to train it.

    Args:
        config: its shape.
        rematerialise: keep only what goes from block to block for the backward pass and compute the rest again,
            which takes longer and much less memory.
    """
    if not rematerialise:
        return contextlib.nullcontext()
    return keras.RematScope("list_of_layers", layer_names=[f"h{i}" for i in range(config.n_layer)])


def compile_model(
    model: keras.Model,
    settings: PretrainSettings,
    n_steps: int,
    warmup: int,
    metrics: Sequence[keras.metrics.Metric] = (),
) -> None:
    """Compile for a run of `n_steps`, the first `warmup` of them with a rising learning rate."""
    model.compile(
        optimizer=new_optimizer(settings, n_steps, warmup),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=list(metrics) or None,
        jit_compile=jit_compile(),
    )


def share_of(validation: Validation, n_devices: int, share: tuple[int, int]) -> tuple:
    """Keras' inputs, targets and weights: this process's share of the images, each of which counts once.

    Args:
        validation: of all images.
        n_devices: of each process.
        share: (number of this process, processes).
    """
    process, n_processes = share
    inputs, targets, weights = validation
    n_images = len(targets)
    # A last batch that the devices cannot divide is filled with images that count for nothing.
    missing = -n_images % (n_devices * n_processes)
    whole = n_images + missing
    mine = slice(process * whole // n_processes, (process + 1) * whole // n_processes)

    def part(array: np.ndarray) -> np.ndarray:
        return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))[mine]

    inputs = {name: part(array) for name, array in inputs.items()}
    weights = part(weights * (whole / n_images)).astype("float32")
    return (inputs if len(inputs) > 1 else inputs["tokens"]), part(targets), weights


def validation_inputs(tokens: np.ndarray, settings: PretrainSettings, masked: bool) -> dict[str, np.ndarray]:
    """Inputs of images to validate on: their tokens (N, T), and their masks where a model is to see them masked."""
    inputs = {"tokens": np.asarray(tokens, "int32")}
    if masked:
        inputs["mask"] = draw_mask(VALIDATION_MASKS, 0, *tokens.shape, settings.bert_mask_prob)
    return inputs


def _training_masks(settings: PretrainSettings) -> Callable[[int, int, int], np.ndarray]:
    """Masks of the examples from one on, by their number in the run."""
    # Not the seed itself: the order of pass n and the mask of example n would come from the same random numbers.
    seed = int(np.random.SeedSequence([settings.seed, 2]).generate_state(1)[0])
    return lambda first, n_images, n_tokens: draw_mask(seed, first, n_images, n_tokens, settings.bert_mask_prob)


def _way_on(checkpoint: RunCheckpoint, settings: PretrainSettings) -> str:
    """What to do after a loss that is not a number."""
    done = len(checkpoint.history)
    advice = f"a lower --learning_rate than {settings.learning_rate:g}, or --clip_norm"
    if not done:
        return f"There is no checkpoint yet: give the command again with {advice}"
    return (
        f"The last good checkpoint, of step {done * checkpoint.steps_a_period}, is untouched: "
        f"go on from it with the same command, --accept_changes and {advice}"
    )
