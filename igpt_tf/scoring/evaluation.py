"""How likely images are under a model, and how often its head is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from igpt_tf.backend.devices import scope_of
from igpt_tf.backend.replica import kept_with
from igpt_tf.config import check_tokens
from igpt_tf.data.tokens import Tokens
from igpt_tf.errors import UserError, whole_number
from igpt_tf.model.bert import vote, vote_masks
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.model.objectives import NATS_PER_BIT, token_nats
from igpt_tf.progress import BATCHES_A_CHUNK, ProgressBar
from igpt_tf.scoring.predict import compiled, predict_padded, whole_batch


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Means over all images of a data set.

    Attributes:
        images: number of images.
        nats: generative loss in nats per token (per masked token for BERT).
        class_nats: loss of the classification head in nats; None without labels or a head.
        accuracy: per cent of images that the head classifies correctly; None without labels or a head.
        answers: the class (N,) that the head gives each image; None without labels or a head.
    """

    images: int
    nats: float
    class_nats: float | None = None
    accuracy: float | None = None
    answers: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def bits(self) -> float:
        """Generative loss in bits per token."""
        return self.nats / NATS_PER_BIT


class _Scorer(keras.Model):
    """Wraps a model so that Keras' `predict` returns a few numbers for each token instead of its logits."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="scorer")
        self.scored = model

    def call(self, inputs):
        tokens = inputs["tokens"] if isinstance(inputs, dict) else inputs
        if isinstance(self.scored, ImageGPTClassifier):
            logits, class_logits = self.scored.outputs(inputs)
            return {"nats": token_nats(tokens, logits), "class_logits": class_logits}
        return {"nats": token_nats(tokens, self.scored(inputs))}


def scorer(model: keras.Model) -> keras.Model:
    """The model, compiled to predict the nats of each token, and the logits of the classes; made once."""
    return kept_with(model, "_igpt_scorer", lambda: compiled(_Scorer(model)))


def score(
    model: ImageGPT | ImageGPTClassifier,
    tokens: np.ndarray,
    mask: np.ndarray | None = None,
    batch_size: int = 8,
    *,
    classes: int | str | Sequence[int | str] | np.ndarray | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Negative log-likelihood of each token in nats: tokens (B, T) to float32 (B, T).

    Args:
        model: an `ImageGPT`, a classifier, whose `image_gpt` is evaluated, or a `Refiner`.
        tokens: (B, T) integers.
        mask: for BERT models: (B, T), 1 where a token is seen, 0 where it is masked; None shows all.
        batch_size: images per batch, over all devices.
        classes: the class of each image, by number or name, or one for all; None: of no class; for a refiner, the
            coarser codes (S,) of each image, or of all.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if the tokens, the mask or the classes do not fit the model.
    """
    model = image_gpt_of(model)
    start = None if classes is None else model.starts(classes, len(tokens))
    return nats_of(model, tokens, start, batch_size, mask, progress)


def nats_of(
    model: ImageGPT,
    tokens: np.ndarray,
    start: np.ndarray | None = None,
    batch_size: int = 8,
    mask: np.ndarray | None = None,
    progress: bool = False,
) -> np.ndarray:
    """`score` given what `model.starts` returned; None: images of no class."""
    inputs = model.inputs_of(tokens, start)
    if mask is not None and not getattr(model.config, "bert", False):
        raise UserError("expected no `mask`, as this model is autoregressive, got one")
    if mask is not None and np.shape(mask) != np.shape(tokens):
        raise UserError(f"expected a `mask` of shape {np.shape(tokens)}, got {np.shape(mask)}")
    if mask is not None:
        inputs["mask"] = np.asarray(mask)
    with scope_of(model):
        return predict_padded(scorer(model), inputs, whole_batch(model, batch_size, len(tokens)), progress)["nats"]


