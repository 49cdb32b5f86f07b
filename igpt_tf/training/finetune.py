"""Fine-tuning: Keras `fit` of a classifier with the paper's joint objective."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from igpt_tf.backend.devices import scope_of
from igpt_tf.config import check_tokens
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.tokens import fingerprint, sample_rows
from igpt_tf.errors import UsageError
from igpt_tf.model import ImageGPTClassifier
from igpt_tf.training.best import Logs
from igpt_tf.training.checkpoint import RunFolder
from igpt_tf.training.preparation import token_batch, validation_inputs
from igpt_tf.training.pretrain import batches_of, label_digest, token_identity, training_scope
from igpt_tf.training.run import Run, Validation
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
        start: from `weights.presets.open_preset`; its head is kept if it has as many classes, of the same names or
            without names.
        n_class: number of classes.
        classes: names of the classes; None: they have none.
        mixed_precision: compute in bfloat16; weights, norms, softmax and losses stay float32.
        rematerialise: as in `training_scope`.
    """
    dtype = "mixed_bfloat16" if mixed_precision else None
    with training_scope(start.config.block_names, rematerialise):
        return ImageGPTClassifier.from_preset(start, n_class, classes=classes, dtype=dtype)


def apply_settings(classifier: ImageGPTClassifier, settings: FinetuneSettings) -> None:
    """Mark the trainable weights and set the generative loss weight, overriding what an earlier run has set.

    Raises:
        UsageError: if there are fewer blocks than are to be frozen, the settings are for BERT models only, or the
            classifier has adapters of another rank.
    """
    bert = classifier.image_gpt.config.bert
    if not bert and not settings.mask:
        raise UsageError("training without masks is for BERT models; an autoregressive model has none", "no_mask")
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
    """Leave the embeddings and the first `n_blocks` blocks untrained; 0 trains everything.

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
    folder: RunFolder | str | Path,
    validation: LabelledTokens | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    *,
    init_from: str | None = None,
) -> list[Logs]:
    """Train a classifier, or resume the run that `folder` holds.

    The classifier ends with the weights that `Run.train` describes; the best save interval is that of the highest
    validation accuracy, of equal ones that of the lowest validation loss.

    Args:
        classifier: built under the `tf.distribute` strategy it is to train under.
        data: images and labels to train on.
        settings: of the run; they decide what is trained and by which loss, not those of an earlier run.
        folder: where the run keeps its checkpoints and `log.csv`.
        validation: images that are classified after every save interval.
        callbacks: more Keras callbacks, called before a checkpoint is written.
        init_from: fingerprint of the weights that the model begins with; a run that began with others is not resumed.

    Returns:
        The logs of every save interval: `loss`, the joint one in nats; `accuracy`, from 0 to 1, on the augmented
        training images; with validation, `val_loss`, of the classes alone, and `val_accuracy`; `learning_rate`.

    Raises:
        UserError: if the images or labels do not fit the classifier, `folder` cannot be written, holds another run or
            one that another process is training, or the loss becomes NaN.
        UsageError: if the settings do not fit each other, the devices or the classifier's adapters.

    Source: sections 2.2 and 3.4 of the paper.
    """
    config = classifier.image_gpt.config
    for part in (data, validation):
        if part is not None:
            part.require_classes(classifier.n_class, classifier.classes)
            check_tokens(config, sample_rows(part.tokens))
    masked = config.bert and settings.mask
    with scope_of(classifier):
        apply_settings(classifier, settings)
    run = Run(
        classifier,
        settings,
        len(data),
        batches_of(len(data), token_batch(data.tokens, settings, config.n_px, masked, data.labels), settings),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        {
            **token_identity(config, data.tokens),
            "init_from": init_from,
            "n_class": classifier.n_class,
            "labels": label_digest(data.labels),
            "validation": None
            if validation is None
            else fingerprint(validation.tokens) + label_digest(validation.labels),
        },
        None if validation is None else _validation(validation, settings, masked),
        lambda: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return run.train(folder, callbacks)


def _validation(data: LabelledTokens, settings: FinetuneSettings, masked: bool) -> Validation:
    return validation_inputs(data.tokens[:], settings, masked), data.labels, np.ones(len(data), "float32")
