"""Logistic regression on features by L-BFGS, with the penalty chosen on held-out images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from igpt_tf.data.split import hold_out
from igpt_tf.errors import UserError, listed
from igpt_tf.model.bert import vote
from igpt_tf.probing.defaults import MAX_ITER
from igpt_tf.probing.features import Features

# Values of C, the inverse of the L2 penalty's strength, from the strongest penalty to the weakest.
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
# Share of each class's training images that is held out.
HOLDOUT = 0.1
# A fit has converged when no weight's gradient of the mean loss, in nats, is larger.
TOLERANCE = 1e-5
# The search ends after this many values of C in a row that are worse than the best: weaker penalties take longest.
PATIENCE = 2
# Below this many multiplications per iteration one thread is faster: on busy cores, threads wait for each other.
FEW_PRODUCTS = 5e7


@dataclass(frozen=True)
class Trial:
    """A hyperparameter's value, tried on held-out images.

    Attributes:
        hyperparameter: C of L-BFGS, the learning rate of SGD.
        accuracy: per cent of the held-out images; None if L-BFGS did not converge.
        converged: whether the solver converged.
    """

    hyperparameter: float
    accuracy: float | None
    converged: bool


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier of standardised features.

    Attributes:
        hyperparameter: the chosen C; None if no fit converged, and then there is no classifier.
        held_out: accuracy in per cent of the held-out images, by which it was chosen.
        converged: whether the last fit converged, the one to all training images.
        trials: every value of C that was tried.
        classifier: the last fit.
    """

    hyperparameter: float | None
    held_out: float | None
    converged: bool
    trials: tuple[Trial, ...]
    classifier: Any = None

    def predict(self, features: Features) -> np.ndarray:
        """Features (N, D) to classes (N,)."""
        return self.classifier.predict(in_memory(features))


def fit_linear(train_x: Features, train_y: np.ndarray, *, seed: int = 0, max_iter: int = MAX_ITER) -> LinearProbe:
    """Logistic regression by L-BFGS: C is chosen on held-out images, then the classifier is fitted to all images.

    Features are standardised by the mean and the standard deviation of the images of each fit. Only a C whose fit
    converged can be chosen.

    Args:
        train_x: features (N, D).
        train_y: labels (N,), with every class from 0 to the largest.
        seed: determines which images are held out.
        max_iter: largest number of iterations of a fit.

    Raises:
        UserError: if a class has no images, or too few to hold some out.

    Source: section 2.3 of the paper, whose linear probes are scikit-learn's.
    """
    train_x, train_y = in_memory(train_x), np.asarray(train_y)
    require_all_classes(train_y)
    trials, best, n_worse = [], 0.0, 0
    for trial in try_penalties(train_x, train_y, [hold_out(train_y, HOLDOUT, seed)], max_iter):
        trials.append(trial)
        accuracy = trial.accuracy or 0.0
        n_worse = n_worse + 1 if accuracy < best else 0
        best = max(best, accuracy)
        if n_worse == PATIENCE:
            break
    return fit_best(train_x, train_y, tuple(trials), max_iter)


def try_penalties(
    x: np.ndarray, y: np.ndarray, splits: Sequence[tuple[np.ndarray, np.ndarray]], max_iter: int
) -> Iterator[Trial]:
    """Trials from the strongest penalty on, up to the first that does not converge: weaker ones converge less easily.

    scikit-learn's `LogisticRegressionCV` does the same, but does not say which fits converged. Each of the splits has
    the rows to fit to and those to test on; its fits start at the previous one.
    """
    folds = [(new_classifier(max_iter), x[kept], y[kept], x[held], y[held]) for kept, held in splits]
    for c in CS:
        right = []
        for classifier, kept_x, kept_y, held_x, held_y in folds:
            classifier[-1].set_params(C=c)
            if not fit_until_converged(classifier, kept_x, kept_y):
                yield Trial(c, None, False)
                return
            right.append(classifier.predict(held_x) == held_y)
        yield Trial(c, percent(np.concatenate(right)), True)


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The most accurate converged trial; the first, which has the stronger penalty, of equals; None without any."""
    return max((trial for trial in trials if trial.converged), key=lambda trial: trial.accuracy or 0.0, default=None)


def fit_best(x: np.ndarray, y: np.ndarray, trials: tuple[Trial, ...], max_iter: int) -> LinearProbe:
    """A classifier fitted to all of (N, D) and (N,) with the C of the best trial."""
    best = best_trial(trials)
    if best is None:
        return LinearProbe(None, None, False, trials)
    classifier = new_classifier(max_iter, best.hyperparameter)
    converged = fit_until_converged(classifier, x, y)
    return LinearProbe(best.hyperparameter, best.accuracy, converged, trials, classifier)


def new_classifier(max_iter: int, c: float = 1.0) -> Pipeline:
    """Standardisation and a logistic regression that starts at its previous fit."""
    regression = LogisticRegression(C=c, solver="lbfgs", max_iter=max_iter, tol=TOLERANCE, warm_start=True)
    return make_pipeline(StandardScaler(), regression)


def fit_until_converged(classifier: Pipeline, x: np.ndarray, y: np.ndarray) -> bool:
    """Fit, and return whether the solver converged; if not, the classifier is of no use."""
    threads = 1 if x.size * len(np.unique(y)) < FEW_PRODUCTS else None
    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            classifier.fit(x, y)
        except ConvergenceWarning:
            return False
    return True


def evaluate_probe(
    probe: LinearProbe, views: Sequence[Features], labels: np.ndarray, n_class: int, seed: int
) -> tuple[np.ndarray | None, float | None]:
    """Majority votes (N,) over views (N, D) of the same images, and their accuracy in per cent; None if not converged.

    The seed breaks ties.
    """
    if not probe.converged:
        return None, None
    predictions = vote(np.stack([probe.predict(view) for view in views]), n_class, seed)
    return predictions, percent(predictions == labels)


def percent(right: np.ndarray) -> float:
    """The share of true values among booleans (N,), in per cent, without the rounding error of a mean."""
    return 100 * int(right.sum()) / len(right)


def require_all_classes(labels: np.ndarray, n_class: int | None = None) -> None:
    """Raise a `UserError` unless labels (N,) have at least two classes, and all up to the largest or n_class - 1."""
    found = np.unique(labels)
    if len(found) < 2:
        raise UserError(f"expected training images of at least 2 classes, got {len(found)}: give more images")
    wanted = int(found[-1]) + 1 if n_class is None else n_class
    missing = np.setdiff1d(np.arange(wanted), found)
    if len(missing):
        raise UserError(
            f"expected training images of all {wanted} classes, got none of {listed(missing)}: give more images"
        )


def in_memory(features: Features) -> np.ndarray:
    """Features (N, D) as a float64 array: in float32, L-BFGS stops before it reaches the tolerance."""
    return np.asarray(features[:], np.float64)
