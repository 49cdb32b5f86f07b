"""Models with several start embeddings: one for each class, and one for images without a class."""

import dataclasses

import keras
import numpy as np
import pytest

from examples import SETTINGS, TINY, StopAfter, randomise, stripes
from igpt_tf.config import ImageGPTConfig
from igpt_tf.data.order import Examples
from igpt_tf.errors import UserError
from igpt_tf.model import ImageGPT, ImageGPTClassifier
from igpt_tf.training.preparation import ClassStarts
from igpt_tf.training.pretrain import pretrain
from igpt_tf.weights.names import shape_table

pytestmark = pytest.mark.both_backends
CLASSES = ("cat", "dog")
CONFIG = dataclasses.replace(TINY, n_start=3)
TOKENS = np.random.default_rng(1).integers(0, TINY.n_vocab, (4, TINY.n_tokens))


@pytest.fixture(scope="module")
def model():
    return randomise(ImageGPT(CONFIG, CLASSES))


def test_a_start_embedding_takes_the_place_of_sos(model):
    """An image of class c has the logits of a model with one start embedding, that of the class."""
    single = ImageGPT(TINY)
    for start in range(3):
        for ours, theirs in zip(single.variables, model.variables, strict=True):
            ours.assign(theirs[start] if ours.path.endswith("sos") else theirs)
        found = model({"tokens": TOKENS, "start": np.full(4, start)})
        np.testing.assert_allclose(np.asarray(found), np.asarray(single(TOKENS)), atol=1e-5)


def test_each_image_has_its_own_start_and_none_is_the_first(model):
    mixed = np.asarray(model({"tokens": TOKENS, "start": np.array([2, 0, 1, 0])}))
    without = np.asarray(model(TOKENS))
    np.testing.assert_allclose(mixed[[1, 3]], without[[1, 3]], atol=1e-5)
    assert np.abs(mixed[0] - without[0]).max() > 0.1


def test_classes_are_found_by_name_and_number(model):
    np.testing.assert_array_equal(model.starts(None, 2), [0, 0])
    np.testing.assert_array_equal(model.starts("dog", 2), [2, 2])
    np.testing.assert_array_equal(model.starts(np.array([0, 1]), 2), [1, 2])
    np.testing.assert_array_equal(model.starts(["dog", 0], 2), [2, 1])
    for classes, message in (
        ("frog", "expected one of cat, dog, got 'frog'"),
        (2, "expected one of cat, dog, got 2"),
        ([0, 1, 0], "expected one class, or one for each of 2 images, got 3"),
    ):
        with pytest.raises(UserError, match=message):
            model.starts(classes, 2)
    with pytest.raises(UserError, match="the model was trained without them, got 'cat'"):
        ImageGPT(TINY).starts("cat", 1)


def test_a_preset_keeps_start_embeddings_and_names(model, tmp_path):
    model.save_to_preset(tmp_path)
    copy = ImageGPT.from_preset(tmp_path)
    assert copy.classes == CLASSES and copy.config == CONFIG
    inputs = {"tokens": TOKENS, "start": np.array([0, 1, 2, 1])}
    np.testing.assert_array_equal(np.asarray(copy(inputs)), np.asarray(model(inputs)))
    # A classifier of other classes keeps both lists of names.
    ImageGPTClassifier(model, 4, classes=list("abcd")).save_to_preset(tmp_path)
    classifier = ImageGPTClassifier.from_preset(tmp_path)
    assert classifier.classes == tuple("abcd") and classifier.image_gpt.classes == CLASSES


def test_keras_saves_and_loads_it(model, tmp_path):
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.classes == CLASSES and copy.config == CONFIG


def test_one_start_embedding_is_openais():
    assert shape_table(TINY)["sos"] == (TINY.n_embd,) and "n_start" not in TINY.to_dict()
    assert ImageGPTConfig.from_dict(CONFIG.to_dict()) == CONFIG
    with pytest.raises(UserError, match="expected n_start 1 for a BERT model"):
        dataclasses.replace(CONFIG, bert=True)
    with pytest.raises(UserError, match="expected the names of 2 classes, got 1"):
        ImageGPT(CONFIG, ["cat"])
    with pytest.raises(UserError, match="the model has a single start embedding"):
        ImageGPT(TINY)({"tokens": TOKENS, "start": np.zeros(4, int)})


def test_classes_are_left_out_at_random_in_every_epoch_anew():
    labels = np.arange(4000) % 2
    starts = ClassStarts(labels, 0.1, seed=3)
    rows = np.arange(4000)
    first, second = (starts(Examples(0, np.full(4000, epoch), rows)) for epoch in (0, 1))
    for found in (first, second):
        # Five standard deviations of a binomial distribution.
        assert np.mean(found == 0) == pytest.approx(0.1, abs=5 * (0.1 * 0.9 / 4000) ** 0.5)
        np.testing.assert_array_equal(found[found > 0], labels[found > 0] + 1)
    assert not np.array_equal(first == 0, second == 0)
    # An example's choice does not depend on its batch.
    np.testing.assert_array_equal(starts(Examples(9, np.zeros(5, int), rows[7:12])), first[7:12])


@pytest.mark.slow
def test_training_with_classes_learns_them_and_resumes(tmp_path):
    """Images of one colour, which the class alone tells: the loss of the first pixel falls with the class given."""
    labels = np.arange(16) % 2
    tokens = np.repeat(labels[:, None] * 7, TINY.n_tokens, axis=1).astype("uint16")
    settings = dataclasses.replace(SETTINGS, epochs=20, save_every=40, learning_rate=3e-2)

    def run(folder, callbacks=None):
        keras.utils.set_random_seed(0)
        model = ImageGPT(CONFIG, CLASSES)
        return model, pretrain(model, tokens, settings, folder, labels=labels, callbacks=callbacks)

    model, expected = run(tmp_path / "whole")
    for name, colour in (("cat", 0), ("dog", 7)):
        logits = np.asarray(model({"tokens": tokens[:1], "start": model.starts(name, 1)}))
        assert logits[0, 0].argmax() == colour
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", [StopAfter(50)])
    _, found = run(tmp_path / "cut")
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in expected], rtol=1e-5)
    with pytest.raises(UserError, match=r"labels was .* and is now"):
        pretrain(ImageGPT(CONFIG, CLASSES), tokens, settings, tmp_path / "cut", labels=1 - labels)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(UserError, match="labels: expected labels from 0 to 1, got 2"):
        pretrain(ImageGPT(CONFIG), stripes(3), SETTINGS, tmp_path, labels=np.arange(3))
