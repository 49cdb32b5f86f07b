"""Pretraining: the loss falls, a stopped run goes on exactly, mistakes are told before any training."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest

from examples import SETTINGS, TINY, StopAfter, new_model, randomise, stripes
from igpt_tf.backend.devices import count_devices, device_scope, list_cpus
from igpt_tf.data.batches import TrainingBatches
from igpt_tf.data.order import ExampleOrder
from igpt_tf.errors import UsageError, UserError
from igpt_tf.model.bert import draw_mask
from igpt_tf.model.objectives import autoregressive_loss, masked_loss
from igpt_tf.pictures.palette import Palette
from igpt_tf.storage.files import held
from igpt_tf.training.best import best_interval
from igpt_tf.training.callbacks import SampleGrids
from igpt_tf.training.preparation import TokenBatch
from igpt_tf.training.pretrain import new_model as new_training_model
from igpt_tf.training.pretrain import pretrain, token_validation
from igpt_tf.training.run import share_of

pytestmark = pytest.mark.both_backends


def test_the_loss_falls_and_the_history_tells_it(tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=10, save_every=80)
    history = pretrain(new_model(), stripes(64), settings, tmp_path, stripes(8, seed=1))
    assert history[0]["loss"] <= np.log(TINY.n_vocab) + 0.01
    assert history[-1]["val_loss"] < 0.7 * np.log(TINY.n_vocab)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The model, the history and the folder of a finished run; tests must not change the folder."""
    model, folder = new_model(), tmp_path_factory.mktemp("finished")
    return model, pretrain(model, stripes(), SETTINGS, folder), folder


@pytest.fixture
def finished_folder(finished, tmp_path):
    """A copy of the finished run's folder."""
    return shutil.copytree(finished[2], tmp_path / "run")


@pytest.mark.parametrize("steps", [2, 6])
def test_a_run_that_died_goes_on_exactly(finished, tmp_path, steps):
    whole, expected, _ = finished
    with pytest.raises(KeyboardInterrupt):
        pretrain(new_model(), stripes(), SETTINGS, tmp_path / "cut", callbacks=[StopAfter(steps)])
    resumed = new_model()
    found = pretrain(resumed, stripes(), SETTINGS, tmp_path / "cut")
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in expected], rtol=1e-6)
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_two_devices_train_and_go_on_like_one(tmp_path, optimizer):
    settings = dataclasses.replace(SETTINGS, steps=20, save_every=5, optimizer=optimizer)
    expected = pretrain(new_model(), stripes(), settings, tmp_path / "one")
    with device_scope(list_cpus()[:2]):
        first, second = new_model(), new_model()
    assert count_devices(first) == 2
    with pytest.raises(KeyboardInterrupt):
        pretrain(first, stripes(), settings, tmp_path / "two", callbacks=[StopAfter(13)])
    found = pretrain(second, stripes(), settings, tmp_path / "two")
    assert len(found) == 4 and found[-1]["loss"] < found[0]["loss"]
    np.testing.assert_allclose([h["loss"] for h in found], [h["loss"] for h in expected], rtol=1e-5)


def test_a_finished_run_is_not_trained_again(finished, finished_folder):
    assert pretrain(new_model(), stripes(), SETTINGS, finished_folder, callbacks=[StopAfter(1)]) == finished[1]


def test_another_run_in_the_folder_is_refused(finished_folder):
    with pytest.raises(UserError, match="n_images was 11 and is now 12"):
        pretrain(new_model(), stripes(12), SETTINGS, finished_folder)
    with pytest.raises(UserError, match="init_from was None and is now other-weights"):
        pretrain(new_model(), stripes(), SETTINGS, finished_folder, init_from="other-weights")


def test_two_processes_do_not_train_one_run(finished_folder):
    with held(finished_folder / ".lock"), pytest.raises(UserError, match="another process is training this run"):
        pretrain(new_model(), stripes(), SETTINGS, finished_folder)
    pretrain(new_model(), stripes(), SETTINGS, finished_folder)
    assert not (finished_folder / ".lock").exists()


