"""Keras' backend: the one that the user names, or else one that is installed; chosen before Keras is imported."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from igpt_tf.cli.console import doing, remark
from igpt_tf.errors import UsageError, UserError, reason_of

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX"}


def choose_backend(typed: str | None) -> None:
    """Have Keras load the backend of --backend, of KERAS_BACKEND or of Keras' own file, or else one that is installed.

    Raises:
        UsageError: if Keras has loaded another one than `typed` in this process.
        UserError: if it is not installed.
    """
    if "keras" in sys.modules:
        loaded = sys.modules["keras"].backend.backend()
        if typed not in (None, loaded):
            raise UsageError(f"--backend: expected {loaded}, which Keras has loaded in this process, got {typed}")
        return
    there = [name for name in BACKENDS if _is_installed(name)]
    named = typed or os.environ.get("KERAS_BACKEND")
    wanted = named or _configured()
    if wanted in BACKENDS and wanted not in there and there:
        if named:
            place = "--backend" if typed else "KERAS_BACKEND"
            raise UserError(f"{place}: expected {there[0]}, which is installed, got {named}, which is not: install it")
        wanted = there[0]
        remark(f"computing with {BACKENDS[wanted]}, as {BACKENDS[_configured()]} is not installed")
    os.environ["KERAS_BACKEND"] = wanted


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # a broken or half-removed package
        return False


def _configured() -> str:
    """The backend in Keras' own file, which it writes with its default."""
    folder = Path(os.environ.get("KERAS_HOME") or Path("~").expanduser() / ".keras")
    try:
        return str(json.loads((folder / "keras.json").read_text(encoding="utf-8"))["backend"])
    except (OSError, ValueError, LookupError, TypeError):
        return "tensorflow"


def load_backend(typed: str | None = None, touch_devices: bool = True, threads: int | None = None) -> None:
    """Load Keras and its backend without the remarks that TensorFlow's libraries make about the machine.

    Args:
        typed: name of the backend; None: chosen by `choose_backend`.
        touch_devices: compute something, for the remarks that come with the first computation.
        threads: processor cores to compute on; None: all.
    """
    choose_backend(typed)
    with doing(f"loading {BACKENDS.get(os.environ.get('KERAS_BACKEND', ''), 'Keras')}"), silenced():
        try:
            import keras

            import igpt_tf.backend  # noqa: F401  (sets what JAX reads when it starts)

            if threads is not None:
                from igpt_tf.backend.devices import limit_threads

                limit_threads(threads)
            if touch_devices:
                keras.ops.zeros(1)
            if keras.backend.backend() not in BACKENDS:
                raise ValueError(keras.backend.backend())
        except (ImportError, ValueError) as error:
            raise UserError(
                f"expected TensorFlow or JAX as Keras' backend, got {reason_of(error)}: install tensorflow, "
                "or jax and set KERAS_BACKEND=jax"
            ) from error


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Hide what libraries write to standard error when they are loaded."""
    # They are written before any logging can be configured.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with open(os.devnull, "wb") as nowhere, redirected(2, nowhere.fileno()):
        yield


@contextlib.contextmanager
def redirected(descriptor: int, to: int) -> Iterator[None]:
    """What libraries write to one of the process' files goes to another in this scope."""
    (sys.stdout if descriptor == 1 else sys.stderr).flush()
    kept = os.dup(descriptor)
    os.dup2(to, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
