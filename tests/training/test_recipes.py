"""Recipes: numbers with a source, printed, and less than what is typed."""

import argparse

import pytest

from igpt_tf.cli import pretrain as command
from igpt_tf.cli.main import main
from igpt_tf.cli.parser import Parser
from igpt_tf.cli.settings import choose_settings
from igpt_tf.cli.training import tensorboard, with_batch
from igpt_tf.config import SIZES
from igpt_tf.errors import UsageError, UserError
from igpt_tf.training.recipes import RECIPES, find_recipe
from igpt_tf.training.settings import PretrainSettings
from igpt_tf.weights.presets import open_preset


def typed(*words):
    parser = Parser()
    command.add_options(parser)
    return parser.parse_args(["--data", "x", "--out", "y", *(str(word) for word in words)])


def course(*words, n_devices=1):
    options = typed(*words)
    recipe = None if options.recipe is None else find_recipe(options.recipe)
    settings = choose_settings(options, PretrainSettings, recipe)
    return with_batch(settings, options, recipe, n_devices)


@pytest.mark.parametrize("size", ["s", "m", "l"])
@pytest.mark.parametrize("suffix", ["", "-bert"])
def test_the_papers_settings(size, suffix):
    recipe = RECIPES[f"paper-{size}{suffix}"]
    settings = recipe.settings
    assert (settings.batch_size, settings.steps, settings.warmup_epochs) == (128, 1_000_000, 1)
    assert (settings.ema, settings.clip_norm, settings.augment) == (None, None, ())
    assert recipe.config.bert == bool(suffix) and recipe.config.n_embd == SIZES[size].n_embd
    assert "not confirmed" in recipe.source or f"{size}{suffix}" == "s"


def test_the_bundled_models_recipe_is_its_cards_command():
    settings = find_recipe("nano-cifar10").settings
    assert settings.plan(50_000)[:2] == (6, 1172)
    assert (settings.batch_size, settings.learning_rate, settings.warmup(50_000)) == (128, 5e-3, 200)
    assert (settings.optimizer, settings.augment) == ("muon", ("flip",))


@pytest.mark.parametrize("name", ["nano-cifar10", "nano-imagenet32", "nano-mnist"])
def test_recipes_of_bundled_models_make_their_shape(name):
    preset = open_preset(name)
    assert find_recipe(name).config == preset.config and preset.palette() is not None
    assert len(preset.start_classes or ()) == preset.config.n_start - 1


def test_a_short_run_is_not_all_warm_up():
    assert PretrainSettings(batch_size=8).warmup(500) == 6
    assert PretrainSettings(batch_size=8).warmup(100_000) == 200
    assert PretrainSettings(batch_size=8, warmup_steps=40).warmup(500) == 40


@pytest.mark.parametrize("line", [["--recipe", "list"], ["--list_recipes"], ["--list-recipes"]])
def test_recipes_are_listed_without_data(capsys, line):
    assert main(["pretrain", *line]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}\n" in out for name in RECIPES)
    assert out.count("not measured") > len(RECIPES) and "1.5790 nats per token" in out


def test_what_is_typed_counts_more_than_the_recipe():
    settings = course("--recipe", "nano-cifar10", "--learning_rate", 1e-4, "--epochs", 2, "--warmup_epochs", 0.5)
    assert (settings.learning_rate, settings.batch_size, settings.save_every) == (1e-4, 128, 1173)
    assert settings.plan(30_000)[0] * settings.plan(30_000)[1] == 469, "two epochs instead of the recipe's"
    assert settings.warmup(30_000) == 118
    assert course("--recipe", "paper-s", "--warmup_steps", 7).warmup(1_000_000) == 7


def test_without_a_recipe_the_usual_settings_hold():
    assert course() == PretrainSettings(batch_size=8)
    assert course("--n_sub_batch", 4, n_devices=2).batch_size == 8


def test_the_batch_is_what_the_devices_do_times_the_parts():
    paper = ["--recipe", "paper-s"]
    assert course(*paper, n_devices=4).micro_batch_size == 128
    assert course(*paper, "--n_sub_batch", 8, n_devices=4).accumulate == 4
    assert course(*paper, "--accumulate", 2, "--n_sub_batch", 4).batch_size == 8
    assert course("--batch_size", 12, "--accumulate", 3).micro_batch_size == 4


@pytest.mark.parametrize(
    "words, message",
    [
        (["--recipe", "paper-xxl"], "expected a recipe of paper-s, "),
        (["--epochs", 1, "--steps", 5], "got both"),
        (["--batch_size", 10, "--n_sub_batch", 4], "got a batch of 10 images"),
        (["--batch_size", 10, "--accumulate", 3], "got a batch of 10 images"),
        (["--augment", "flip", "rotate"], "flip, crop"),
        (["--ema", 1], "expected `ema` to be between 0 and 1"),
        (["--clip_norm", 0], "expected `clip_norm` to be positive"),
        (["--warmup_epochs", -1], "at least 0"),
        (["--learning_rate", "nan"], "expected `learning_rate` to be positive"),
    ],
    ids=lambda value: None,
)
def test_what_means_nothing_is_refused(words, message):
    with pytest.raises(UsageError, match=message) as error:
        course(*words)
    assert "\n" not in str(error.value)


def test_tensorboard_needs_its_package_and_tensorflow(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--log_dir: expected the (package tensorboard|TensorFlow backend)"):
        tensorboard(tmp_path)


def test_every_recipe_describes_itself():
    assert isinstance(typed(), argparse.Namespace)
    for recipe in RECIPES.values():
        titles = [title for title, text in recipe.describe() if text]
        assert titles == ["model", "data", "training", "source", "expected loss", "duration", "machine"]
