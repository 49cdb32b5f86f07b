"""How likely images are under a model, and how often its head is right."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
from tqdm import tqdm

from igpt_tf.backend.devices import jit_compile, scope_of
from igpt_tf.backend.replica import kept_with
from igpt_tf.config import check_tokens
from igpt_tf.errors import UserError
from igpt_tf.model.bert import draw_mask, vote
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.model.objectives import NATS_PER_BIT, token_nats
from igpt_tf.scoring.predict import BATCHES_A_CHUNK, predict_padded, whole_batch


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Means over all images of a data set.

    Attributes:
        images: how many there were.
        nats: generative loss in nats per token (per masked token for BERT).
        class_nats: loss of the classification head in nats, None without labels or a trained head.
        accuracy: per cent of images that the head gets right, likewise.
    """

    images: int
    nats: float
    class_nats: float | None = None
    accuracy: float | None = None

    @property
    def bits(self) -> float:
        """Generative loss in bits per token."""
        return self.nats / NATS_PER_BIT


class _Scorer(keras.Model):
    """Wraps a model so that Keras' `predict` returns a few numbers for each token instead of its logits."""

    def __init__(self, model: ImageGPT | ImageGPTClassifier) -> None:
        super().__init__(name="scorer")
        self.scored = model

    def call(self, inputs):
        tokens = inputs["tokens"] if isinstance(inputs, dict) else inputs
        if isinstance(self.scored, ImageGPTClassifier):
            logits, class_logits = self.scored.outputs(inputs)
            return {"nats": token_nats(tokens, logits), "class_logits": class_logits}
        return {"nats": token_nats(tokens, self.scored(inputs))}


def _scorer(model: ImageGPT | ImageGPTClassifier) -> _Scorer:
    """The model's scorer with what it has compiled."""

    def make() -> _Scorer:
        scorer = _Scorer(model)
        scorer.compile(jit_compile=jit_compile())
        return scorer

    return kept_with(model, "_igpt_scorer", make)


def score(
    model: ImageGPT | ImageGPTClassifier, tokens: np.ndarray, mask: np.ndarray | None = None, batch_size: int = 8
) -> np.ndarray:
    """Negative log-likelihood of each token in nats: tokens (B, T) to float32 (B, T).

    Args:
        model: the model that judges.
        tokens: (B, T) integers.
        mask: (B, T), for BERT models: 1 where a token is seen, 0 where it is hidden; None shows all.
        batch_size: images at a time, over all devices.

    Raises:
        UserError: if the tokens or the mask do not fit the model.
    """
    model = image_gpt_of(model)
    check_tokens(model.config, tokens)
    if mask is not None and not (model.config.bert and np.shape(mask) == np.shape(tokens)):
        kind = f"BERT model expects a mask of shape {np.shape(tokens)}" if model.config.bert else "model takes no mask"
        raise UserError(f"this {kind}, found one of shape {np.shape(mask)}")
    inputs = {"tokens": np.asarray(tokens, "int32")} | ({} if mask is None else {"mask": np.asarray(mask)})
    with scope_of(model):
        return predict_padded(_scorer(model), inputs, whole_batch(model, batch_size, len(tokens)))["nats"]


