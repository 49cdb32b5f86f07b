"""A linear probe of every layer: from images and labels to accuracies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix
from tqdm import tqdm

from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.split import hold_out
from igpt_tf.errors import UsageError
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.probing.cache import FeatureCache
from igpt_tf.probing.defaults import MAX_ITER, SUBSETS
from igpt_tf.probing.features import check_layers, extract_features
from igpt_tf.probing.few_labels import LowData, low_data, require_enough
from igpt_tf.probing.linear import HOLDOUT, LinearProbe, Trial, fit_linear, judge, require_all_classes
from igpt_tf.probing.sgd import SGDProbe


@dataclass(frozen=True)
class LayerResult:
    """What the features of a layer, or of several side by side, are worth.

    Attributes:
        layers: which.
        strength: the chosen C, or the learning rate of SGD; None where none converged.
        held_out: per cent of the held-out training images, by which it was chosen.
        accuracy: per cent of the test images; None where the solver did not converge.
        converged: whether it did.
        trials: all that were tried.
        answers: (N,) the class found for each test image; None without an accuracy.
    """

    layers: tuple[int, ...]
    strength: float | None
    held_out: float | None
    accuracy: float | None
    converged: bool
    trials: tuple[Trial, ...]
    answers: np.ndarray | None

    @property
    def name(self) -> str:
        """The layers' numbers, "5" or "5+6+7"."""
        return "+".join(map(str, self.layers))


@dataclass(frozen=True)
class ProbeResult:
    """Linear probes of a model.

    Attributes:
        results: of each layer.
        low_data: of the best layer, for each number of labels that was asked for.
        labels: (N,) of the test images.
        n_class: number of classes C.
        classes: their names, or None.
    """

    results: tuple[LayerResult, ...]
    low_data: tuple[LowData, ...]
    labels: np.ndarray
    n_class: int
    classes: tuple[str, ...] | None = None

    @property
    def best(self) -> LayerResult | None:
        """The layer that is best on the held-out training images, not on the test images; None if none converged."""
        return best_result(self.results)

    def confusion(self) -> np.ndarray | None:
        """(C, C) counts of the best layer's answers: row i has those for test images of class i."""
        if self.best is None:
            return None
        return confusion_matrix(self.labels, self.best.answers, labels=np.arange(self.n_class))


