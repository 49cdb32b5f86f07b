"""The majority decides; between equals, chance does, and the seed decides chance."""

import numpy as np
import pytest

from igpt_tf.errors import UserError
from igpt_tf.model.bert import vote


def test_the_majority_decides_whatever_the_seed():
    predictions = np.array([[0, 3, 2], [1, 3, 2], [1, 3, 0], [1, 0, 2], [0, 1, 1]])
    for seed in range(20):
        assert vote(predictions, 4, seed).tolist() == [1, 3, 2]


def test_one_vote_is_the_answer():
    assert vote(np.array([[2, 0, 1]]), 3).tolist() == [2, 0, 1]


def test_ties_are_broken_at_random_between_the_equals_alone():
    predictions = np.repeat([[0], [0], [2], [2], [1]], 6000, axis=1)
    found = np.bincount(vote(predictions, 4, seed=3), minlength=4)
    assert found[[1, 3]].tolist() == [0, 0]
    # Five standard deviations of a fair coin thrown 6,000 times are 194.
    assert abs(found[0] - 3000) < 194


def test_the_seed_decides_ties():
    predictions = np.repeat([[0], [1]], 64, axis=1)
    first, again, other = (vote(predictions, 2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(vote(predictions[:, :9], 2, 1), first[:9])


@pytest.mark.parametrize(
    ("predictions", "match"),
    [
        (np.zeros((0, 3), int), "votes, N"),
        (np.zeros(3, int), "votes, N"),
        (np.zeros((2, 3)), "float64"),
        (np.array([[0, 3]]), "classes 0 to 2, got 0 to 3"),
        (np.array([[-1, 2]]), "got -1 to 2"),
    ],
)
def test_votes_that_mean_nothing_are_refused(predictions, match):
    with pytest.raises(UserError, match=match):
        vote(predictions, 3)
