"""A linear probe of every layer: from images and labels to accuracies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix

from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.split import hold_out
from igpt_tf.errors import UsageError, whole_number
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.probing.cache import FeatureCache
from igpt_tf.probing.defaults import MAX_ITER, SUBSETS
from igpt_tf.probing.features import Features, FeatureSettings, SideBySide, check_layers, extract_with
from igpt_tf.probing.few_labels import LowData, low_data, require_enough
from igpt_tf.probing.linear import HOLDOUT, LinearProbe, Trial, evaluate_probe, fit_linear, require_all_classes
from igpt_tf.progress import ProgressBar


@dataclass(frozen=True)
class LayerResult:
    """The probe of one layer, or of several whose features are concatenated.

    Attributes:
        layers: their numbers.
        hyperparameter: the chosen C, or learning rate of SGD; None if no fit converged.
        held_out: accuracy in per cent of the held-out training images, by which it was chosen.
        accuracy: per cent of the test images; None if the last fit did not converge.
        converged: whether the last fit converged.
        trials: every value of the hyperparameter that was tried.
        answers: the predicted classes (N,) of the test images; None without an accuracy.
    """

    layers: tuple[int, ...]
    hyperparameter: float | None
    held_out: float | None
    accuracy: float | None
    converged: bool
    trials: tuple[Trial, ...]
    answers: np.ndarray | None

    @property
    def name(self) -> str:
        """The layers' numbers, "5" or "5+6+7"."""
        return "+".join(map(str, self.layers))

    @property
    def strength(self) -> float | None:
        """The former name of `hyperparameter`."""
        return self.hyperparameter


@dataclass(frozen=True)
class ProbeResult:
    """Linear probes of a model.

    Attributes:
        results: one per layer, then the concatenated layers'.
        low_data: probes of the best layer with few labels, one per number of labels per class.
        labels: labels (N,) of the test images.
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
        """The converged layer with the best held-out accuracy, the first of equals; None if none converged.

        The test images have no part in the choice.
        """
        converged = (one for one in self.results if one.converged)
        return max(converged, key=lambda one: one.held_out or 0.0, default=None)

    def confusion(self) -> np.ndarray | None:
        """Counts (C, C) of the best layer's predictions, true classes in rows; None if no layer converged."""
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
    fit: Callable[..., LinearProbe] = fit_linear,
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
    """Fit a linear classifier to the features of each layer, and test it.

    Args:
        model: the model to probe; for a classifier, its `image_gpt`.
        train: images and labels to fit to, or a tuple of tokens (N, T) and labels (N,).
        test: images and labels to test on, or a tuple of tokens (M, T) and labels (M,).
        layers: numbers of layers, from 0, the embedding, to L, the last block's output; None: all.
        concatenate: numbers of layers whose concatenated features are probed too.
        norm: applied before the mean over positions, as in `extract_features`.
        fit: `fit_linear` (L-BFGS), or `fit_sgd` for features that do not fit in memory; `functools.partial` sets more.
        labels_a_class: numbers of labels per class with which the best layer, chosen with all labels, is probed too.
        n_subsets: random subsets per number of labels per class.
        max_iter: largest number of L-BFGS iterations of the probes with few labels.
        bert_masks: for BERT models, masks of each test image, over which a majority votes (the paper: 5); each training
            image gets one mask. 0 shows all images whole.
        mask_probability: for BERT models, the probability that a token is masked.
        batch_size: images per batch, over all devices.
        seed: determines the held-out images, subsets, masks and broken ties.
        cache: where features are kept; None: in memory.
        progress: show progress bars on standard error.
        tell: called with each layer's result as soon as it is known.

    Raises:
        UserError: if labels, layers or masks do not fit, or a class has too few training images.

    Source: sections 2.3, 4.6 (masks) and 4.7 (few labels) of the paper.
    """
    model = image_gpt_of(model)
    train, test = _labelled("training images", train), _labelled("test images", test)
    groups = _groups(model, layers, concatenate)
    _check(model, train, test, bert_masks, labels_a_class)
    known = tuple(sorted({layer for group in groups for layer in group}))
    settings = FeatureSettings(known, norm, None, mask_probability, batch_size, progress)

    def read(data: LabelledTokens, mask_seed: int) -> dict[int, np.ndarray]:
        how = dataclasses.replace(settings, mask_seed=mask_seed if bert_masks else None)
        extract = cache.extract if cache is not None else extract_with
        return dict(zip(known, extract(model, data.tokens, how), strict=True))

    # Each view of the test images has masks of its own seed; the seed itself is that of the training images' masks.
    extracted = [read(train, seed), *(read(test, seed + 1 + view) for view in range(max(1, bert_masks)))]
    results = []
    for group in ProgressBar(iterable=groups, unit="probe", desc="probes", shown=progress):
        x, *views = (_concatenated(features, group) for features in extracted)
        fitted = fit(x, train.labels, seed=seed)
        answers, accuracy = evaluate_probe(fitted, views, test.labels, train.n_class, seed)
        found = fitted.hyperparameter, fitted.held_out, accuracy, fitted.converged, fitted.trials, answers
        results.append(LayerResult(group, *found))
        tell(results[-1])
    result = ProbeResult(tuple(results), (), test.labels, train.n_class, train.classes)
    if result.best is None or not len(labels_a_class):
        return result
    x, *views = (_concatenated(features, result.best.layers) for features in extracted)
    few = [
        low_data(x, train.labels, views, test.labels, number, n_subsets=n_subsets, seed=seed, max_iter=max_iter)
        for number in ProgressBar(iterable=labels_a_class, unit="probe", desc="few labels", shown=progress)
    ]
    return dataclasses.replace(result, low_data=tuple(few))


def _concatenated(features: dict[int, np.ndarray], group: tuple[int, ...]) -> Features:
    """The features (N, D) of a layer, or of several side by side."""
    parts = [features[layer] for layer in group]
    return parts[0] if len(parts) == 1 else SideBySide(parts)


def _labelled(name: str, data: LabelledTokens | tuple[np.ndarray, np.ndarray]) -> LabelledTokens:
    if isinstance(data, LabelledTokens):
        return data
    tokens, labels = data
    return LabelledTokens(name, tokens, np.asarray(labels))


def _groups(model: ImageGPT, layers: Sequence[int] | None, concatenate: Sequence[int]) -> list[tuple[int, ...]]:
    """The layers of each probe: one layer each, then those to concatenate."""
    groups: list[tuple[int, ...]] = [(layer,) for layer in dict.fromkeys(check_layers(model, layers))]
    if len(concatenate):
        joined = tuple(dict.fromkeys(check_layers(model, concatenate)))
        if len(joined) == 1:
            raise UsageError(f"expected several layers to concatenate, got {joined[0]} alone")
        groups.append(joined)
    return groups


def _check(
    model: ImageGPT, train: LabelledTokens, test: LabelledTokens, bert_masks: int, labels_a_class: Sequence[int]
) -> None:
    """Refuse what would fail only after the features are extracted, which may take hours."""
    if whole_number("bert_masks", bert_masks, 0) and not model.config.bert:
        raise UsageError(f"expected no `bert_masks`, as this model is autoregressive, got {bert_masks}")
    require_all_classes(train.labels, train.n_class)
    test.require_classes(train.n_class, train.classes)
    hold_out(train.labels, HOLDOUT, 0)
    for number in labels_a_class:
        require_enough(train.labels, number)
