"""The options of settings: declared once with the settings, left unset to tell what was typed from a recipe."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from igpt_tf.cli.parser import non_negative, positive
from igpt_tf.errors import UsageError
from igpt_tf.training.settings import RunSettings

if TYPE_CHECKING:
    from igpt_tf.training.recipes import Recipe

UNSET = argparse.SUPPRESS
# Two ways to give one length: typing one of them overrides the recipe's other.
INSTEAD = {"epochs": "steps", "steps": "epochs", "warmup_epochs": "warmup_steps", "warmup_steps": "warmup_epochs"}

SettingsT = TypeVar("SettingsT", bound=RunSettings)


def add_settings(
    group: argparse._ActionsContainer, settings_class: type, defaults: Mapping[str, str] | None = None
) -> None:
    """Declare an option for each field of a class of settings.

    Args:
        group: where the options go.
        settings_class: a dataclass whose fields were made by `training.settings.setting`.
        defaults: what the command line does where a setting is not typed, if that is not its own default.
    """
    defaults = defaults or {}
    for field in dataclasses.fields(settings_class):
        name, about = field.name, field.metadata
        parse, text = about["kind"], about["help"]
        if parse is bool:
            flag, action = (f"--no_{name}", "store_false") if field.default else (f"--{name}", "store_true")
            group.add_argument(flag, dest=name, action=action, default=UNSET, help=text)
            continue
        if parse is int:
            parse = non_negative if about["bound"] == "at least 0" else positive
        text = f"{text} ({defaults.get(name) or about['unset'] or _shown(field.default)})"
        group.add_argument(f"--{name}", type=parse, default=UNSET, help=text, **about["options"])


def _shown(default: Any) -> str:
    if isinstance(default, float):
        return f"{default:g}"
    return " ".join(default) if isinstance(default, tuple) else str(default)


def choose_settings(
    options: argparse.Namespace, settings_class: type[SettingsT], recipe: Recipe | None = None
) -> SettingsT:
    """The recipe's settings, or the defaults, with what was typed in their place, but for the batch.

    Raises:
        UsageError: if what was typed is invalid or contradicts itself.
    """
    from igpt_tf.data.augment import NAMES

    defaults = {field.name: field.default for field in dataclasses.fields(settings_class)}
    typed = {name: getattr(options, name) for name in defaults if hasattr(options, name)}
    for name, other in INSTEAD.items():
        if name in typed and other in typed:
            raise UsageError(f"expected --{name} or --{other}, got both: give one of them")
    if "augment" in typed:
        if not set(typed["augment"]) <= set(NAMES):
            raise UsageError(f"--augment: expected some of {', '.join(NAMES)}, got {' '.join(typed['augment'])}")
        typed["augment"] = tuple(typed["augment"])
    settings = {**defaults, **(dataclasses.asdict(recipe.settings) if recipe else {})}
    settings |= {INSTEAD[name]: defaults[INSTEAD[name]] for name in typed if name in INSTEAD}
    # The batch and its micro-batches depend on the devices: `with_batch` decides them together.
    return settings_class(**{**settings, **typed, "accumulate": 1})
