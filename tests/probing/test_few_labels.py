"""Subsets hold so many labels of each class, chance decides them, and fits that gave up are in no mean."""

import numpy as np
import pytest

from examples import clouds
from igpt_tf.errors import UserError
from igpt_tf.probing.few_labels import LowData, low_data, subset

LABELS = np.repeat(np.arange(4), [9, 30, 5, 12])


def test_equally_many_of_each_class():
    rows = subset(LABELS, 5, 0, 0)
    assert np.bincount(LABELS[rows]).tolist() == [5, 5, 5, 5]
    assert len(np.unique(rows)) == 20
    np.testing.assert_array_equal(subset(LABELS, 5, 0, 0), rows)
    for other in ((LABELS, 5, 1, 0), (LABELS, 5, 0, 1)):
        assert not np.array_equal(subset(*other), rows)


def test_more_labels_tell_more():
    train, test = clouds(300, distance=0.5), clouds(300, seed=1, distance=0.5)
    few, many = (low_data(*train, test[:1], test[1], k) for k in (2, 60))
    assert len(few.accuracies) == 5 and None not in few.accuracies
    assert few.mean < many.mean - 3
    assert few.std > many.std > 0
    assert few.mean == pytest.approx(np.mean(few.accuracies)) and few.std == pytest.approx(
        np.std(few.accuracies, ddof=1)
    )
    assert low_data(*train, test[:1], test[1], 2, n_subsets=2).accuracies == few.accuracies[:2]


def test_what_did_not_converge_is_in_no_mean():
    result = LowData(4, (70.0, None, 80.0), (1.0, None, 1.0))
    assert (result.mean, round(result.std, 3)) == (75, 7.071)
    alone = LowData(4, (70.0, None), (1.0, None))
    assert (alone.mean, alone.std) == (70, None)
    assert LowData(4, (None,), (None,)).mean is None
    x, y = clouds(90, distance=0.3)
    given_up = low_data(x, y, [x], y, 8, n_subsets=1, max_iter=1)
    assert (given_up.accuracies, given_up.strengths, given_up.mean) == ((None,), (None,), None)


@pytest.mark.parametrize("k", [1, 6])
def test_too_few_images(k):
    with pytest.raises(
        UserError, match=f"expected 2 to 5 labels per class, as the smallest class has 5 images, got {k}$"
    ):
        low_data(np.zeros((56, 2)), LABELS, [np.zeros((1, 2))], np.zeros(1), k)
