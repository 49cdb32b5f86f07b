"""Logistic regression with a penalty chosen on held-out images, and never a number from a solver that gave up."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from examples import clouds
from igpt_tf.data.split import hold_out
from igpt_tf.errors import UserError
from igpt_tf.probing import linear
from igpt_tf.probing.linear import (
    Trial,
    best_trial,
    evaluate_probe,
    fit_linear,
    fit_until_converged,
    require_all_classes,
)

N_CLASS = 3


def test_it_finds_the_classes_whatever_the_units():
    probe = fit_linear(*clouds(600))
    x, y = clouds(300, seed=1)
    assert probe.converged
    assert (probe.predict(x) == y).mean() > 0.97
    assert probe.held_out > 95


def test_the_last_fit_is_of_all_images_standardised():
    x, y = clouds(90, distance=0.5)
    probe = fit_linear(x, y)
    mean, std = x.astype("f8").mean(0), x.astype("f8").std(0)
    plain = LogisticRegression(C=probe.hyperparameter, max_iter=10_000, tol=1e-8).fit(
        (x - mean) / np.where(std, std, 1), y
    )
    np.testing.assert_allclose(probe.classifier[-1].coef_, plain.coef_, atol=2e-3)


def test_the_penalty_is_chosen_on_images_held_out():
    x, y = clouds(200, distance=0.3)
    rng = np.random.default_rng(3)
    # As many coins as images: without a penalty they are learned by heart.
    x = np.concatenate([x, rng.normal(size=(200, 200)).astype("f4")], axis=1)
    probe = fit_linear(x, y)
    accuracies = {trial.hyperparameter: trial.accuracy for trial in probe.trials}
    assert probe.held_out == max(accuracies.values()) == accuracies[probe.hyperparameter]
    assert probe.hyperparameter == min(strength for strength, one in accuracies.items() if one == probe.held_out)


def test_weaker_penalties_are_left_out_once_they_do_harm(monkeypatch):
    accuracies = [50, 60, 59, 60, 59, 58, 70]
    trials = [Trial(c, accuracy, True) for c, accuracy in zip(linear.CS, accuracies, strict=True)]
    monkeypatch.setattr(linear, "try_penalties", lambda *_: iter(trials))
    probe = fit_linear(*clouds(60))
    assert probe.trials == tuple(trials[:6])
    assert (probe.hyperparameter, probe.held_out) == (linear.CS[1], 60)


def test_what_did_not_converge_is_not_chosen():
    trials = [Trial(0.1, 70.0, True), Trial(1, 80.0, True), Trial(10, None, False), Trial(100, 80.0, True)]
    assert best_trial(trials) == trials[1]
    assert best_trial(trials[2:3]) is None


def test_a_solver_that_gives_up_gives_no_number(recwarn):
    x, y = clouds(300, distance=0.5)
    probe = fit_linear(x, y, max_iter=2)
    assert not probe.converged and probe.hyperparameter is None and probe.held_out is None
    assert [(trial.hyperparameter, trial.converged) for trial in probe.trials] == [(linear.CS[0], False)]
    assert not recwarn.list


def test_a_last_fit_that_gives_up_is_told(monkeypatch):
    x, y = clouds(300, distance=0.5)
    monkeypatch.setattr(linear, "fit_until_converged", lambda c, x, y: fit_until_converged(c, x, y) and len(x) < 300)
    probe = fit_linear(x, y)
    assert probe.hyperparameter is not None and not probe.converged


def test_the_seed_decides_what_is_held_out():
    labels = np.repeat(np.arange(4), [100, 50, 10, 1])
    kept, held = hold_out(labels, 0.1, 5)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(161))
    assert np.bincount(labels[held], minlength=4).tolist() == [10, 5, 1, 0]
    np.testing.assert_array_equal(hold_out(labels, 0.1, 5)[1], held)
    assert not np.array_equal(hold_out(labels, 0.1, 6)[1], held)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.array([0, 2] * 20), "all 3 classes, got none of 1: give more"),
        (np.array([0, 9] * 20), "got none of 1, 2, 3, 4, 5 and 3 more: give more"),
        (np.zeros(40, int), "at least 2 classes, got 1"),
        (np.array([0, 1]), "hold out 10 % and keep some of every class, got 2"),
    ],
)
def test_too_few_images(labels, match):
    with pytest.raises(UserError, match=match):
        fit_linear(np.random.default_rng(0).normal(size=(len(labels), 2)), labels)


def test_classes_that_are_known_to_exist_must_be_there():
    require_all_classes(np.array([0, 1, 2]), 3)
    with pytest.raises(UserError, match="all 4 classes, got none of 3"):
        require_all_classes(np.array([0, 1, 2]), 4)


def test_two_classes():
    x, y = clouds(300)
    x, y = x[y < 2], y[y < 2]
    assert (fit_linear(x, y).predict(x) == y).mean() > 0.95


def test_several_views_vote():
    class Probe(linear.LinearProbe):
        def predict(self, features):
            return features

    views = [np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]), np.array([1, 1, 1, 0])]
    labels = np.array([0, 1, 1, 0])
    predictions, accuracy = evaluate_probe(Probe(1.0, 50.0, True, ()), views, labels, 3, 0)
    assert (predictions.tolist(), accuracy) == ([0, 1, 1, 2], 75)
    predictions, accuracy = evaluate_probe(Probe(1.0, 50.0, True, ()), views[:1], labels, 3, 0)
    assert (predictions.tolist(), accuracy) == (views[0].tolist(), 50)
    assert evaluate_probe(linear.LinearProbe(None, None, False, ()), views, labels, 3, 0) == (None, None)
