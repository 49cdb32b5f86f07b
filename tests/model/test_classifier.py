"""The classifier learns in plain Keras, and its loss is exactly what the paper adds up."""

import dataclasses

import keras
import numpy as np
import pytest
import reference

from examples import TINY, randomise
from igpt_tf.errors import UserError
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT

pytestmark = [
    pytest.mark.both_backends,
    # Keras tells so where nothing generative is trained: the class logits do not read `wtet`.
    pytest.mark.filterwarnings("ignore:Gradients do not exist for variables .*wtet'\\]:UserWarning"),
]
N_CLASS = 3
LABELS = np.array([0, 2, 1, 1, 0])


def new_classifier(generative_weight=1.0, bert=False, learning_rate=0.0):
    """A compiled classifier with large weights."""
    image_gpt = ImageGPT(dataclasses.replace(TINY, bert=bert))
    classifier = randomise(ImageGPTClassifier(image_gpt, N_CLASS, generative_weight=generative_weight))
    classifier.compile(
        keras.optimizers.SGD(learning_rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return classifier


def expected_losses(classifier, tokens, labels):
    """Mean class and generative losses in nats, from the logits."""
    logits, class_logits = map(keras.ops.convert_to_numpy, classifier.outputs(tokens))
    return reference.token_nats(labels, class_logits).mean(), reference.token_nats(tokens, logits).mean()


@pytest.mark.parametrize("generative_weight", [0, 0.5, 1])
def test_training_loss_is_the_class_loss_and_the_weighted_generative_loss(tokens, generative_weight):
    classifier = new_classifier(generative_weight)
    class_loss, generative_loss = expected_losses(classifier, tokens, LABELS)
    loss = classifier.train_on_batch(tokens, LABELS, return_dict=True)["loss"]
    assert float(loss) == pytest.approx(class_loss + generative_weight * generative_loss, rel=1e-5)


def test_evaluation_gives_the_class_loss_alone(tokens):
    classifier = new_classifier()
    class_loss, _ = expected_losses(classifier, tokens, LABELS)
    assert classifier.evaluate(tokens, LABELS, batch_size=2, verbose=0) == pytest.approx(class_loss, rel=1e-5)


def test_a_bert_model_has_no_generative_loss(tokens):
    classifier = new_classifier(bert=True)
    class_loss, _ = expected_losses(classifier, tokens, LABELS)
    loss = classifier.train_on_batch(tokens, LABELS, return_dict=True)["loss"]
    assert float(loss) == pytest.approx(class_loss, rel=1e-5)


@pytest.mark.slow
def test_plain_keras_trains_it():
    """Images of low and of high colours."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    tokens = rng.integers(0, 5, (32, TINY.n_tokens)) + 6 * labels[:, None]
    classifier = ImageGPTClassifier(ImageGPT(dataclasses.replace(TINY, n_layer=1)), 2)
    classifier.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    classifier.fit(tokens, labels, batch_size=16, epochs=10, verbose=0)
    assert classifier.evaluate(tokens, labels, verbose=0, return_dict=True)["accuracy"] == 1


@pytest.mark.slow
def test_two_devices_train_as_one(tokens, two_devices):
    one = new_classifier(learning_rate=0.1)
    with two_devices.scope():
        two = new_classifier(learning_rate=0.1)
    losses = [
        classifier.fit(tokens[:4], LABELS[:4], batch_size=4, verbose=0).history["loss"][0] for classifier in (one, two)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_new_head_finds_every_class_as_likely(tiny_model, tokens):
    logits = ImageGPTClassifier(tiny_model, 7)(tokens)
    assert tuple(logits.shape) == (5, 7)
    assert not keras.ops.convert_to_numpy(logits).any()


@pytest.mark.parametrize("n_class", [-1, 0, 1])
def test_fewer_than_two_classes_are_refused(tiny_model, n_class):
    with pytest.raises(UserError, match=f"expected at least 2 classes, got n_class={n_class}"):
        ImageGPTClassifier(tiny_model, n_class)