def evaluate(
    model: ImageGPT | ImageGPTClassifier,
    tokens: np.ndarray,
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
        model: a model, or a classifier, whose head is judged too where there are labels.
        tokens: (N, T) integers; may be memory-mapped.
        labels: (N,) integers or (N, C) one-hot.
        batch_size: images at a time, over all devices.
        mask_probability: for BERT models: of a token to be hidden.
        votes: for BERT classifiers: masks of each image, of which the class that most find is the answer (the paper: 5;
            the original: 1, that of the generative loss); 0 shows the whole image instead. `class_nats` is the mean
            over the masks.
        seed: for BERT models: decides what is hidden, and between classes with equally many votes.
        progress: show a bar on standard error.

    Raises:
        UserError: if the tokens do not fit the model, or the labels do not fit the tokens or the head.
    """
    image_gpt = image_gpt_of(model)
    check_tokens(image_gpt.config, tokens)
    classes = None
    if isinstance(model, ImageGPTClassifier) and labels is not None:
        classes = _class_numbers(labels, len(tokens), model.n_class)
    batch_size = whole_batch(model, batch_size, len(tokens))
    if votes < 0:
        raise UserError(f"expected at least 0 votes, got {votes}")
    votes = votes if image_gpt.config.bert else 1
    nats = class_nats = 0.0
    predictions = np.empty((max(votes, 1), len(tokens)), np.int64)
    chunk = BATCHES_A_CHUNK * batch_size
    with scope_of(model), tqdm(total=len(tokens), unit="image", disable=not progress, leave=False) as bar:
        scorer = _scorer(model if classes is not None else image_gpt)
        for start in range(0, len(tokens), chunk):
            part = np.asarray(tokens[start : start + chunk], "int32")
            masks: list[np.ndarray | None] = [None]
            if image_gpt.config.bert:
                masks = _masks(seed, start, part.shape, mask_probability, votes if classes is not None else 1)
            for look, mask in enumerate(masks):
                inputs = {"tokens": part} | ({} if mask is None else {"mask": mask})
                outputs = predict_padded(scorer, inputs, batch_size)
                if not look:
                    nats += _mean_by_image(outputs["nats"], mask).sum()
                if classes is not None and (look or votes):
                    logits, expected = outputs["class_logits"].astype(np.float64), classes[start : start + chunk]
                    chosen = logits[np.arange(len(expected)), expected]
                    class_nats += (np.logaddexp.reduce(logits, axis=1) - chosen).sum() / len(predictions)
                    predictions[look if votes else 0, start : start + chunk] = logits.argmax(1)
            bar.update(len(part))
    n_images = len(tokens)
    if classes is None:
        return Evaluation(n_images, nats / n_images)
    answers = vote(predictions, model.n_class, seed)
    return Evaluation(n_images, nats / n_images, class_nats / n_images, 100 * float((answers == classes).mean()))


def classify(classifier: ImageGPTClassifier, tokens: np.ndarray, batch_size: int = 8) -> np.ndarray:
    """The probability of each class: tokens (N, T) to float32 (N, C); of BERT models, shown whole images.

    Args:
        classifier: the classifier that judges.
        tokens: (N, T) integers.
        batch_size: images at a time, over all devices.

    Raises:
        UserError: if the tokens do not fit the model.
    """
    check_tokens(classifier.image_gpt.config, tokens)
    inputs = {"tokens": np.asarray(tokens, "int32")}
    with scope_of(classifier):
        outputs = predict_padded(_scorer(classifier), inputs, whole_batch(classifier, batch_size, len(tokens)))
    logits = outputs["class_logits"].astype(np.float64)
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype("float32")


def _masks(seed: int, first: int, shape: tuple[int, int], probability: float, votes: int) -> list[np.ndarray]:
    """The mask of the generative loss, then those of the other votes; for no votes, one that shows everything."""
    seeds = [seed, *(int(np.random.SeedSequence([seed, vote]).generate_state(1)[0]) for vote in range(1, votes))]
    masks = [draw_mask(one, first, *shape, probability) for one in seeds]
    return masks if votes else [*masks, np.ones(shape, np.uint8)]


def _mean_by_image(nats: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    nats = nats.astype(np.float64)
    return nats.mean(axis=1) if mask is None else np.average(nats, axis=1, weights=1 - mask)


def _class_numbers(labels: np.ndarray, n_images: int, n_class: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim not in (1, 2) or len(labels) != n_images:
        raise UserError(f"expected one label an image, found labels of shape {labels.shape} and {n_images} images")
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.shape[1] != n_class:
            raise UserError(f"the head has {n_class} classes, found one-hot labels of {labels.shape[1]}")
        return labels.argmax(axis=1)
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"expected labels that are integers or one-hot, found {labels.dtype}")
    labels = labels.reshape(-1).astype(np.int64)
    if labels.min() < 0 or labels.max() >= n_class:
        raise UserError(f"the head has classes 0 to {n_class - 1}, found labels {labels.min()} to {labels.max()}")
    return labels
