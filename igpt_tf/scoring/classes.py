"""The classes of images, as a head says or as a model of each class finds them likeliest."""

from __future__ import annotations

import dataclasses

import numpy as np

from igpt_tf.backend.devices import count_devices, scope_of
from igpt_tf.config import check_tokens
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.tokens import Tokens
from igpt_tf.errors import UserError
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.progress import BATCHES_A_CHUNK, ProgressBar
from igpt_tf.scoring.evaluation import nats_of, scorer
from igpt_tf.scoring.predict import predict_padded, whole_batch


@dataclasses.dataclass(frozen=True)
class ClassEvaluation:
    """What the classes tell a model about the images of a data set.

    Attributes:
        images: number of images.
        nats: loss in nats per token without classes.
        given_nats: loss in nats per token given each image's class.
        accuracy: per cent of images whose likeliest class is their own.
        answers: the likeliest class (N,) of each image.
    """

    images: int
    nats: float
    given_nats: float
    accuracy: float
    answers: np.ndarray = dataclasses.field(compare=False, repr=False)


def classify(
    model: ImageGPT | ImageGPTClassifier, tokens: np.ndarray, batch_size: int = 8, *, progress: bool = False
) -> np.ndarray:
    """The probability of each class: tokens (N, T) to float32 (N, C).

    A classifier's head says it; a BERT model sees whole images. A model that was trained with classes and has no head
    computes the likelihood of each image given each class; Bayes' rule makes probabilities of them, with equal prior
    probabilities.

    Args:
        model: a classifier, or a model that was trained with classes.
        tokens: (N, T) integers.
        batch_size: images per batch, over all devices.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if the model knows no classes, or the tokens do not fit it.
    """
    if isinstance(model, ImageGPTClassifier):
        check_tokens(model.image_gpt.config, tokens)
        inputs = {"tokens": np.asarray(tokens, "int32")}
        with scope_of(model):
            outputs = predict_padded(scorer(model), inputs, whole_batch(model, batch_size, len(tokens)), progress)
        logits = outputs["class_logits"].astype(np.float64)
    else:
        logits = -class_nats(model, tokens, batch_size, progress=progress)[:, 1:]  # (N, C) of (N, 1 + C)
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype("float32")


def class_nats(model: ImageGPT, tokens: Tokens, batch_size: int = 8, *, progress: bool = False) -> np.ndarray:
    """Negative log-likelihood of each image in nats, (B, 1 + C): of no class, and of each class of the model.

    Args:
        model: a model that was trained with classes.
        tokens: (B, T) integers, in memory or on disk.
        batch_size: images per batch, over all devices.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if the model knows no classes, or the tokens do not fit it.
    """
    n_start = model.config.n_start
    if n_start == 1:
        raise UserError("expected a model that was trained with classes, got one without")
    check_tokens(model.config, tokens)
    # Of all images at once, the nats of every token given every start would take too much memory.
    n_images, chunk = len(tokens), BATCHES_A_CHUNK * max(1, batch_size // count_devices(model))
    found = []
    with ProgressBar(total=n_images, unit="image", first="compiling", desc="evaluating", shown=progress) as bar:
        for first in range(0, n_images, chunk):
            part = np.asarray(tokens[first : first + chunk], "int32")
            starts = np.tile(np.arange(n_start, dtype="int32"), len(part))
            nats = nats_of(model, np.repeat(part, n_start, axis=0), starts, batch_size)
            found.append(nats.astype(np.float64).sum(axis=1).reshape(-1, n_start))  # (b, S) of (b S, T)
            bar.update(len(part))
    return np.concatenate(found)


def evaluate_classes(
    model: ImageGPT, tokens: Tokens, labels: np.ndarray, *, batch_size: int = 8, progress: bool = False
) -> ClassEvaluation:
    """Losses with and without classes, and the accuracy of the likeliest class as a classifier.

    Args:
        model: a model that was trained with classes.
        tokens: (N, T) integers, in memory or on disk.
        labels: (N,) integers from 0.
        batch_size: images per batch, over all devices.
        progress: show a bar on standard error.

    Raises:
        UserError: if the model knows no classes, or tokens or labels do not fit it.

    Source: Bayes' rule with equal prior probabilities of the classes.
    """
    check_tokens(model.config, tokens)
    LabelledTokens("labels", tokens, labels).require_classes(model.config.n_start - 1)
    table = class_nats(model, tokens, batch_size, progress=progress)
    n_images = len(table)
    own = table[np.arange(n_images), labels + 1]
    answers = table[:, 1:].argmin(axis=1)
    n_tokens = model.config.n_tokens
    accuracy = 100 * float((answers == labels).mean())
    mean_nats, given_nats = float(table[:, 0].mean()) / n_tokens, float(own.mean()) / n_tokens
    return ClassEvaluation(n_images, mean_nats, given_nats, accuracy, answers)
