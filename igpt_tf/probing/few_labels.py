"""Linear probes fitted to a few labels per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold

from igpt_tf.errors import UsageError
from igpt_tf.probing.defaults import MAX_ITER, SUBSETS
from igpt_tf.probing.features import Features
from igpt_tf.probing.linear import evaluate_probe, fit_best, in_memory, require_all_classes, try_penalties

FOLDS = 4


@dataclass(frozen=True)
class LowData:
    """Test accuracies of probes that were fitted to random subsets of the training images.

    Attributes:
        labels_a_class: number of labels per class.
        accuracies: per cent of the test images, one per subset; None where the last fit did not converge.
        strengths: the chosen C, one per subset; None where no fit converged.
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
        """Mean of `converged`; None without any."""
        return float(np.mean(self.converged)) if self.converged else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation of `converged`; None for fewer than two."""
        return float(np.std(self.converged, ddof=1)) if len(self.converged) > 1 else None


def low_data(
    train_x: Features,
    train_y: np.ndarray,
    test_views: Sequence[Features],
    test_y: np.ndarray,
    labels_a_class: int,
    *,
    n_subsets: int = SUBSETS,
    seed: int = 0,
    max_iter: int = MAX_ITER,
) -> LowData:
    """Fit logistic regressions to random subsets with equally many training images per class.

    C is chosen by cross-validation within the subset, so that no other label is used.

    Args:
        train_x: features (N, D).
        train_y: labels (N,).
        test_views: features (M, D) of the test images, one array for each of several masks, which vote.
        test_y: labels (M,) of the test images.
        labels_a_class: number of labels per class, at least 2.
        n_subsets: number of subsets.
        seed: determines the subsets; subset i does not depend on their number.
        max_iter: largest number of iterations of a fit.

    Raises:
        UserError: if a class has too few images.

    Source: section 4.7 of the paper.
    """
    train_y = np.asarray(train_y)
    require_enough(train_y, labels_a_class)
    folds = StratifiedKFold(min(FOLDS, labels_a_class), shuffle=True, random_state=seed)
    accuracies, strengths = [], []
    for number in range(n_subsets):
        rows = subset(train_y, labels_a_class, seed, number)
        x, y = in_memory(train_x[rows]), train_y[rows]
        fitted = fit_best(x, y, tuple(try_penalties(x, y, list(folds.split(x, y)), max_iter)), max_iter)
        _, accuracy = evaluate_probe(fitted, test_views, test_y, len(np.unique(train_y)), seed)
        accuracies.append(accuracy)
        strengths.append(fitted.hyperparameter)
    return LowData(labels_a_class, tuple(accuracies), tuple(strengths))


def require_enough(labels: np.ndarray, labels_a_class: int) -> None:
    """Raise a `UsageError` unless every class has at least this many images, at least 2."""
    require_all_classes(labels)
    fewest = int(np.bincount(labels).min())
    if not 2 <= labels_a_class <= fewest:
        raise UsageError(
            f"expected 2 to {fewest} labels per class, as the smallest class has {fewest} images, got {labels_a_class}"
        )


def subset(labels: np.ndarray, labels_a_class: int, seed: int, number: int) -> np.ndarray:
    """Sorted rows of a random subset with this many images per class."""
    rng = np.random.default_rng([seed, labels_a_class, number])
    rows = [rng.choice(np.flatnonzero(labels == one), labels_a_class, replace=False) for one in np.unique(labels)]
    return np.sort(np.concatenate(rows))