def test_every_example_is_seen_once_a_pass_and_the_order_depends_on_the_step_alone():
    tokens = np.arange(10)[:, None]
    batches = TrainingBatches(ExampleOrder(10, batch_size=4, seed=3), TokenBatch(tokens))
    # Out of order, and twice, as Keras may ask.
    items = {i: batches[i][0][:, 0] for i in (0, 4, 0, 1, 2, 3, 1)}
    seen = np.concatenate([items[i] for i in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert list(seen[:10]) != list(seen[10:])
    later = TrainingBatches(batches.order, TokenBatch(tokens), first=2)
    np.testing.assert_array_equal(later[1][0][:, 0], items[3])


def test_processes_share_every_batch():
    whole = ExampleOrder(11, batch_size=6, seed=3)
    shares = [ExampleOrder(11, batch_size=6, seed=3, share=(i, 3)) for i in range(3)]
    for step in range(4):
        np.testing.assert_array_equal(np.concatenate([share[step].rows for share in shares]), whole[step].rows)
        assert [share[step].first for share in shares] == [6 * step, 6 * step + 2, 6 * step + 4]


def test_masks_and_augmentation_belong_to_the_example_not_to_the_batch():
    def augment(tokens, generators):
        return tokens + np.array([generator.integers(1000) for generator in generators])[:, None]

    def mask(first, n_images, n_tokens):
        return draw_mask(7, first, n_images, n_tokens)

    tokens = np.zeros((5, 9), "uint8")
    prepare = TokenBatch(tokens, augment=augment, mask=mask)
    whole, halves = (TrainingBatches(ExampleOrder(5, batch_size), prepare) for batch_size in (4, 2))
    values = []
    for step in range(5):
        for name in ("tokens", "mask"):
            parts = [halves[2 * step + i][0][name] for i in (0, 1)]
            np.testing.assert_array_equal(np.concatenate(parts), whole[step][0][name])
        values.extend(whole[step][1][:, 0])
    assert len(set(values)) > 15, "an example is augmented anew in every pass"


def trained(folder, bert=False, mixed_precision=False, rematerialise=False, data=None, **changes):
    """The history of a run with some settings changed, and the model."""
    keras.utils.set_random_seed(SETTINGS.seed)
    config = dataclasses.replace(TINY, bert=bert)
    model = new_training_model(config, mixed_precision, rematerialise)
    data = stripes() if data is None else data
    return pretrain(model, data, dataclasses.replace(SETTINGS, **changes), folder, stripes(6, seed=1)), model


def losses(history, name="loss"):
    return [logs[name] for logs in history]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The history of the run that the others change something about, and the model."""
    return trained(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "changes",
    [{"ema": 0.5}, {"clip_norm": 0.1}, {"ema": 0.5, "optimizer": "muon"}],
    ids=["averaged", "clipped", "muon"],
)
@pytest.mark.slow
def test_a_batch_in_parts_is_the_same_batch(tmp_path, plain, changes):
    """Also the learning rate and the average, which Keras would change after every part."""
    expected, _ = trained(tmp_path / "whole", **changes)
    found, _ = trained(tmp_path / "parts", **changes, accumulate=2)
    for name in ("loss", "val_loss", "learning_rate"):
        np.testing.assert_allclose(losses(found, name), losses(expected, name), rtol=1e-5, atol=1e-12)
    same = losses(found)[-1] == pytest.approx(losses(plain[0])[-1], rel=1e-6)
    assert same == (set(changes) == {"ema"})


@pytest.mark.slow
def test_rematerialisation_changes_no_gradient(tmp_path, plain):
    expected, _ = plain
    found, _ = trained(tmp_path / "remat", rematerialise=True)
    np.testing.assert_allclose(losses(found), losses(expected), rtol=1e-6)


@pytest.mark.slow
def test_mixed_precision_keeps_float32_weights_and_nearly_the_losses(tmp_path, plain):
    expected, _ = plain
    found, model = trained(tmp_path / "mixed", mixed_precision=True)
    np.testing.assert_allclose(losses(found), losses(expected), rtol=1e-2)
    assert losses(found) != losses(expected)
    assert {variable.dtype for variable in model.variables} == {"float32"}
    with pytest.raises(UserError, match="compute_dtype was bfloat16 and is now float32"):
        trained(tmp_path / "mixed")


@pytest.mark.slow
def test_bert_sees_masked_tokens_alone_and_reports_the_papers_loss(tmp_path):
    """With the learning rate at 0 the loss of the first step is that of an untrained model: ln V over its masks."""
    history, model = trained(tmp_path, bert=True, steps=1, save_every=1, warmup_steps=0, learning_rate=1e-30)
    assert losses(history)[0] == pytest.approx(np.log(TINY.n_vocab), rel=1e-5)
    randomise(model)
    tokens = stripes(6, seed=1).astype("int32")
    mask = draw_mask(0, 0, *tokens.shape, SETTINGS.bert_mask_prob)
    expected = float(masked_loss(tokens, model({"tokens": tokens, "mask": mask}), mask))
    data = share_of(token_validation(tokens, SETTINGS, masked=True), 1, (0, 1))
    found = model.evaluate(data[0], data[1], sample_weight=data[2], batch_size=4, verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_stopped_bert_run_draws_the_same_masks_again(tmp_path):
    expected, _ = trained(tmp_path / "whole", bert=True)
    with pytest.raises(KeyboardInterrupt):
        keras.utils.set_random_seed(SETTINGS.seed)
        model = new_training_model(dataclasses.replace(TINY, bert=True))
        pretrain(model, stripes(), SETTINGS, tmp_path / "cut", stripes(6, seed=1), [StopAfter(6)])
    found, _ = trained(tmp_path / "cut", bert=True)
    np.testing.assert_allclose(losses(found), losses(expected), rtol=1e-6)


@pytest.mark.slow
def test_averaged_weights_are_validated_and_kept(tmp_path, plain):
    plain, last = plain
    averaged, model = trained(tmp_path / "ema", ema=0.9)
    assert losses(averaged) == losses(plain), "an average changes no step"
    assert losses(averaged, "val_loss") != losses(plain, "val_loss")
    tokens = stripes(6, seed=1).astype("int32")
    assert float(autoregressive_loss(tokens, model(tokens))) == pytest.approx(averaged[-1]["val_loss"], rel=1e-5)
    assert float(autoregressive_loss(tokens, last(tokens))) == pytest.approx(plain[-1]["val_loss"], rel=1e-5)
    again, model = trained(tmp_path / "ema", ema=0.9)
    assert again == averaged
    assert float(autoregressive_loss(tokens, model(tokens))) == pytest.approx(averaged[-1]["val_loss"], rel=1e-5)


@pytest.mark.slow
def test_training_ends_when_validation_has_not_been_better(tmp_path):
    """Trained on stripes of few images, it is soon worse on others: the best weights are what is left."""
    settings = {"steps": 200, "save_every": 10, "patience": 2}
    history, model = trained(tmp_path / "whole", data=stripes(4), **settings)
    best = best_interval(history)
    assert len(history) == best + 2 < 20
    tokens = stripes(6, seed=1).astype("int32")
    assert float(autoregressive_loss(tokens, model(tokens))) == pytest.approx(history[best - 1]["val_loss"], rel=1e-5)
    assert trained(tmp_path / "whole", data=stripes(4), **settings)[0] == history, "it is not trained on"
    keras.utils.set_random_seed(SETTINGS.seed)
    changed = dataclasses.replace(SETTINGS, **settings)
    with pytest.raises(KeyboardInterrupt):
        pretrain(new_model(), stripes(4), changed, tmp_path / "cut", stripes(6, seed=1), [StopAfter(10 * best + 5)])
    np.testing.assert_allclose(losses(trained(tmp_path / "cut", data=stripes(4), **settings)[0]), losses(history))

    (tmp_path / f"whole/epoch-{best:05d}.safetensors").write_bytes(b"half")
    with pytest.warns(UserWarning, match=f"the weights are those of step {10 * (best + 1)} instead"):
        _, model = trained(tmp_path / "whole", data=stripes(4), **settings)
    assert float(autoregressive_loss(tokens, model(tokens))) == pytest.approx(history[best]["val_loss"], rel=1e-5)


@pytest.mark.slow
def test_other_images_to_validate_on_are_another_run(tmp_path):
    pretrain(new_model(), stripes(), SETTINGS, tmp_path, stripes(6, seed=1))
    with pytest.raises(UserError, match=r"validation was [0-9a-f]+ and is now [0-9a-f]+"):
        pretrain(new_model(), stripes(), SETTINGS, tmp_path, stripes(6, seed=2))
    with pytest.raises(UserError, match=r"validation was [0-9a-f]+ and is now None"):
        pretrain(new_model(), stripes(), SETTINGS, tmp_path)


@pytest.mark.slow
def test_augmentation_goes_on_where_it_was(tmp_path, plain):
    expected, _ = trained(tmp_path / "whole", augment=("flip", "crop"))
    assert losses(expected) != losses(plain[0])
    with pytest.raises(KeyboardInterrupt):
        settings = dataclasses.replace(SETTINGS, augment=("flip", "crop"))
        pretrain(new_model(), stripes(), settings, tmp_path / "cut", stripes(6, seed=1), [StopAfter(6)])
    found, _ = trained(tmp_path / "cut", augment=("flip", "crop"))
    np.testing.assert_allclose(losses(found), losses(expected), rtol=1e-6)


@pytest.mark.slow
def test_sample_grids_are_drawn_and_change_nothing(tmp_path):
    palette = Palette(np.random.default_rng(0).uniform(-1, 1, (TINY.n_vocab, 3)).astype("float32"))
    grids = SampleGrids(tmp_path / "pictures", palette, every=2, n=3)
    drawn = pretrain(new_model(), stripes(), SETTINGS, tmp_path / "drawn", callbacks=[grids])
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["samples-00002.png"]
    assert drawn == pretrain(new_model(), stripes(), SETTINGS, tmp_path / "plain")


def test_what_does_not_fit_is_refused_before_training(tmp_path):
    with pytest.raises(UsageError, match="expected validation images"):
        pretrain(new_model(), stripes(), dataclasses.replace(SETTINGS, patience=1), tmp_path)
    with device_scope(list_cpus()[:2]):
        model = new_model()
    with pytest.raises(UsageError, match="2 devices"):
        pretrain(model, stripes(), dataclasses.replace(SETTINGS, batch_size=5), tmp_path)
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(UsageError, match="expected the JAX backend for `accumulate` on several devices"):
            pretrain(model, stripes(), dataclasses.replace(SETTINGS, accumulate=2), tmp_path)


@pytest.mark.slow
def test_two_devices_validate_any_number_of_images_like_one(tmp_path):
    """Five images in batches of four: one is left for two devices."""
    expected = pretrain(new_model(), stripes(), SETTINGS, tmp_path / "one", stripes(5, seed=1))
    with device_scope(list_cpus()[:2]):
        model = new_model()
    found = pretrain(model, stripes(), SETTINGS, tmp_path / "two", stripes(5, seed=1))
    np.testing.assert_allclose(losses(found, "val_loss"), losses(expected, "val_loss"), rtol=1e-5)
