"""Saving a training run so that it can be stopped at any moment and goes on exactly."""

from __future__ import annotations

import json
from pathlib import Path

import keras

from igpt_tf.errors import UserError
from igpt_tf.files import atomic_write

STATE_FILE = "training.json"


class RunCheckpoint(keras.callbacks.Callback):
    """After every epoch, write weights and optimiser state, then the file that names them.

    `training.json` is renamed into place last and holds the history and the settings as well, so whenever
    the process dies the folder describes one moment of the run; the weights of the moment before stay
    until it does.

    Args:
        folder: the run's folder; created if needed.
        settings: what decides the course of the run; a run with other settings is not resumed.
    """

    def __init__(self, folder: str | Path, settings: dict) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.settings = settings
        self.history: list[dict[str, float]] = []

    def restore(self, model: keras.Model) -> int:
        """Load the latest state into a compiled model and return the epoch to go on with (0 for a new run).

        Raises:
            UserError: if the folder cannot be written, holds a run with other settings, or its state cannot be read.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"Cannot write {self.folder}: {error.strerror}. Choose a folder that is writable."
            ) from error
        state = read_state(self.folder)
        if state is None:
            return 0
        if state["settings"] != self.settings:
            changed = [k for k in self.settings if self.settings[k] != state["settings"].get(k)]
            told = ", ".join(f"{k} was {state['settings'].get(k)} and is now {self.settings[k]}" for k in changed)
            raise UserError(f"{self.folder} holds another run ({told}): give its settings to go on, or another --out")
        model.optimizer.build(model.trainable_variables)
        weights = self.folder / state["weights"]
        try:
            model.load_weights(weights)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{weights}: expected this run's weights, found {error}; start anew with another --out"
            ) from error
        self.history = state["history"]
        return len(self.history)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the state after `epoch`."""
        self.history.append({name: float(value) for name, value in (logs or {}).items()})
        weights = self.folder / f"epoch-{epoch + 1:05d}.weights.h5"
        partial = weights.with_name(f".partial-{weights.name}")
        try:
            self.model.save_weights(partial, overwrite=True)
            partial.replace(weights)
        except OSError as error:
            raise UserError(f"Cannot write {weights}: {error}. Make room; the same command then goes on.") from error
        finally:
            partial.unlink(missing_ok=True)
        state = {"weights": weights.name, "settings": self.settings, "history": self.history}
        with atomic_write(self.folder / STATE_FILE) as file:
            file.write(json.dumps(state, indent=1).encode())
        for old in self.folder.glob("*.weights.h5"):
            if old != weights:
                old.unlink(missing_ok=True)


def read_state(folder: str | Path) -> dict | None:
    """The state that `RunCheckpoint` wrote last, or None where no run has been."""
    path = Path(folder) / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return {key: state[key] for key in ("weights", "settings", "history")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: expected the state of a training run, found {error}; start anew with another --out"
        ) from error