def probe(
    model: ImageGPT | ImageGPTClassifier,
    train: LabelledTokens | tuple[np.ndarray, np.ndarray],
    test: LabelledTokens | tuple[np.ndarray, np.ndarray],
    *,
    layers: Sequence[int] | None = None,
    concatenate: Sequence[int] = (),
    norm: str = "block",
    fit: Callable[..., LinearProbe | SGDProbe] = fit_linear,
    labels_a_class: Sequence[int] = (),
    n_subsets: int = SUBSETS,
    max_iter: int = MAX_ITER,
    bert_masks: int = 0,
    mask_probability: float = 0.15,
    batch_size: int = 8,
    seed: int = 0,
    cache: FeatureCache | None = None,
    progress: bool = False,
    tell: Callable[[LayerResult], None] = lambda result: None,
) -> ProbeResult:
    """How well a linear classifier tells classes by a model's features, layer by layer.

    Args:
        model: what is probed; of a classifier, the model in it.
        train: images and labels to fit to, or just tokens (N, T) and labels (N,).
        test: images and labels to judge by.
        layers: as in `extract_features`.
        concatenate: layers whose features, side by side, are probed as well.
        norm: as in `extract_features`.
        fit: `fit_linear`, or `fit_sgd` for what L-BFGS cannot hold; with other arguments by `functools.partial`.
        labels_a_class: probe the best layer, which all labels have chosen, also with so few of them, for each of these
            numbers.
        n_subsets: how many random subsets for each.
        max_iter: most steps of the solver with few labels; `fit` has its own.
        bert_masks: for BERT models: masks of each test image, of which the class that most find is the answer (the
            paper: 5); the training images have one. 0 shows all tokens of both.
        mask_probability: likewise: of a token to be hidden.
        batch_size: images at a time, over all devices.
        seed: decides what is held out, subsets, masks and votes.
        cache: where features are kept; None: in memory.
        progress: show bars on standard error.
        tell: called with each layer's result as it comes.

    Raises:
        UserError: if labels, layers or masks do not fit, a class has no training images, or there are too few.

    Source: sections 2.3, 4.6 (masks) and 4.7 (few labels) of the paper.
    """
    model = image_gpt_of(model)
    train, test = _labelled("training images", train), _labelled("test images", test)
    layers = check_layers(model, layers)
    concatenate = tuple(dict.fromkeys(check_layers(model, concatenate))) if len(concatenate) else ()
    if len(concatenate) == 1:
        raise UsageError(f"expected several layers to concatenate, found {concatenate[0]} alone")
    _check(model, train, test, bert_masks, labels_a_class)
    known = tuple(sorted({*layers, *concatenate}))

    def read(data: LabelledTokens, mask_seed: int | None) -> np.ndarray:
        extract = extract_features if cache is None else cache.extract
        options = {"norm": norm, "batch_size": batch_size, "progress": progress}
        return extract(model, data.tokens, known, mask_seed=mask_seed, mask_probability=mask_probability, **options)

    train_x = read(train, seed if bert_masks else None)
    # Masks of their own: seed itself is the training images'.
    looks = [read(test, mask_seed) for mask_seed in range(seed + 1, seed + 1 + bert_masks)] or [read(test, None)]

    def columns(group: tuple[int, ...]) -> tuple[np.ndarray | SideBySide, list[np.ndarray | SideBySide]]:
        first, *rest = (_columns(features, [known.index(layer) for layer in group]) for features in (train_x, *looks))
        return first, rest

    groups = [(layer,) for layer in dict.fromkeys(layers)] + ([concatenate] if concatenate else [])
    results = []
    for group in tqdm(groups, unit="probe", desc="probes", disable=not progress, leave=False):
        x, group_looks = columns(group)
        fitted = fit(x, train.labels, seed=seed)
        answers = accuracy = None
        if fitted.converged:
            answers, accuracy = judge(fitted.predict, group_looks, test.labels, train.n_class, seed)
        results.append(
            LayerResult(group, fitted.strength, fitted.held_out, accuracy, fitted.converged, fitted.trials, answers)
        )
        tell(results[-1])
    best, few = best_result(results), []
    if best is not None:
        x, best_looks = columns(best.layers)
        shown = progress and len(labels_a_class) > 0
        for number in tqdm(labels_a_class, unit="probe", desc="few labels", disable=not shown, leave=False):
            data = x, train.labels, best_looks, test.labels
            few.append(low_data(*data, number, n_subsets=n_subsets, seed=seed, max_iter=max_iter))
    return ProbeResult(tuple(results), tuple(few), test.labels, train.n_class, train.classes)


def best_result(results: Sequence[LayerResult]) -> LayerResult | None:
    """The best of those that converged, by the held-out images; of equals the first."""
    return max((one for one in results if one.converged), key=lambda one: one.held_out, default=None)


class SideBySide:
    """Features of several layers as one, (N, sum of D), of which no more is read than the rows asked for."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = parts
        self.shape = (len(parts[0]), sum(part.shape[1] for part in parts))

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The features (n, sum of D) of these rows."""
        return np.concatenate([part[rows] for part in self.parts], axis=1)


def _columns(features: np.ndarray, places: list[int]) -> np.ndarray | SideBySide:
    return features[places[0]] if len(places) == 1 else SideBySide([features[place] for place in places])


def _labelled(name: str, data: LabelledTokens | tuple[np.ndarray, np.ndarray]) -> LabelledTokens:
    if isinstance(data, LabelledTokens):
        return data
    tokens, labels = data
    return LabelledTokens(name, tokens, np.asarray(labels))


def _check(
    model: ImageGPT, train: LabelledTokens, test: LabelledTokens, bert_masks: int, labels_a_class: Sequence[int]
) -> None:
    """Refuse what would fail after the features are made, which may take hours."""
    if bert_masks < 0:
        raise UsageError(f"expected at least 0 masks, got {bert_masks}")
    if bert_masks and not model.config.bert:
        raise UsageError(f"expected no masks, as this model is autoregressive, got {bert_masks}")
    require_all_classes(train.labels, train.n_class)
    test.require_classes(train.n_class, train.classes)
    hold_out(train.labels, HOLDOUT, 0)
    for number in labels_a_class:
        require_enough(train.labels, number)
