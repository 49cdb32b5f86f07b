"""Compiling with Numba, and keeping the machine code on disk, where that is possible."""

# Numba declares no types.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core import config
from numba.core.registry import cpu_target
from numba.core.sigutils import normalize_signature

from igpt_tf.storage.places import cache_folder


def compiled(**options: Any) -> Callable[[Callable], Any]:
    """Compile a function when it is first called, to run without Python's lock.

    Machine code is kept in the user's cache. A folder that cannot be written, a full disk or a damaged file cost the
    time to compile anew, and nothing else.

    Args:
        options: of `numba.njit`.
    """

    # As NumPy divides: a check for 0 would keep loops from running in vectors.
    options = {"nogil": True, "error_model": "numpy", **options}

    def decorate(function: Callable) -> Any:
        if FOLDER is None:
            return njit(**options)(function)
        before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
        try:
            dispatcher = njit(cache=True, **options)(function)
        except (RuntimeError, OSError):  # there is no folder that can be written
            return njit(**options)(function)
        finally:
            config.CACHE_DIR = before
        cache = dispatcher._cache
        cache.load_overload = _forgiving(_checked(cache.load_overload))
        cache.save_overload = _forgiving(cache.save_overload)
        return dispatcher

    return decorate


def processor() -> str:
    """What Numba compiles for: the name of a processor and its features; NUMBA_CPU_NAME names another."""
    return str(cpu_target.target_context.codegen().magic_tuple())


def _checked(load: Callable) -> Callable:
    """A method that loads machine code, which returns None for that of other types.

    Two processes that keep code of two types at once may give both the same file.
    """

    def call(signature: Any, *arguments: Any) -> Any:
        found = load(signature, *arguments)
        types, _ = normalize_signature(signature)
        return found if found is not None and tuple(found.signature.args) == tuple(types) else None

    return call


def _forgiving(method: Callable) -> Callable:
    """A method of Numba's cache that does nothing where it would fail."""

    def call(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception:  # whatever a damaged file or a full disk leads to
            return None

    return call


def _folder() -> Path | None:
    """A folder for this version of all sources and this kind of processor.

    Numba itself looks at the file of each function alone, and machines of two kinds that share a home could give their
    code the same file.

    None where the user has no home: a folder that others can write to could hold code of theirs.
    """
    digest = hashlib.sha256(f"{numba.__version__} {processor()}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    root = Path(config.CACHE_DIR) if config.CACHE_DIR else cache_folder()
    return root and root / f"kernels-{digest.hexdigest()[:16]}"


FOLDER = _folder()
