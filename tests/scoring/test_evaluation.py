"""Evaluation counts every image once, whatever the batch size and the devices, and tells mistakes in one line."""

import keras
import numpy as np
import pytest
import reference

import igpt_tf as igpt
from examples import TINY, randomise
from igpt_tf.errors import UserError
from igpt_tf.model.bert import draw_mask
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT

pytestmark = pytest.mark.both_backends
N_CLASS = 3
LABELS = np.array([0, 2, 1, 1, 0])


@pytest.fixture(scope="module")
def classifier():
    return randomise(ImageGPTClassifier(ImageGPT(TINY), N_CLASS))


def nats_of(model, tokens, mask=None):
    inputs = tokens if mask is None else {"tokens": tokens, "mask": mask}
    return reference.token_nats(tokens, keras.ops.convert_to_numpy(model(inputs)))


def copy_on(strategy, model):
    """The same autoregressive model on the devices of a strategy."""
    with strategy.scope():
        copy = ImageGPT(TINY)
    copy.set_weights(model.get_weights())
    return copy


@pytest.mark.parametrize("batch_size", [2, 8])
def test_score_is_each_tokens_nats(tiny_model, tokens, batch_size):
    nats = igpt.score(tiny_model, tokens, batch_size=batch_size)
    assert nats.dtype == np.float32
    np.testing.assert_allclose(nats, nats_of(tiny_model, tokens), rtol=1e-4, atol=1e-4)


def test_score_with_a_mask(bert_model, tokens):
    mask = draw_mask(0, 0, *tokens.shape)
    np.testing.assert_allclose(
        igpt.score(bert_model, tokens, mask), nats_of(bert_model, tokens, mask), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(igpt.score(bert_model, tokens), nats_of(bert_model, tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 64])
def test_mean_over_all_images_whatever_the_batch_size(tiny_model, tokens, batch_size):
    result = igpt.evaluate(tiny_model, tokens, batch_size=batch_size)
    assert result.nats == pytest.approx(nats_of(tiny_model, tokens).mean(), rel=1e-5)
    assert result.bits == pytest.approx(result.nats / np.log(2))
    assert (result.images, result.class_nats, result.accuracy) == (5, None, None)


def test_more_images_than_are_read_at_a_time(tiny_model, many_tokens):
    result = igpt.evaluate(tiny_model, many_tokens, batch_size=2)
    assert result.images == 19
    assert result.nats == pytest.approx(nats_of(tiny_model, many_tokens).mean(), rel=1e-5)


@pytest.mark.parametrize("n_images", [1, 5])
@pytest.mark.slow
def test_two_devices_find_what_one_does(tiny_model, tokens, two_devices, n_images):
    copy, tokens = copy_on(two_devices, tiny_model), tokens[:n_images]
    expected = nats_of(tiny_model, tokens)
    assert igpt.evaluate(copy, tokens, batch_size=4).nats == pytest.approx(expected.mean(), rel=1e-5)


def test_two_devices_score_as_one(tiny_model, tokens, two_devices):
    nats = igpt.score(copy_on(two_devices, tiny_model), tokens, batch_size=4)
    np.testing.assert_allclose(nats, nats_of(tiny_model, tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_bert_is_judged_on_masks_that_the_seed_decides(bert_model, many_tokens, batch_size):
    mask = draw_mask(3, 0, *many_tokens.shape)
    nats = nats_of(bert_model, many_tokens, mask)
    expected = np.mean([nats[i][mask[i] == 0].mean() for i in range(len(many_tokens))])
    result = igpt.evaluate(bert_model, many_tokens, batch_size=batch_size, seed=3)
    assert result.nats == pytest.approx(expected, rel=1e-5)


def test_another_seed_or_probability_hides_other_tokens(bert_model, tokens):
    results = [
        igpt.evaluate(bert_model, tokens, seed=seed, mask_probability=probability).nats
        for seed, probability in [(0, 0.15), (0, 0.15), (1, 0.15), (0, 0.5)]
    ]
    assert results[0] == results[1]
    assert len(set(results)) == 3


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], LABELS.tolist(), np.eye(N_CLASS)[LABELS]])
def test_the_head_is_judged_too(classifier, tokens, labels):
    result = igpt.evaluate(classifier, tokens, labels, batch_size=4)
    class_logits = keras.ops.convert_to_numpy(classifier(tokens))
    assert result.nats == pytest.approx(nats_of(classifier.image_gpt, tokens).mean(), rel=1e-5)
    assert result.class_nats == pytest.approx(reference.token_nats(LABELS, class_logits).mean(), rel=1e-5)
    assert result.accuracy == 100 * (class_logits.argmax(-1) == LABELS).mean()


def test_without_labels_or_a_head_there_is_no_accuracy(classifier, tiny_model, tokens):
    for result in (igpt.evaluate(classifier, tokens), igpt.evaluate(tiny_model, tokens, LABELS)):
        assert result.class_nats is None
        assert result.accuracy is None


