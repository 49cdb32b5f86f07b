"""Fine-tuning: Keras `fit` of a classifier with the paper's joint objective."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from igpt_tf.backend.devices import scope_of
from igpt_tf.data.batches import fingerprint
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.errors import UsageError
from igpt_tf.model import ImageGPTClassifier
from igpt_tf.training.run import Run, Validation, training_scope, validation_inputs
from igpt_tf.training.settings import FinetuneSettings
from igpt_tf.weights.presets import Preset


def new_classifier(
    start: Preset,
    n_class: int,
    classes: Sequence[str] | None = None,
    mixed_precision: bool = False,
    rematerialise: bool = False,
) -> ImageGPTClassifier:
    """A classifier to train, with the weights of a preset.

    Args:
        start: from `presets.open_preset`; its head is kept if it is of as many classes, of the same names or of none.
        n_class: number of classes.
        classes: names of the classes.
        mixed_precision: as in `pretrain.new_model`.
        rematerialise: likewise.
    """
    dtype = "mixed_bfloat16" if mixed_precision else None
    with training_scope(start.config, rematerialise):
        return ImageGPTClassifier.from_preset(start, n_class, classes=classes, dtype=dtype)


def apply_settings(classifier: ImageGPTClassifier, settings: FinetuneSettings) -> None:
    """Train what the settings say, whatever an earlier run left as it was, by the loss that they say.

    Raises:
        UsageError: if more blocks are to be frozen than there are, the settings are for BERT models alone, or there are
            adapters of another rank.
    """
    bert = classifier.image_gpt.config.bert
    if not bert and not settings.mask:
        raise UsageError("an autoregressive model has no masks to leave out: leave out no_mask")
    ranks = {layer.lora_rank for layer in _adapted(classifier) if layer.lora_enabled}
    if not ranks <= {settings.lora_rank}:
        raise UsageError(
            f"expected lora_rank {ranks.pop()}, which this classifier's adapters have, got {settings.lora_rank}; for "
            "another, or none, save it as a preset, which merges them, and load that"
        )
    classifier.generative_weight = settings.generative_weight
    for variable in classifier.weights:
        variable.trainable = True
    if settings.lora_rank is not None:
        add_adapters(classifier, settings.lora_rank)
    freeze(classifier, settings.freeze)
    if not settings.generative_weight or (bert and not settings.mask):
        # No loss reaches it.
        classifier.image_gpt.wtet.trainable = False


def freeze(classifier: ImageGPTClassifier, n_blocks: int) -> None:
    """Leave the embeddings and the first `n_blocks` blocks as they are; 0 leaves nothing.

    Raises:
        UsageError: if there are fewer blocks.
    """
    model = classifier.image_gpt
    if not 0 <= n_blocks <= model.config.n_layer:
        raise UsageError(f"expected to freeze 0 to {model.config.n_layer} blocks of this model, got {n_blocks}")
    if not n_blocks:
        return
    embeddings = [variable for variable in (model.wte, model.wpe, model.sos) if variable is not None]
    for variable in [*embeddings, *(variable for block in model.blocks[:n_blocks] for variable in block.weights)]:
        variable.trainable = False


def add_adapters(classifier: ImageGPTClassifier, rank: int) -> None:
    """Train nothing but the head and low-rank adapters of every block's queries and values.

    Keras adds them (`enable_lora`) and merges them into the weights when a preset is saved. Source: Hu et al., "LoRA"
    (2021), which adapts the same two projections.
    """
    for variable in classifier.image_gpt.variables:
        variable.trainable = False
    for layer in _adapted(classifier):
        if not layer.lora_enabled:
            layer.enable_lora(rank)
        layer.lora_kernel_a.trainable = layer.lora_kernel_b.trainable = True


def _adapted(classifier: ImageGPTClassifier) -> list[keras.layers.EinsumDense]:
    """The layers that get adapters."""
    return [layer for block in classifier.image_gpt.blocks for layer in (block.attn.q_proj, block.attn.v_proj)]


def finetune(
    classifier: ImageGPTClassifier,
    data: LabelledTokens,
    settings: FinetuneSettings,
    folder: str | Path,
    validation: LabelledTokens | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    *,
    init_from: str | None = None,
    keep: int = 3,
    accept_changes: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> list[dict[str, float]]:
    """Train a classifier, going on where an earlier run in `folder` stopped; arguments and ways as in `pretrain`.

    Where `settings.patience` is given, the classifier ends with the weights of the period of the best validation
    accuracy, of equal ones the one of the lowest validation loss.

    Args:
        classifier: built under the `tf.distribute` strategy it is to train under.
        data: images and labels to train on.
        settings: the course of the run; what is trained and by which loss is theirs to say, not an earlier run's.
        folder: where the run keeps its state and `log.csv`.
        validation: images that are classified after every period.
        callbacks: more Keras callbacks, asked before a period is saved.
        init_from: as in `pretrain`, like those that follow.
        keep: likewise.
        accept_changes: likewise.
        warn: likewise.

    Returns:
        The logs of every period: `loss`, the joint one in nats; `accuracy`, from 0 to 1, on the augmented images as
        they were trained on; with validation, `val_loss`, of the classes alone, and `val_accuracy`; `learning_rate`.

    Raises:
        UserError: as `pretrain`, and for labels that the classifier has no class for.
        UsageError: likewise, and for adapters of another rank than the classifier's.

    Source: sections 2.2 and 3.4 of the paper.
    """
    config = classifier.image_gpt.config
    for part in (data, validation):
        if part is not None:
            part.require_classes(classifier.n_class, classifier.classes)
    masked = config.bert and settings.mask
    with scope_of(classifier):
        apply_settings(classifier, settings)
    run = Run(
        classifier,
        config,
        settings,
        data.tokens,
        labels=data.labels,
        masked=masked,
        validation=None if validation is None else _validation(validation, settings, masked),
        metrics=lambda: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        course={
            "init_from": init_from,
            "n_class": classifier.n_class,
            "labels": _digest(data.labels),
            "validation": None if validation is None else fingerprint(validation.tokens) + _digest(validation.labels),
        },
    )
    return run.train(folder, callbacks, keep=keep, accept_changes=accept_changes, warn=warn)


def _validation(data: LabelledTokens, settings: FinetuneSettings, masked: bool) -> Validation:
    inputs = validation_inputs(data.tokens[:], settings, masked)
    return inputs, data.labels, np.ones(len(data), "float32")


def _digest(labels: np.ndarray) -> str:
    return hashlib.blake2b(labels.astype("<i4").tobytes(), digest_size=8).hexdigest()
