"""A probe of every layer: fitted to training images alone, judged on test images, BERT's answers put to the vote."""

import functools

import numpy as np
import pytest

import igpt_tf as igpt
from examples import labelled_pictures as pictures
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.errors import UserError
from igpt_tf.model.bert import vote
from igpt_tf.probing.cache import FeatureCache
from igpt_tf.probing.defaults import MAX_ITER
from igpt_tf.probing.features import SideBySide, extract_features
from igpt_tf.probing.few_labels import low_data
from igpt_tf.probing.linear import LinearProbe, fit_linear
from igpt_tf.probing.protocol import LayerResult, ProbeResult, probe
from igpt_tf.probing.sgd import fit_sgd

N_CLASS = 3


TRAIN, TEST = pictures(300, 0), pictures(60, 1)


@pytest.mark.slow
def test_every_layer_is_judged_as_by_hand(tiny_model):
    told = []
    result = igpt.probe(tiny_model, TRAIN, TEST, concatenate=[0, 2], seed=4, tell=told.append)
    assert tuple(told) == result.results
    assert [one.name for one in result.results] == ["0", "1", "2", "0+2"]
    train_x, test_x = extract_features(tiny_model, TRAIN[0]), extract_features(tiny_model, TEST[0])
    train_x = [*train_x, np.concatenate([train_x[0], train_x[2]], axis=1)]
    test_x = [*test_x, np.concatenate([test_x[0], test_x[2]], axis=1)]
    for one, x, look in zip(result.results, train_x, test_x, strict=True):
        by_hand = fit_linear(x, TRAIN[1], seed=4)
        assert (one.hyperparameter, one.held_out) == (by_hand.hyperparameter, by_hand.held_out)
        np.testing.assert_array_equal(one.answers, by_hand.predict(look))
        assert one.accuracy == pytest.approx(100 * (one.answers == TEST[1]).mean())
    # Three classes: by chance it would be 33 %.
    assert result.best.accuracy > 60
    confusion = result.confusion()
    assert confusion.sum() == 60 and confusion.sum(axis=1).tolist() == np.bincount(TEST[1]).tolist()
    assert 100 * np.trace(confusion) / 60 == pytest.approx(result.best.accuracy)


def test_the_best_layer_is_chosen_without_the_test_images():
    results = [
        LayerResult((0,), 1.0, 70.0, 99.0, True, (), None),
        LayerResult((1,), 1.0, 80.0, 50.0, True, (), None),
        LayerResult((2,), 1.0, 80.0, 60.0, True, (), None),
        LayerResult((3,), 1.0, 90.0, None, False, (), None),
    ]
    assert ProbeResult(tuple(results), (), TEST[1], N_CLASS).best is results[1]
    assert ProbeResult(tuple(results[3:]), (), TEST[1], N_CLASS).best is None


@pytest.mark.slow
def test_test_images_teach_nothing(tiny_model):
    once = probe(tiny_model, TRAIN, TEST, layers=[1])
    # Two full batches of 8, so that the features come from the same program on the same shapes.
    other = probe(tiny_model, TRAIN, (TEST[0][:16], TEST[1][:16]), layers=[1])
    assert [one.trials for one in once.results] == [one.trials for one in other.results]
    np.testing.assert_array_equal(once.results[0].answers[:16], other.results[0].answers)


@pytest.mark.slow
def test_bert_answers_by_vote_over_masks(bert_model):
    result = probe(bert_model, TRAIN, TEST, layers=[2], bert_masks=5, mask_probability=0.6, seed=3)
    train_x = extract_features(bert_model, TRAIN[0], [2], mask_seed=3, mask_probability=0.6)[0]
    fitted = fit_linear(train_x, TRAIN[1], seed=3)
    looks = [extract_features(bert_model, TEST[0], [2], mask_seed=4 + i, mask_probability=0.6)[0] for i in range(5)]
    predictions = np.stack([fitted.predict(look) for look in looks])
    assert (predictions != predictions[0]).any()
    np.testing.assert_array_equal(result.results[0].answers, vote(predictions, N_CLASS, 3))
    seen = probe(bert_model, TRAIN, TEST, layers=[2], seed=3)
    by_hand = fit_linear(extract_features(bert_model, TRAIN[0], [2])[0], TRAIN[1], seed=3)
    np.testing.assert_array_equal(
        seen.results[0].answers, by_hand.predict(extract_features(bert_model, TEST[0], [2])[0])
    )


@pytest.mark.slow
def test_few_labels_on_the_best_layer(tiny_model):
    result = probe(tiny_model, TRAIN, TEST, labels_a_class=[4, 30], n_subsets=3, seed=1)
    # All layers, as in the probe: an extractor of one layer is another program, which may round otherwise.
    layer = result.best.layers[0]
    x, look = (extract_features(tiny_model, tokens)[layer] for tokens in (TRAIN[0], TEST[0]))
    by_hand = low_data(x, TRAIN[1], [look], TEST[1], 4, n_subsets=3, seed=1)
    assert result.low_data[0] == by_hand
    assert [few.labels_a_class for few in result.low_data] == [4, 30]
    assert result.low_data[0].mean < result.low_data[1].mean