def test_tokens_may_stay_on_disk(tiny_model, tokens, tmp_path):
    np.save(tmp_path / "tokens.npy", tokens.astype("uint16"))
    on_disk = np.load(tmp_path / "tokens.npy", mmap_mode="r", allow_pickle=False)
    assert igpt.evaluate(tiny_model, on_disk) == igpt.evaluate(tiny_model, tokens)
    np.testing.assert_array_equal(igpt.score(tiny_model, on_disk), igpt.score(tiny_model, tokens))


@pytest.mark.parametrize(
    "labels, message",
    [
        (LABELS[:4], "expected one label for each of 5 images, got labels of shape (4,)"),
        (LABELS + 1, "expected labels from 0 to 2, got 1 to 3"),
        (LABELS - 1, "expected labels from 0 to 2, got -1 to 1"),
        (LABELS.reshape(5, 1, 1), "expected one label for each of 5 images, got labels of shape (5, 1, 1)"),
        (LABELS / 2, "expected labels that are integers or one-hot, got float64"),
        (np.eye(4)[LABELS], "expected one-hot labels of the head's 3 classes, got 4"),
    ],
)
def test_labels_that_do_not_fit_are_refused(classifier, tokens, labels, message):
    with pytest.raises(UserError) as error:
        igpt.evaluate(classifier, tokens, labels)
    assert str(error.value) == message


@pytest.mark.parametrize("function", [igpt.score, igpt.evaluate])
@pytest.mark.parametrize(
    "change, message",
    [
        (lambda tokens: tokens[:, :-1], "expected tokens of shape (N, 64) for images of 8 pixels"),
        (lambda tokens: tokens.reshape(5, 8, 8), "expected tokens of shape (N, 64)"),
        (lambda tokens: tokens[:0], "expected tokens of shape (N, 64)"),
        (lambda tokens: tokens / 1, "expected integer tokens, got float64"),
        (lambda tokens: tokens + 1, "expected tokens from 0 to 10, got 11: were they made with another palette?"),
        (lambda tokens: tokens - 1, "expected tokens from 0 to 10, got -1"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(tiny_model, tokens, function, change, message):
    tokens[0, :11] = np.arange(11)
    with pytest.raises(UserError) as error:
        function(tiny_model, change(tokens))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_masks_that_do_not_fit_are_refused(tiny_model, bert_model, tokens):
    with pytest.raises(UserError, match=r"expected a `mask` of shape \(5, 64\), got \(64,\)$"):
        igpt.score(bert_model, tokens, np.ones(64))
    with pytest.raises(UserError, match=r"expected no `mask`, as this model is autoregressive, got one$"):
        igpt.score(tiny_model, tokens, np.ones((5, 64)))


@pytest.mark.parametrize("function", [igpt.score, igpt.evaluate])
def test_a_batch_of_nothing_is_refused(tiny_model, tokens, function):
    with pytest.raises(UserError, match="expected `batch_size` as a whole number of at least 1, got 0"):
        function(tiny_model, tokens, batch_size=0)


def test_a_bert_head_is_judged_on_whole_images_or_by_the_vote_of_several_masks(bert_model, many_tokens):
    classifier = randomise(ImageGPTClassifier(bert_model, 3), seed=4)
    labels = np.arange(len(many_tokens)) % 3

    def logits(mask):
        return keras.ops.convert_to_numpy(classifier.outputs({"tokens": many_tokens, "mask": mask})[1])

    whole = logits(np.ones_like(many_tokens))
    masked = logits(draw_mask(3, 0, *many_tokens.shape))
    found = {votes: igpt.evaluate(classifier, many_tokens, labels, votes=votes, seed=3) for votes in (0, 1, 5)}
    assert found[0].accuracy == pytest.approx(100 * (whole.argmax(1) == labels).mean())
    assert found[1].accuracy == pytest.approx(100 * (masked.argmax(1) == labels).mean())
    assert found[0].class_nats == pytest.approx(reference.token_nats(labels, whole).mean(), rel=1e-4)
    assert len({result.class_nats for result in found.values()}) == 3
    assert len({result.nats for result in found.values()}) == 1, "the generative loss is that of one mask"
    with pytest.raises(UserError, match="expected `votes` as a whole number of at least 0, got -1"):
        igpt.evaluate(classifier, many_tokens, labels, votes=-1)


class OnDisk:
    """Stands for tokens on disk; remembers how many rows were read at once."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.shape = tokens.shape
        self.read = []

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, rows):
        self.read.append(len(self.tokens[rows]))
        return self.tokens[rows]


def test_tokens_on_disk_are_read_part_by_part(monkeypatch, tiny_model):
    tokens = np.random.default_rng(3).integers(0, TINY.n_vocab, (70, TINY.n_tokens)).astype("uint16")
    expected = igpt.evaluate(tiny_model, tokens, batch_size=2)
    monkeypatch.setattr("igpt_tf.config.CHECKED_ROWS", 16)
    on_disk = OnDisk(tokens)
    assert igpt.evaluate(tiny_model, on_disk, batch_size=2) == expected
    assert max(on_disk.read) == 16 and len(on_disk.read) < 15, "neither as a whole nor row by row"
