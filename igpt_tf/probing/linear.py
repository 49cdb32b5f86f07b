"""Logistic regression on features, by a solver that is seen to converge."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from igpt_tf.data.split import hold_out
from igpt_tf.errors import UserError
from igpt_tf.model.bert import vote
from igpt_tf.probing.defaults import MAX_ITER

# Inverse strengths of the L2 penalty, scikit-learn's C, from strong to weak.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
HOLDOUT = 0.1
TOLERANCE = 1e-5
# After so many strengths in a row that are worse than the best, weaker ones, which take longest, are not tried.
WORSE_IN_A_ROW = 2
# Products of so few numbers are faster on one thread: where cores are busy, threads wait long for each other.
FEW_PRODUCTS = 5e7


@dataclass(frozen=True)
class Trial:
    """One strength on the images held out.

    Attributes:
        strength: C; of the SGD probe, the learning rate.
        accuracy: per cent of the images held out.
        converged: whether the solver came to its end.
    """

    strength: float
    accuracy: float
    converged: bool


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier of standardised features.

    Attributes:
        strength: the chosen C; None where no strength converged, and nothing can be predicted.
        held_out: per cent of the held-out images that it got right before the last fit.
        converged: whether the last fit did.
        trials: all that were tried.
        scaler: of the training images' mean and standard deviation.
        classifier: fitted to all of them.
    """

    strength: float | None
    held_out: float | None
    converged: bool
    trials: tuple[Trial, ...]
    scaler: StandardScaler | None = None
    classifier: LogisticRegression | None = None

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Features (N, D) to classes (N,)."""
        return self.classifier.predict(self.scaler.transform(_in_memory(features)))


def fit_linear(
    train_x: np.ndarray,
    train_y: np.ndarray,
    *,
    strengths: Sequence[float] = STRENGTHS,
    holdout: float = HOLDOUT,
    seed: int = 0,
    max_iter: int = MAX_ITER,
    tol: float = TOLERANCE,
) -> LinearProbe:
    """Logistic regression by L-BFGS; the penalty is chosen on images held out, then all are fitted with it.

    Features are standardised by the mean and the standard deviation of the images that are fitted. A strength with
    which the solver does not converge is not chosen.

    Args:
        train_x: features (N, D).
        train_y: labels (N,), every class from 0 to the greatest.
        strengths: values of C to choose from.
        holdout: how much of each class is held out.
        seed: decides which images.
        max_iter: most steps of the solver.
        tol: largest slope of the mean loss in nats, by any weight, that counts as converged.

    Raises:
        UserError: if a class has no images, or nothing can be held out.

    Source: section 2.3 of the paper, whose linear probes are scikit-learn's.
    """
    train_x, train_y = _in_memory(train_x), np.asarray(train_y)
    require_all_classes(train_y)
    kept, held = hold_out(train_y, holdout, seed)
    trials = _try(train_x[kept], train_y[kept], train_x[held], train_y[held], strengths, max_iter, tol)
    best = best_trial(trials)
    if best is None:
        return LinearProbe(None, None, False, trials)
    scaler = StandardScaler().fit(train_x)
    classifier = new_classifier(max_iter, tol).set_params(C=best.strength)
    converged = fit_until_converged(classifier, scaler.transform(train_x), train_y)
    return LinearProbe(best.strength, best.accuracy, converged, trials, scaler, classifier)


def _try(
    x: np.ndarray,
    y: np.ndarray,
    held_x: np.ndarray,
    held_y: np.ndarray,
    strengths: Sequence[float],
    max_iter: int,
    tol: float,
) -> tuple[Trial, ...]:
    """Fit with each strength, from strong to weak, each fit starting where the one before ended."""
    scaler = StandardScaler().fit(x)
    x, held_x = scaler.transform(x), scaler.transform(held_x)
    classifier = new_classifier(max_iter, tol)
    trials, worse = [], 0
    for strength in sorted(strengths):
        converged = fit_until_converged(classifier.set_params(C=strength), x, y)
        best = best_trial(trials)
        trials.append(Trial(strength, percent(classifier.predict(held_x) == held_y), converged))
        worse = worse + 1 if best is not None and trials[-1].accuracy < best.accuracy else 0
        # A weaker penalty is never easier to converge with.
        if worse == WORSE_IN_A_ROW or not converged:
            break
    return tuple(trials)


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The most accurate of those that converged; of equals the first, which has the stronger penalty."""
    return max((trial for trial in trials if trial.converged), key=lambda trial: trial.accuracy, default=None)


def new_classifier(max_iter: int = MAX_ITER, tol: float = TOLERANCE) -> LogisticRegression:
    """Logistic regression that goes on from its last fit."""
    return LogisticRegression(solver="lbfgs", max_iter=max_iter, tol=tol, warm_start=True)


def fit_until_converged(classifier: LogisticRegression, x: np.ndarray, y: np.ndarray) -> bool:
    """Fit, and say whether the solver converged."""
    threads = 1 if x.size * len(np.unique(y)) < FEW_PRODUCTS else None
    with threadpool_limits(threads), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        classifier.fit(x, y)
    told = False
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            told = True
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return not told and int(classifier.n_iter_.max()) < classifier.max_iter


def judge(
    predict: Callable[[np.ndarray], np.ndarray],
    looks: Sequence[np.ndarray],
    labels: np.ndarray,
    n_class: int,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """What is predicted of images (N,), and how much of it is right, in per cent.

    Args:
        predict: features (N, D) to classes (N,).
        looks: features of the images, once or once for each of several masks; the class that most find is the answer.
        labels: (N,).
        n_class: number of classes.
        seed: decides between classes that equally many find.
    """
    predictions = np.stack([predict(look) for look in looks])
    answers = vote(predictions, n_class, seed)
    return answers, percent(answers == labels)


def percent(right: np.ndarray) -> float:
    """How many of (N,) booleans are true, in per cent, without the rounding of a mean."""
    return 100 * int(right.sum()) / len(right)


def require_all_classes(labels: np.ndarray, n_class: int | None = None) -> None:
    """Refuse labels (N,) of a single class, or without images of some class from 0 to the greatest, or to n_class - 1.

    Raises:
        UserError: for these.
    """
    found = np.unique(labels)
    if len(found) < 2:
        raise UserError(f"expected images of at least 2 classes to fit to, found {len(found)}: give more images")
    wanted = int(found[-1]) + 1 if n_class is None else n_class
    missing = np.setdiff1d(np.arange(wanted), found)
    if len(missing):
        listed = ", ".join(map(str, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise UserError(f"expected images of all {wanted} classes to fit to, found none of {listed}: give more images")


def _in_memory(features: np.ndarray) -> np.ndarray:
    """Features (N, D) as a float64 array: in float32 the solver stops short of its tolerance, and calls it the end."""
    return np.asarray(features[:], np.float64)
