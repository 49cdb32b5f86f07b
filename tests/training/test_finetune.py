"""Fine-tuning: the classes are learned, the best weights are kept, a stopped run goes on exactly."""

import dataclasses

import keras
import numpy as np
import pytest

from examples import TINY, StopAfter, randomise
from igpt_tf.backend.devices import device_scope, list_cpus
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.errors import UsageError, UserError
from igpt_tf.model import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.scoring.classes import classify
from igpt_tf.training.best import best_interval
from igpt_tf.training.finetune import finetune, new_classifier
from igpt_tf.training.settings import FinetuneSettings
from igpt_tf.weights.presets import open_preset

pytestmark = pytest.mark.both_backends
SETTINGS = FinetuneSettings(
    epochs=3, batch_size=4, learning_rate=1e-2, warmup_steps=2, save_every=4, seed=5, patience=9
)
CLASSES = ("dark", "light", "mixed")


def images(n_images=12, seed=0, n_class=3):
    """Images of low, of high and of all colours."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_images, dtype="int32") % n_class
    low, high = np.array([0, 6, 0])[labels, None], np.array([5, 11, 11])[labels, None]
    return LabelledTokens("images", rng.integers(low, high, (n_images, TINY.n_tokens)), labels, CLASSES[:n_class])


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """The preset to begin with, autoregressive."""
    folder = tmp_path_factory.mktemp("preset")
    randomise(ImageGPT(TINY), scale=0.1).save_to_preset(folder)
    return open_preset(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Likewise a BERT model."""
    folder = tmp_path_factory.mktemp("bert")
    randomise(ImageGPT(dataclasses.replace(TINY, bert=True)), scale=0.1).save_to_preset(folder)
    return open_preset(folder)


def tuned(preset, folder, callbacks=(), **changes):
    """The history of a run, and its classifier."""
    settings = dataclasses.replace(SETTINGS, **changes)
    keras.utils.set_random_seed(0)
    classifier = new_classifier(preset, 3, CLASSES)
    history = finetune(classifier, images(), settings, folder, images(9, seed=1), list(callbacks))
    return history, classifier


def column(history, name):
    return [logs[name] for logs in history]


@pytest.mark.slow
def test_classes_are_learned_and_their_names_kept(preset, tmp_path):
    history, classifier = tuned(preset, tmp_path / "run", epochs=20, save_every=12, augment=())
    assert max(column(history, "val_accuracy")) > 0.8
    classifier.save_to_preset(tmp_path / "preset")
    loaded = ImageGPTClassifier.from_preset(tmp_path / "preset")
    assert loaded.classes == CLASSES
    test = images(30, seed=2)
    found = keras.ops.convert_to_numpy(loaded(test.tokens)).argmax(1)
    assert (found == test.labels).mean() > 0.8


@pytest.mark.slow
def test_a_run_that_died_goes_on_exactly(preset, tmp_path):
    expected, whole = tuned(preset, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tuned(preset, tmp_path / "cut", [StopAfter(6)])
    found, resumed = tuned(preset, tmp_path / "cut")
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(column(found, name), column(expected, name), rtol=1e-6)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}], ids=str)
@pytest.mark.slow
def test_two_devices_train_like_one(preset, tmp_path, changes):
    expected, _ = tuned(preset, tmp_path / "one", **changes)
    keras.utils.set_random_seed(0)
    with device_scope(list_cpus()[:2]):
        classifier = new_classifier(preset, 3, CLASSES)
    # As the command line does, out of the scope.
    settings = dataclasses.replace(SETTINGS, **changes)
    found = finetune(classifier, images(), settings, tmp_path / "two", images(9, seed=1))
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(column(found, name), column(expected, name), rtol=1e-5)
    assert column(found, "val_accuracy") == pytest.approx(column(expected, "val_accuracy"))


@pytest.mark.parametrize("changes", [{"lora_rank": 2}, {"freeze": 1, "ema": 0.9}], ids=str)
@pytest.mark.slow
def test_what_is_left_as_it_is_goes_on_exactly_too(preset, tmp_path, changes):
    expected, _ = tuned(preset, tmp_path / "whole", **changes)
    with pytest.raises(KeyboardInterrupt):
        tuned(preset, tmp_path / "cut", [StopAfter(6)], **changes)
    found, _ = tuned(preset, tmp_path / "cut", **changes)
    np.testing.assert_allclose(column(found, "loss"), column(expected, "loss"), rtol=1e-6)


@pytest.mark.slow
def test_the_weights_are_those_of_the_best_accuracy(preset, tmp_path):
    history, classifier = tuned(preset, tmp_path, epochs=12, learning_rate=0.05, augment=())
    best = best_interval(history)
    assert column(history, "val_accuracy")[best - 1] == max(column(history, "val_accuracy"))
    found = classify(classifier, images(9, seed=1).tokens).argmax(1) == images(9, seed=1).labels
    assert found.mean() == pytest.approx(history[best - 1]["val_accuracy"])


def test_accuracy_counts_before_the_loss():
    history = [{"val_accuracy": 0.5, "val_loss": 0.1}, {"val_accuracy": 0.9, "val_loss": 0.8}]
    assert best_interval(history) == 2
    assert best_interval([{"val_loss": 0.1}, {"val_loss": 0.8}]) == 1


def test_of_equal_accuracies_the_lower_loss_is_the_best():
    losses = [0.3, 0.1, 0.2, 0.1]
    assert best_interval([{"val_accuracy": 0.9, "val_loss": loss} for loss in losses]) == 2


