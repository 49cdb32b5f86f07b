"""What makes a run this run and no other, and what of it may change when the run is resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from igpt_tf.errors import UserError
from igpt_tf.training.settings import PROLONGABLE

# What may change when a run is resumed, if that is asked for: nothing here changes what the files hold.
CHANGEABLE = ("learning_rate", "clip_norm", "compute_dtype")
# What runs were trained with that were begun before these were settings.
BEFORE = {"optimizer": "adam", "beta2": 0.95, "class_dropout": 0.1}
# The settings that a run of a schedule with an end of its own may change before that end comes near.
LENGTH = ("steps", "epochs", "decay_begin")


def check_identity(
    path: Path,
    recorded: dict[str, Any],
    identity: dict[str, Any],
    step: int,
    accept_changes: bool,
    warn: Callable[[str], object],
) -> None:
    """Refuse to resume another run.

    Args:
        path: the run's folder.
        recorded: the identity in the run's record.
        identity: of the run that is to resume it.
        step: of the record.
        accept_changes: allow another learning rate, clipping or precision.
        warn: is called with a line where the run gets another length.

    Raises:
        UserError: if the identities differ in more than may change.
    """
    # Runs of a constant rate were begun without these two, which follow from their settings.
    derived = {name: identity[name] for name in ("warmup", "steps_per_interval") if name in identity}
    before = {**derived, **{name: BEFORE[name] for name in BEFORE if name in identity}, **recorded}
    changed = _changed(before, identity)
    if not changed:
        return
    if set(changed) <= set(LENGTH):
        begin = min(before.get("decay_begin", step), identity.get("decay_begin", step))
        schedule = before.get("schedule")
        if schedule in PROLONGABLE and step <= begin:
            warn(f"{path}: continuing from step {step} with another length")
            return
        fact = f"a {schedule} schedule depends on it"
        if schedule in PROLONGABLE:
            fact = f"the learning rate has been falling since step {begin} of {step}"
        raise UserError(
            f"{path}: expected the length it began with, as {fact}, got another "
            f"({differences(before, identity, '{} was {} and is now {}')}): begin a new run from its weights "
            "in another folder (`init_from`), and choose `schedule` constant to be able to continue that one"
        )
    changes = differences(before, identity, "{} was {} and is now {}")
    found = f"{path}: expected the run that this folder holds, got another ({changes})"
    if any(name not in CHANGEABLE for name in changed):
        raise UserError(f"{found}: give its settings to resume it, or use another folder")
    if not accept_changes:
        raise UserError(
            f"{found}: give its settings to resume it, accept the changes (`accept_changes`), or use another folder"
        )


def differences(first: dict[str, Any], second: dict[str, Any], template: str) -> str:
    """The fields in which two identities differ, for a message."""
    return ", ".join(template.format(name, first.get(name), second.get(name)) for name in _changed(first, second))


def _changed(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]