def evaluate(
    model: ImageGPT | ImageGPTClassifier,
    tokens: Tokens,
    labels: np.ndarray | None = None,
    *,
    batch_size: int = 8,
    mask_probability: float = 0.15,
    votes: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Mean losses over all images, whatever the batch size; the original's `evaluate`.

    Args:
        model: a model, or a classifier, whose head is evaluated too if there are labels.
        tokens: (N, T) integers, in memory or on disk.
        labels: (N,) integers or (N, C) one-hot.
        batch_size: images per batch, over all devices.
        mask_probability: for BERT models: probability that a token is masked.
        votes: for BERT classifiers: masks per image, over which a majority votes (the paper: 5; the original: 1, that
            of the generative loss) and `class_nats` is averaged; 0 shows the whole image instead.
        seed: for BERT models: determines the masks and broken ties.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if the tokens do not fit the model, or the labels do not fit the tokens or the head.
    """
    image_gpt = image_gpt_of(model)
    check_tokens(image_gpt.config, tokens)
    votes = whole_number("votes", votes, 0) if image_gpt.config.bert else 1
    n_images, nats, head = len(tokens), 0.0, None
    if isinstance(model, ImageGPTClassifier) and labels is not None:
        head = _HeadTally(_class_numbers(labels, n_images, model.n_class), model.n_class, max(votes, 1))
    batch_size = whole_batch(model, batch_size, n_images)
    chunk = BATCHES_A_CHUNK * batch_size
    with (
        scope_of(model),
        ProgressBar(total=n_images, unit="image", first="compiling", desc="evaluating", shown=progress) as bar,
    ):
        predictor = scorer(image_gpt if head is None else model)
        for start in range(0, n_images, chunk):
            part = np.asarray(tokens[start : start + chunk], "int32")
            masks: Sequence[np.ndarray | None] = [None]
            if image_gpt.config.bert:
                masks = vote_masks(seed, start, part.shape, mask_probability, 1 if head is None else votes)
            for number, mask in enumerate(masks):
                inputs = {"tokens": part} | ({} if mask is None else {"mask": mask})
                outputs = predict_padded(predictor, inputs, batch_size)
                if number == 0:
                    nats += _mean_by_image(outputs["nats"], mask).sum()
                # For no votes, the second mask is the one that shows everything.
                if head is not None and (number or votes):
                    head.add(start, number if votes else 0, outputs["class_logits"])
            bar.update(len(part))
    if head is None:
        return Evaluation(n_images, nats / n_images)
    answers = head.answers(seed)
    accuracy = 100 * float((answers == head.classes).mean())
    return Evaluation(n_images, nats / n_images, head.loss / n_images, accuracy, answers)


class _HeadTally:
    """The loss of a classifier's head and its predictions, image by image and vote by vote."""

    def __init__(self, classes: np.ndarray, n_class: int, n_votes: int) -> None:
        self.classes = classes
        self.n_class = n_class
        self.loss = 0.0
        self._predictions = np.empty((n_votes, len(classes)), np.int64)

    def add(self, start: int, number: int, logits: np.ndarray) -> None:
        """Count vote `number` of the images from `start` on: logits (n, C)."""
        logits, stop = logits.astype(np.float64), start + len(logits)
        expected = logits[np.arange(len(logits)), self.classes[start:stop]]
        self.loss += (np.logaddexp.reduce(logits, axis=1) - expected).sum() / len(self._predictions)
        self._predictions[number, start:stop] = logits.argmax(1)

    def answers(self, seed: int) -> np.ndarray:
        """The class (N,) that most votes give each image."""
        return vote(self._predictions, self.n_class, seed)


def _mean_by_image(nats: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    nats = nats.astype(np.float64)
    return nats.mean(axis=1) if mask is None else np.average(nats, axis=1, weights=1 - mask)


def _class_numbers(labels: np.ndarray, n_images: int, n_class: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim not in (1, 2) or len(labels) != n_images:
        raise UserError(f"expected one label for each of {n_images} images, got labels of shape {labels.shape}")
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.shape[1] != n_class:
            raise UserError(f"expected one-hot labels of the head's {n_class} classes, got {labels.shape[1]}")
        return labels.argmax(axis=1)
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"expected labels that are integers or one-hot, got {labels.dtype}")
    labels = labels.reshape(-1).astype(np.int64)
    if labels.min() < 0 or labels.max() >= n_class:
        raise UserError(f"expected labels from 0 to {n_class - 1}, got {labels.min()} to {labels.max()}")
    return labels
