"""Pretraining: Keras `fit` on tokens, with either of the paper's objectives."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from igpt_tf.backend import count_devices, jit_compile, on_tensorflow, process_share, scope_of
from igpt_tf.config import ImageGPTConfig
from igpt_tf.data.augment import Augmentation
from igpt_tf.data.batches import TrainingBatches, fingerprint, masked_sample_weights
from igpt_tf.errors import UsageError, UserError
from igpt_tf.model import ImageGPT
from igpt_tf.objectives import draw_mask
from igpt_tf.presets import Preset, load_model
from igpt_tf.training.callbacks import EarlyStop, FiniteLoss, ValidateAverage, is_out_of_patience, put_averages
from igpt_tf.training.checkpoint import RunCheckpoint
from igpt_tf.training.optimizer import new_optimizer
from igpt_tf.training.settings import PretrainSettings
from igpt_tf.training.variables import NotFiniteError

# Validation has masks of its own, the same whatever the run's seed.
VALIDATION_MASKS = 0


def new_model(start: ImageGPTConfig | Preset, mixed_precision: bool = False, rematerialise: bool = False) -> ImageGPT:
    """A model to train, with OpenAI's initial distributions or with the weights of a preset.

    Args:
        start: the shape of a new model; or the preset to begin with, from `presets.open_preset`.
        mixed_precision: compute in bfloat16; weights, norms, softmax and losses stay float32.
        rematerialise: keep only what goes from block to block for the backward pass and compute the rest again,
            which takes longer and much less memory.
    """
    dtype = "mixed_bfloat16" if mixed_precision else None
    config = start.config if isinstance(start, Preset) else start
    blocks = [f"h{i}" for i in range(config.n_layer)]
    scope = keras.RematScope("list_of_layers", layer_names=blocks) if rematerialise else contextlib.nullcontext()
    with scope:
        return load_model(start, dtype=dtype) if isinstance(start, Preset) else ImageGPT(start, dtype=dtype)


def compile_model(model: keras.Model, settings: PretrainSettings, n_steps: int, warmup: int) -> None:
    """Compile for a run of `n_steps`, the first `warmup` of them with a rising learning rate."""
    model.compile(
        optimizer=new_optimizer(settings, n_steps, warmup),
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
    *,
    init_from: str | None = None,
    keep: int = 3,
    accept_changes: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> list[dict[str, float]]:
    """Train a model on tokens, going on where an earlier run in `folder` stopped.

    Of several processes that train together, each reads its share of every batch, and the first alone writes.

    The model ends with the weights of the last step; with the averaged ones where `settings.ema` has them averaged,
    which are also those that are validated; and with those of the best period where `settings.patience` is given.

    Args:
        model: an `ImageGPT`, built under the `tf.distribute` strategy it is to train under.
        tokens: (N, T) integers, or anything with a length and `[rows]`; may lie on disk.
        settings: the course of the run.
        folder: where the run keeps its state and `log.csv`.
        validation_tokens: (M, T), scored after every period.
        callbacks: more Keras callbacks, asked before a period is saved.
        init_from: what the model's first weights are called, if they were trained before; a run that began with others
            is not gone on with.
        keep: latest checkpoints that are kept, beside the best one.
        accept_changes: go on although the learning rate, the clipping or the precision is another than before.
        warn: told in one line of checkpoints that cannot be used.

    Returns:
        The logs of every period: `loss` and, with validation, `val_loss`, in nats per token (of a BERT model, per
        masked token), and `learning_rate`, which is the next step's.

    Raises:
        UserError: if `folder` cannot be written, holds a run of another course or data or one that another process
            is training, or the loss becomes NaN.
        UsageError: if the settings do not fit each other or the devices.
    """
    share = process_share()
    _check(model, settings, validation_tokens, share)
    n_periods, period = settings.plan(len(tokens))
    course = {
        **dataclasses.asdict(settings),
        **model.config.to_dict(),
        "compute_dtype": model.compute_dtype,
        "n_images": len(tokens),
        "data": fingerprint(tokens),
        "init_from": init_from,
        "validation": None if validation_tokens is None else fingerprint(validation_tokens),
    }
    checkpoint = RunCheckpoint(folder, course, keep, period, accept_changes, share[0] == 0, warn)
    with checkpoint, scope_of(model):
        compile_model(model, settings, n_periods * period, settings.warmup(len(tokens)))
        done = checkpoint.restore(model)
        if done < n_periods and not is_out_of_patience(checkpoint.history, settings.patience):
            try:
                _fit(model, tokens, settings, validation_tokens, callbacks or [], checkpoint, share)
            except NotFiniteError as error:
                raise UserError(f"{error}. {_way_on(checkpoint, settings)}") from error
        if settings.patience is not None:
            checkpoint.load_best(model)
        put_averages(model)
    return checkpoint.history


def _fit(
    model: ImageGPT,
    tokens: np.ndarray,
    settings: PretrainSettings,
    validation_tokens: np.ndarray | None,
    callbacks: list[keras.callbacks.Callback],
    checkpoint: RunCheckpoint,
    share: tuple[int, int],
) -> None:
    """Keras' `fit` over the periods that are left."""
    n_periods, period = settings.plan(len(tokens))
    parts = period * settings.accumulate
    done = len(checkpoint.history)
    batches = TrainingBatches(
        tokens,
        settings.part_size,
        settings.seed,
        first=done * parts,
        share=share,
        augment=Augmentation(settings.augment, model.config.n_px) if settings.augment else None,
        mask=_training_masks(settings) if model.config.bert else None,
    )
    model.fit(
        batches,
        shuffle=False,
        steps_per_epoch=parts,
        epochs=n_periods,
        initial_epoch=done,
        validation_data=_validation(model, settings, validation_tokens, share),
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


def _training_masks(settings: PretrainSettings) -> Callable[[int, int, int], np.ndarray]:
    """Masks of the examples from one on, by their number in the run."""
    # Not the seed itself: the order of pass n and the mask of example n would come from the same random numbers.
    seed = int(np.random.SeedSequence([settings.seed, 2]).generate_state(1)[0])
    return lambda first, n_images, n_tokens: draw_mask(seed, first, n_images, n_tokens, settings.bert_mask_prob)


def _validation(
    model: ImageGPT, settings: PretrainSettings, tokens: np.ndarray | None, share: tuple[int, int]
) -> tuple | None:
    """Keras' inputs, targets and weights for validation: this process's share of the images, each counted once."""
    if tokens is None:
        return None
    process, n_processes = share
    tokens = np.asarray(tokens, "int32")
    weights = np.ones(tokens.shape, "float32")
    mask = None
    if model.config.bert:
        mask = draw_mask(VALIDATION_MASKS, 0, *tokens.shape, settings.bert_mask_prob)
        weights = masked_sample_weights(mask)
    # A last batch that the devices cannot divide is filled with images that count for nothing.
    n_devices = count_devices(model) * n_processes
    missing = -len(tokens) % n_devices
    weights = np.pad(weights, ((0, missing), (0, 0))) * ((len(tokens) + missing) / len(tokens))
    tokens = np.pad(tokens, ((0, missing), (0, 0)))
    mine = slice(process * len(tokens) // n_processes, (process + 1) * len(tokens) // n_processes)
    if mask is None:
        inputs = tokens[mine]
    else:
        inputs = {"tokens": tokens[mine], "mask": np.pad(mask, ((0, missing), (0, 0)))[mine]}
    return inputs, tokens[mine], weights[mine].astype("float32")


def _check(
    model: ImageGPT, settings: PretrainSettings, validation_tokens: np.ndarray | None, share: tuple[int, int]
) -> None:
    """Refuse what would fail only later, or mean something else than it says."""
    n_devices = count_devices(model) * share[1]
    if settings.part_size % n_devices:
        raise UsageError(
            f"expected a batch that {n_devices} devices and accumulate {settings.accumulate} divide, "
            f"found {settings.batch_size} images"
        )
    if settings.patience is not None and validation_tokens is None:
        raise UsageError("patience waits for a better validation loss: give images for validation too")
    if on_tensorflow() and n_devices > 1 and settings.accumulate > 1:
        raise UsageError(
            "accumulating gradients on several devices needs the JAX backend, as Keras cannot do it under "
            "tf.distribute: set KERAS_BACKEND=jax, or use one device"
        )


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
