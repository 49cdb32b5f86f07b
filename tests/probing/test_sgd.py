"""SGD finds what L-BFGS finds, from features that lie on disk, with a learning rate chosen on held-out images."""

import numpy as np
import pytest

from examples import clouds
from igpt_tf.errors import UserError
from igpt_tf.probing.linear import fit_linear
from igpt_tf.probing.sgd import _Batches, fit_sgd

pytestmark = pytest.mark.both_backends


@pytest.mark.slow
def test_it_finds_what_the_exact_solver_finds(tmp_path):
    x, y = clouds(900, distance=0.8)
    np.save(tmp_path / "x.npy", x)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    test_x, test_y = clouds(600, seed=1, distance=0.8)
    exact = (fit_linear(x, y).predict(test_x) == test_y).mean()
    probe = fit_sgd(on_disk, y, learning_rates=(0.01, 0.1), epochs=5, batch_size=32)
    assert probe.converged and [trial.hyperparameter for trial in probe.trials] == [0.01, 0.1]
    assert abs((probe.predict(test_x) == test_y).mean() - exact) < 0.03
    assert probe.held_out == max(trial.accuracy for trial in probe.trials)
    again = fit_sgd(on_disk, y, learning_rates=(0.01, 0.1), epochs=5, batch_size=32)
    np.testing.assert_array_equal(again.predict(test_x), probe.predict(test_x))


def test_every_image_once_a_pass_in_batches_of_one_size():
    x = np.arange(23.0)[:, None]
    batches = _Batches(x, np.arange(23), np.arange(3, 23), 8, seed=0)
    passes = []
    for _ in range(2):
        rows = np.concatenate([batches[i][1] for i in range(len(batches))])
        assert len(rows) == 24
        assert sorted(rows[:20]) == list(range(3, 23))
        passes.append(rows)
        batches.on_epoch_end()
    assert not np.array_equal(*passes)
    np.testing.assert_array_equal(batches[1][0][:, 0], batches[1][1])


def test_a_loss_that_is_no_number_is_no_result():
    x, y = clouds(90)
    probe = fit_sgd(x, y, learning_rates=(1e38, 3e38), epochs=3, batch_size=8)
    assert (probe.converged, probe.hyperparameter, probe.held_out) == (False, None, None)


def test_labels_are_checked():
    with pytest.raises(UserError, match="got none of 1"):
        fit_sgd(np.zeros((40, 2)), np.array([0, 2] * 20))