def test_the_best_accuracy_is_kept_and_waited_for(preset, tmp_path):
    """At a learning rate of 0 no period is better than the first."""
    history, _ = tuned(preset, tmp_path, epochs=50, learning_rate=1e-30, patience=2)
    assert len(history) == 3


@pytest.mark.slow
def test_the_constant_learning_rate_stays(preset, tmp_path):
    history, _ = tuned(preset, tmp_path / "constant")
    assert column(history, "learning_rate") == pytest.approx([1e-2] * len(history))
    history, _ = tuned(preset, tmp_path / "cosine", schedule="cosine")
    assert history[-1]["learning_rate"] < 1e-3


def moved(preset, classifier):
    """Names of the variables that are not the preset's any more."""
    before = ImageGPTClassifier.from_preset(preset, 3)
    values = {variable.path.split("/", 1)[1]: np.array(variable) for variable in before.variables}
    paths = {variable.path.split("/", 1)[1]: np.array(variable) for variable in classifier.variables}
    return {path for path, value in paths.items() if path not in values or not np.array_equal(values[path], value)}


@pytest.mark.slow
def test_frozen_blocks_stay(preset, tmp_path):
    _, classifier = tuned(preset, tmp_path, freeze=1)
    names = moved(preset, classifier)
    assert not {name for name in names if "h0" in name or "wte/" in name or name.endswith(("wte", "wpe", "sos"))}
    assert any("h1" in name for name in names) and any(name.endswith("wtet") for name in names)
    with pytest.raises(UsageError, match="expected to freeze 0 to 2 blocks of this model, got 3"):
        tuned(preset, tmp_path / "other", freeze=3)


@pytest.mark.slow
def test_adapters_alone_are_trained_and_are_merged_into_the_preset(preset, tmp_path):
    _, classifier = tuned(preset, tmp_path / "run", lora_rank=2, epochs=9)
    names = moved(preset, classifier)
    assert names and all("lora" in name or name.endswith("wclf") for name in names)
    assert {name.split("/")[-2] for name in names if "lora" in name} == {"q_proj", "v_proj"}
    classifier.save_to_preset(tmp_path / "preset")
    merged = ImageGPTClassifier.from_preset(tmp_path / "preset")
    assert len(merged.variables) < len(classifier.variables)
    tokens = images().tokens
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(merged(tokens)), keras.ops.convert_to_numpy(classifier(tokens)), atol=1e-5
    )


@pytest.mark.slow
def test_what_is_trained_is_for_each_run_to_say(preset, tmp_path):
    _, classifier = tuned(preset, tmp_path / "frozen", freeze=2, generative_weight=0.0, epochs=1)
    assert len(classifier.trainable_variables) < 5
    finetune(classifier, images(), dataclasses.replace(SETTINGS, epochs=1, patience=None), tmp_path / "free")
    assert len(classifier.trainable_variables) == len(classifier.variables) > 20


@pytest.mark.slow
def test_adapters_are_gone_on_with_and_no_others_take_their_place(preset, tmp_path):
    _, classifier = tuned(preset, tmp_path / "run", lora_rank=2, epochs=1)
    before = [np.array(variable) for variable in classifier.trainable_variables]
    settings = dataclasses.replace(SETTINGS, lora_rank=2, epochs=1, patience=None)
    finetune(classifier, images(), settings, tmp_path / "more")
    assert len(classifier.trainable_variables) == len(before) == 2 * 2 * TINY.n_layer + 1
    assert all(not np.array_equal(a, b) for a, b in zip(before, classifier.trainable_variables, strict=True))
    for rank in (None, 3):
        with pytest.raises(UsageError, match=f"expected lora_rank 2, .* got {rank}; for another, or none, save it"):
            finetune(classifier, images(), dataclasses.replace(settings, lora_rank=rank), tmp_path / "other")


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.slow
def test_bert_models_are_tuned_with_and_without_masks(bert, tmp_path, mask):
    history, _ = tuned(bert, tmp_path, mask=mask, generative_weight=1.0, epochs=1)
    plain, _ = tuned(bert, tmp_path / "plain", mask=mask, generative_weight=0.0, epochs=1)
    # Only what is masked can be predicted.
    assert (history[0]["loss"] > plain[0]["loss"] + 0.5) == mask


def test_images_of_other_classes_are_refused(preset, tmp_path):
    classifier = ImageGPTClassifier(ImageGPT(TINY), 2)
    with pytest.raises(UserError, match="images: expected labels from 0 to 1, got 2"):
        finetune(classifier, images(), SETTINGS, tmp_path)


@pytest.mark.parametrize(
    ("tokens", "match"),
    [
        (np.zeros((12, 49), int), r"expected tokens of shape \(N, 64\) .* got \(12, 49\)"),
        (np.full((12, 64), 11), "expected tokens from 0 to 10, got 11"),
    ],
    ids=["n_px", "n_vocab"],
)
@pytest.mark.parametrize("validated", [False, True])
def test_images_of_another_shape_or_palette_are_refused(preset, tmp_path, tokens, match, validated):
    data, other = images(), dataclasses.replace(images(), tokens=tokens)
    with pytest.raises(UserError, match=match):
        finetune(
            new_classifier(preset, 3),
            *((data, SETTINGS, tmp_path, other) if validated else (other, SETTINGS, tmp_path, data)),
        )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes", [{"generative_weight": -1}, {"freeze": -1}, {"lora_rank": 0}, {"lora_rank": 2, "freeze": 1}]
)
def test_numbers_that_mean_nothing_are_refused(changes):
    with pytest.raises(UsageError, match=next(iter(changes))):
        dataclasses.replace(SETTINGS, **changes)