@pytest.mark.both_backends
@pytest.mark.slow
def test_sgd_instead_from_features_on_disk(tiny_model, tmp_path):
    fit = functools.partial(fit_sgd, learning_rates=(0.03,), epochs=10, batch_size=32)
    exact = probe(tiny_model, TRAIN, TEST, layers=[1], concatenate=[0, 1])
    result = probe(tiny_model, TRAIN, TEST, layers=[1], concatenate=[0, 1], fit=fit, cache=FeatureCache(tmp_path))
    for one, other in zip(result.results, exact.results, strict=True):
        assert one.hyperparameter == 0.03 and abs(one.accuracy - other.accuracy) < 12


@pytest.mark.slow
def test_a_cache_changes_nothing(tiny_model, tmp_path):
    cache = FeatureCache(tmp_path)
    for _ in range(2):
        found = probe(tiny_model, TRAIN, TEST, cache=cache)
        for one, other in zip(found.results, probe(tiny_model, TRAIN, TEST).results, strict=True):
            np.testing.assert_array_equal(one.answers, other.answers)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_a_layer_that_did_not_converge_has_no_accuracy(tiny_model):
    # Layers are fitted in the order asked for: layer 0, then layer 1, which gets a single step.
    max_iters = iter([MAX_ITER, 1])

    def fit(x, y, seed):
        return fit_linear(x, y, seed=seed, max_iter=next(max_iters))

    result = probe(tiny_model, TRAIN, TEST, layers=[0, 1], fit=fit)
    assert [one.converged for one in result.results] == [True, False]
    assert (result.results[1].accuracy, result.results[1].answers) == (None, None)
    assert result.best is result.results[0]
    nothing = probe(tiny_model, TRAIN, TEST, layers=[0], labels_a_class=[4], fit=lambda x, y, seed: NOTHING)
    assert (nothing.best, nothing.confusion(), nothing.low_data) == (None, None, ())


NOTHING = LinearProbe(None, None, False, ())


def test_side_by_side():
    parts = [np.arange(6).reshape(3, 2), np.arange(3).reshape(3, 1)]
    both = SideBySide(parts)
    assert both.shape == (3, 3) and len(both) == 3
    assert both[:].tolist() == [[0, 1, 0], [2, 3, 1], [4, 5, 2]]
    assert both[np.array([2, 0])].tolist() == [[4, 5, 2], [0, 1, 0]]


@pytest.mark.parametrize(
    ("train", "test", "options", "match"),
    [
        (TRAIN, (TEST[0], TEST[1] + 1), {}, "test images: expected labels from 0 to 2, got 3"),
        (TRAIN, (TEST[0], TEST[1] - 1), {}, "test images: expected labels from 0, got -1"),
        (TRAIN, (TEST[0], TEST[1][:-1]), {}, r"for each of 60 images, got labels int64 \(59,\)"),
        (TRAIN, (TEST[0], TEST[1] / 1), {}, r"got labels float64 \(60,\)"),
        ((TRAIN[0], TRAIN[1] * 2), TEST, {}, "all 5 classes, got none of 1, 3"),
        ((TRAIN[0], TRAIN[1] * 0), (TEST[0], TEST[1] * 0), {}, "at least 2 classes, got 1"),
        (TRAIN, TEST, {"layers": [3]}, "expected layers from 0 to 2, got 3"),
        (TRAIN, TEST, {"concatenate": [-1, 1]}, "expected layers from 0 to 2, got -1"),
        (TRAIN, TEST, {"bert_masks": 5}, "expected no `bert_masks`, as this model is autoregressive, got 5"),
        (TRAIN, TEST, {"bert_masks": -1}, "expected `bert_masks` as a whole number of at least 0, got -1"),
        (TRAIN, TEST, {"labels_a_class": [4, 101]}, "expected 2 to 100 labels per class"),
    ],
)
def test_mistakes_are_told_before_the_work(tiny_model, monkeypatch, train, test, options, match):
    monkeypatch.setattr("igpt_tf.probing.protocol.extract_with", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(UserError, match=match) as caught:
        probe(tiny_model, train, test, **options)
    assert "\n" not in str(caught.value)


def test_classes_must_have_the_same_names(tiny_model):
    train, test = LabelledTokens("a", *TRAIN, ("x", "y", "z")), LabelledTokens("b", *TEST, ("x", "z", "y"))
    with pytest.raises(UserError, match="b: expected the classes x, y, z, got x, z, y"):
        probe(tiny_model, train, test)
