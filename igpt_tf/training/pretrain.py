"""Pretraining: Keras `fit` on tokens, with either of the paper's objectives."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from igpt_tf.config import ImageGPTConfig, check_tokens
from igpt_tf.data.batches import TrainingBatches
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.order import ExampleOrder, Examples
from igpt_tf.data.tokens import Tokens, fingerprint, sample_rows
from igpt_tf.model.bert import masked_sample_weights
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.storage.digests import digest
from igpt_tf.training.best import Logs
from igpt_tf.training.checkpoint import RunFolder
from igpt_tf.training.preparation import ClassStarts, token_batch, validation_inputs
from igpt_tf.training.run import Run, Share, Validation
from igpt_tf.training.settings import PretrainSettings, RunSettings, TokenSettings
from igpt_tf.weights.presets import Preset


def new_model(
    start: ImageGPTConfig | Preset,
    mixed_precision: bool = False,
    rematerialise: bool = False,
    classes: Sequence[str] | None = None,
) -> ImageGPT:
    """A model to train, with OpenAI's initial distributions or with the weights of a preset.

    Args:
        start: the shape of a new model; or the preset to begin with, from `weights.presets.open_preset`.
        mixed_precision: compute in bfloat16; weights, norms, softmax and losses stay float32.
        rematerialise: as in `training_scope`.
        classes: names of the classes of a new model's start embeddings; None: they have none.
    """
    dtype = "mixed_bfloat16" if mixed_precision else None
    config = start.config if isinstance(start, Preset) else start
    with training_scope(config.block_names, rematerialise):
        if isinstance(start, Preset):
            return ImageGPT.from_preset(start, dtype=dtype)
        return ImageGPT(start, classes, dtype=dtype)


def training_scope(blocks: list[str], rematerialise: bool) -> contextlib.AbstractContextManager:
    """Create a model in this scope to train it.

    Args:
        blocks: names of its blocks.
        rematerialise: keep only what passes from block to block for the backward pass and compute the rest again,
            which takes longer and much less memory.
    """
    if not rematerialise:
        return contextlib.nullcontext()
    return keras.RematScope("list_of_layers", layer_names=blocks)


def pretrain(
    model: ImageGPT,
    tokens: Tokens,
    settings: PretrainSettings,
    folder: RunFolder | str | Path,
    validation_tokens: np.ndarray | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    *,
    labels: np.ndarray | None = None,
    init_from: str | None = None,
) -> list[Logs]:
    """Train a model on tokens, or resume the run that `folder` holds.

    Of several processes that train together, each reads its share of every batch, and only the first one writes. The
    model ends with the weights that `Run.train` describes.

    Args:
        model: built under the `tf.distribute` strategy it is to train under.
        tokens: (N, T) integers.
        settings: of the run.
        folder: where the run keeps its checkpoints and `log.csv`.
        validation_tokens: (M, T), evaluated after every save interval.
        callbacks: more Keras callbacks, called before a checkpoint is written.
        labels: (N,) the class of each image, from 0, whose start embedding it begins with, but for the share
            `settings.class_dropout`; validation is without classes. None: every image begins with the first one.
        init_from: fingerprint of the weights that the model begins with; a run that began with others is not resumed.

    Returns:
        The logs of every save interval: `loss` and, with validation, `val_loss`, in nats per token (of a BERT model,
        per masked token), and `learning_rate`, which is the next step's.

    Raises:
        UserError: if the tokens or labels do not fit the model, `folder` cannot be written, holds another run or one
            that another process is training, or the loss becomes NaN.
        UsageError: if the settings do not fit each other or the devices.
    """
    config, validation = model.config, None
    check_tokens(config, sample_rows(tokens))
    if validation_tokens is not None:
        check_tokens(config, validation_tokens)
        validation = token_validation(validation_tokens, settings, config.bert)
    prepare = token_batch(tokens, settings, config.n_px, config.bert)
    identity = {
        **token_identity(config, tokens),
        "init_from": init_from,
        "validation": None if validation_tokens is None else fingerprint(validation_tokens),
    }
    if labels is not None:
        LabelledTokens("labels", tokens, labels).require_classes(config.n_start - 1)
        prepare = dataclasses.replace(prepare, starts=ClassStarts(labels, settings.class_dropout, settings.seed))
        identity["labels"] = label_digest(labels)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    run = Run(model, settings, len(tokens), batches_of(len(tokens), prepare, settings), loss, identity, validation)
    return run.train(folder, callbacks)


def batches_of(n_examples: int, prepare: Callable[[Examples], Any], settings: RunSettings):
    """What `Run` makes its batches with: the settings' order of the examples, prepared in this way."""

    def batches(first: int, share: Share) -> TrainingBatches:
        order = ExampleOrder(n_examples, settings.micro_batch_size, settings.seed, share)
        return TrainingBatches(order, prepare, first)

    return batches


def label_digest(labels: np.ndarray) -> str:
    """What tells some labels (N,) from others."""
    return digest(labels.astype("<i4"))


def token_identity(config: ImageGPTConfig, tokens: Tokens) -> dict[str, Any]:
    """What makes a run on tokens this run: the model's shape and the data."""
    return {**config.to_dict(), "n_images": len(tokens), "data": fingerprint(tokens)}


def token_validation(tokens: np.ndarray, settings: TokenSettings, masked: bool) -> Validation:
    """Inputs, targets and weights: every token counts alike, or of masked images every image."""
    inputs = validation_inputs(tokens, settings, masked)
    weights = masked_sample_weights(inputs["mask"]) if isinstance(inputs, dict) else np.ones(tokens.shape, "float32")
    return inputs, np.asarray(tokens, "int32"), weights
