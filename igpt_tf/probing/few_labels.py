"""Linear probes with a few labels of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from igpt_tf.errors import UsageError
from igpt_tf.probing.defaults import MAX_ITER, SUBSETS
from igpt_tf.probing.linear import (
    STRENGTHS,
    TOLERANCE,
    LinearProbe,
    Trial,
    best_trial,
    fit_until_converged,
    judge,
    new_classifier,
    require_all_classes,
)

FOLDS = 4


@dataclass(frozen=True)
class LowData:
    """Accuracies of probes that saw few labels.

    Attributes:
        labels_a_class: how many of each class.
        accuracies: per cent of the test images for each subset, None where the solver did not converge.
        strengths: the C that was chosen for each, likewise.
    """

    labels_a_class: int
    accuracies: tuple[float | None, ...]
    strengths: tuple[float | None, ...]

    @property
    def converged(self) -> tuple[float, ...]:
        """The accuracies of the fits that converged."""
        return tuple(accuracy for accuracy in self.accuracies if accuracy is not None)

    @property
    def mean(self) -> float | None:
        """Mean accuracy of the fits that converged, in per cent; None if there are none."""
        return float(np.mean(self.converged)) if self.converged else None

    @property
    def std(self) -> float | None:
        """Their standard deviation, that of a sample; None for fewer than two."""
        return float(np.std(self.converged, ddof=1)) if len(self.converged) > 1 else None


def low_data(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_looks: Sequence[np.ndarray],
    test_y: np.ndarray,
    labels_a_class: int,
    *,
    n_subsets: int = SUBSETS,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    max_iter: int = MAX_ITER,
    tol: float = TOLERANCE,
) -> LowData:
    """Probe as `fit_linear` does with random subsets of the training images, of each class equally many.

    The penalty is chosen by cross-validation within the subset: no other label is looked at.

    Args:
        train_x: features (N, D).
        train_y: labels (N,).
        test_looks: features of the images to judge by, as in `judge`.
        test_y: their labels.
        labels_a_class: how many of each class, at least 2.
        n_subsets: how many subsets.
        strengths: as in `fit_linear`.
        seed: decides the subsets; subset i of a seed is the same however many there are.
        max_iter: as in `fit_linear`.
        tol: likewise.

    Raises:
        UserError: if a class has too few images.

    Source: section 4.7 of the paper.
    """
    train_y = np.asarray(train_y)
    require_enough(train_y, labels_a_class)
    accuracies, strengths_found = [], []
    for number in range(n_subsets):
        rows = subset(train_y, labels_a_class, seed, number)
        x, y = np.asarray(train_x[rows], np.float64), train_y[rows]
        strength = _cross_validate(x, y, strengths, seed, max_iter, tol)
        accuracy = None
        if strength is not None:
            scaler = StandardScaler().fit(x)
            classifier = new_classifier(max_iter, tol).set_params(C=strength)
            if fit_until_converged(classifier, scaler.transform(x), y):
                probe = LinearProbe(strength, None, True, (), scaler, classifier)
                _, accuracy = judge(probe.predict, test_looks, test_y, len(np.unique(train_y)), seed)
        accuracies.append(accuracy)
        strengths_found.append(strength)
    return LowData(labels_a_class, tuple(accuracies), tuple(strengths_found))


def require_enough(labels: np.ndarray, labels_a_class: int) -> None:
    """Raise a `UsageError` unless every class has so many images, at least 2."""
    require_all_classes(labels)
    fewest = int(np.bincount(labels).min())
    if not 2 <= labels_a_class <= fewest:
        raise UsageError(f"expected 2 to {fewest} labels a class, as some class has no more, got {labels_a_class}")


def subset(labels: np.ndarray, labels_a_class: int, seed: int, number: int) -> np.ndarray:
    """Sorted rows of a random subset with so many images of each class."""
    rng = np.random.default_rng([seed, labels_a_class, number])
    rows = [rng.choice(np.flatnonzero(labels == one), labels_a_class, replace=False) for one in np.unique(labels)]
    return np.sort(np.concatenate(rows))


def _cross_validate(
    x: np.ndarray, y: np.ndarray, strengths: Sequence[float], seed: int, max_iter: int, tol: float
) -> float | None:
    """The strength of the best mean accuracy over the folds; one that does not converge in all of them is none."""
    folds = StratifiedKFold(min(FOLDS, int(np.bincount(y).min())), shuffle=True, random_state=seed)
    right = dict.fromkeys(sorted(strengths), 0)
    converged = dict.fromkeys(right, True)
    for kept, held in folds.split(x, y):
        scaler = StandardScaler().fit(x[kept])
        kept_x, held_x = scaler.transform(x[kept]), scaler.transform(x[held])
        classifier = new_classifier(max_iter, tol)
        for strength in right:
            converged[strength] &= fit_until_converged(classifier.set_params(C=strength), kept_x, y[kept])
            right[strength] += int((classifier.predict(held_x) == y[held]).sum())
    best = best_trial([Trial(one, 100 * right[one] / len(y), converged[one]) for one in right])
    return None if best is None else best.strength
