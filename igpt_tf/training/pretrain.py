"""Pretraining: Keras `fit` on tokens, with either of the paper's objectives."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from igpt_tf.config import ImageGPTConfig
from igpt_tf.data.batches import fingerprint
from igpt_tf.model import ImageGPT
from igpt_tf.model.bert import masked_sample_weights
from igpt_tf.training.run import Run, Validation, training_scope, validation_inputs
from igpt_tf.training.settings import PretrainSettings
from igpt_tf.weights.presets import Preset


def new_model(start: ImageGPTConfig | Preset, mixed_precision: bool = False, rematerialise: bool = False) -> ImageGPT:
    """A model to train, with OpenAI's initial distributions or with the weights of a preset.

    Args:
        start: the shape of a new model; or the preset to begin with, from `presets.open_preset`.
        mixed_precision: compute in bfloat16; weights, norms, softmax and losses stay float32.
        rematerialise: as in `training_scope`.
    """
    dtype = "mixed_bfloat16" if mixed_precision else None
    config = start.config if isinstance(start, Preset) else start
    with training_scope(config, rematerialise):
        return ImageGPT.from_preset(start, dtype=dtype) if isinstance(start, Preset) else ImageGPT(start, dtype=dtype)


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
        UserError: if the tokens do not fit the model, `folder` cannot be written, holds a run of another course or data
            or one that another process is training, or the loss becomes NaN.
        UsageError: if the settings do not fit each other or the devices.
    """
    run = Run(
        model,
        model.config,
        settings,
        tokens,
        masked=model.config.bert,
        validation=None if validation_tokens is None else _validation(validation_tokens, settings, model.config.bert),
        course={
            "init_from": init_from,
            "validation": None if validation_tokens is None else fingerprint(validation_tokens),
        },
    )
    return run.train(folder, callbacks, keep=keep, accept_changes=accept_changes, warn=warn)


def _validation(tokens: np.ndarray, settings: PretrainSettings, masked: bool) -> Validation:
    """Every token counts alike, of images that are masked every image."""
    inputs = validation_inputs(tokens, settings, masked)
    weights = masked_sample_weights(inputs["mask"]) if masked else np.ones(tokens.shape, "float32")
    return inputs, inputs["tokens"], weights
