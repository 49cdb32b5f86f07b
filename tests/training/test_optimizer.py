"""The optimisers do what their papers say, on both backends; the schedules end where they should."""

import dataclasses

import keras
import numpy as np
import pytest

from examples import SETTINGS, StopAfter, new_model, randomise, stripes
from igpt_tf.errors import UsageError, UserError
from igpt_tf.training.checkpoint import RunFolder
from igpt_tf.training.optimizer import MatrixMuon, new_optimizer, schedule_of
from igpt_tf.training.pretrain import pretrain
from igpt_tf.training.settings import scaled_beta2

pytestmark = pytest.mark.both_backends
MUON = dataclasses.replace(SETTINGS, optimizer="muon")


def orthonormal(matrix):
    """Five steps of Newton and Schulz towards the nearest orthonormal matrix, in NumPy."""
    matrix = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        square = matrix @ matrix.T
        matrix = 3.4445 * matrix + (-4.7750 * square + 2.0315 * square @ square) @ matrix
    return matrix


def test_muon_takes_projections_for_matrices_and_leaves_the_rest_to_adam():
    model = randomise(new_model())
    before = {variable.path: np.array(variable) for variable in model.trainable_variables}
    rng = np.random.default_rng(3)
    gradients = [rng.normal(size=tuple(variable.shape)).astype("float32") for variable in model.trainable_variables]
    optimizer = new_optimizer(dataclasses.replace(MUON, schedule="constant"), n_steps=10, warmup=0)
    optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], model.trainable_variables)
    matrices = 0
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        change = np.array(variable) - before[variable.path]
        if any(name in variable.path for name in ("_proj", "c_fc")):
            matrices += 1
            matrix = gradient.reshape(-1, gradient.shape[-1]).astype("float64")
            # The momentum begins at 0, so that with Nesterov's correction the update has the gradient's direction.
            expected = -SETTINGS.learning_rate * 0.2 * max(matrix.shape) ** 0.5 * orthonormal(matrix)
            np.testing.assert_allclose(change, expected.reshape(gradient.shape), rtol=2e-3, atol=2e-5)
        else:
            np.testing.assert_allclose(change, -SETTINGS.learning_rate * np.sign(gradient), rtol=1e-2)
    assert matrices == 6 * model.config.n_layer


def test_nothing_decays_unless_it_is_asked_for():
    for weight_decay, adam_weight_decay in ((None, None), (0.1, None), (None, 0.1)):
        model = randomise(new_model())
        before = {variable.path: np.array(variable) for variable in model.trainable_variables}
        optimizer = MatrixMuon(0.5, weight_decay=weight_decay, adam_weight_decay=adam_weight_decay)
        zeros = [keras.ops.zeros(variable.shape) for variable in model.trainable_variables]
        optimizer.apply(zeros, model.trainable_variables)
        for variable in model.trainable_variables:
            is_matrix = any(name in variable.path for name in ("_proj", "c_fc"))
            kept = 1 - 0.5 * ((weight_decay if is_matrix else adam_weight_decay) or 0.0)
            np.testing.assert_allclose(np.array(variable), kept * before[variable.path], rtol=1e-6)


def test_a_muon_optimizer_is_saved_with_its_model(tmp_path):
    optimizer = new_optimizer(dataclasses.replace(MUON, schedule="wsd", accumulate=2), n_steps=10, warmup=2)
    copy = MatrixMuon.from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config() and copy.weight_decay is None


@pytest.mark.slow
def test_a_run_with_muon_that_died_resumes_exactly(tmp_path):
    whole = new_model()
    expected = pretrain(whole, stripes(), MUON, tmp_path / "whole")
    assert expected[-1]["loss"] < expected[0]["loss"]
    with pytest.raises(KeyboardInterrupt):
        pretrain(new_model(), stripes(), MUON, tmp_path / "cut", callbacks=[StopAfter(6)])
    resumed = new_model()
    found = pretrain(resumed, stripes(), MUON, tmp_path / "cut")
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in expected], rtol=1e-6)
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), atol=1e-6)


def test_the_second_decay_remembers_as_many_images_as_the_papers():
    assert scaled_beta2(128) == scaled_beta2(512) == 0.95
    # The half-life in images is the batch size times the half-life in steps.
    for batch_size in (4, 8, 64):
        half_life = batch_size * np.log(0.5) / np.log(scaled_beta2(batch_size))
        assert half_life == pytest.approx(128 * np.log(0.5) / np.log(0.95))


def test_a_run_keeps_the_second_decay_that_it_began_with(tmp_path):
    short = dataclasses.replace(SETTINGS, epochs=1, save_every=1)
    pretrain(new_model(), stripes(), dataclasses.replace(short, beta2=0.9), tmp_path, callbacks=[])
    assert RunFolder(tmp_path).identity()["beta2"] == 0.9
    pretrain(new_model(), stripes(), short, tmp_path)
    with pytest.raises(UserError, match=r"beta2 was 0\.9 and is now 0\.95"):
        pretrain(new_model(), stripes(), dataclasses.replace(short, beta2=0.95), tmp_path)


def test_the_learning_rate_warms_up_stays_and_falls():
    schedule = schedule_of("wsd", 2.0, warmup=4, n_steps=50)
    rates = [float(schedule(step)) for step in (0, 2, 4, 20, 40, 45, 50)]
    assert rates == pytest.approx([0, 1, 2, 2, 2, 1, 0])
    assert float(schedule_of("wsd", 2.0, warmup=0, n_steps=3)(0)) == 2.0
    copy = type(schedule).from_config(schedule.get_config())
    assert float(copy(45)) == pytest.approx(1.0)


WSD = dataclasses.replace(SETTINGS, schedule="wsd", steps=10, save_every=2)


@pytest.mark.slow
def test_a_run_is_prolonged_before_its_learning_rate_falls(tmp_path):
    longer = dataclasses.replace(WSD, steps=20)
    expected = pretrain(new_model(), stripes(), longer, tmp_path / "long")
    with pytest.raises(KeyboardInterrupt):
        pretrain(new_model(), stripes(), WSD, tmp_path / "short", callbacks=[StopAfter(9)])
    said = []
    found = pretrain(new_model(), stripes(), longer, RunFolder(tmp_path / "short", warn=said.append))
    assert len(found) == 10 and "continuing from step 8 with another length" in str(said)
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in expected], rtol=1e-5)


def test_a_run_is_not_prolonged_once_its_learning_rate_falls(tmp_path):
    pretrain(new_model(), stripes(), WSD, tmp_path)
    with pytest.raises(UserError, match="learning rate has been falling since step 8 of 10"):
        pretrain(new_model(), stripes(), dataclasses.replace(WSD, steps=20), tmp_path)
    with pytest.raises(UserError, match="warmup_steps was 3 and is now 4"):
        pretrain(new_model(), stripes(), dataclasses.replace(WSD, steps=20, warmup_steps=4), tmp_path)


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="expected one of adam, muon, got 'sgd'"):
        dataclasses.replace(SETTINGS, optimizer="sgd")
    with pytest.raises(UsageError, match="expected one of cosine, constant, wsd, got 'linear'"):
        dataclasses.replace(SETTINGS, schedule="linear")
