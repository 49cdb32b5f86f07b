"""The command line that draws the same pictures as the page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

import numpy as np

from igpt_tf.sampling.controls import Controls
from igpt_tf.studio.orders import Order

MASK_FILE = "mask.png"
DEFAULTS = {"temperature": 1.0, "top_k": None, "top_p": None, "guidance": 1.0}


def command_of(
    order: Order, n_px: int, is_smc: bool, at_once: int, program: str = "igpt", from_nothing: str = "sample"
) -> str:
    """The line that draws an order's candidates, and writes them to out/.

    Args:
        order: the drawing.
        n_px: side of the model's images.
        is_smc: whether its method is smc.
        at_once: images that are drawn at once; another number may round otherwise.
        program: how the user calls the program.
        from_nothing: the command that draws whole pictures.
    """
    picture = f"./{order.picture}" if order.picture.startswith("-") else order.picture
    region = [] if order.known is None else _region(order.known, n_px)
    method = [] if order.method == "auto" else ["--method", order.method]
    words = [from_nothing] if order.tokens is None else ["complete", picture, *region, *method]
    words += ["--particles", order.particles] if is_smc else []
    words += ["--model", order.model, "--n", order.n, "--seed", order.seed, "--n_sub_batch", at_once]
    words += _options(order.controls)
    if order.class_name is not None:
        words += ["--class_name", order.class_name]
    return f"{program} {_quoted(words)}"


def _options(controls: Controls) -> list[str]:
    """The options of temperature, filters and guidance that are not as usual."""
    words = []
    for name, default in DEFAULTS.items():
        value = getattr(controls, name)
        if value != default:
            words += [f"--{name}", f"{value:g}" if float(f"{value:g}") == value else repr(value)]
    return words


def _region(known: np.ndarray, n_px: int) -> list[str]:
    """The options for the known pixels."""
    rows, grid = int(known.sum()) // n_px, known.reshape(n_px, n_px)
    if known[: rows * n_px].all() and not known[rows * n_px :].any():
        return ["--rows", str(rows)]
    down, across = np.flatnonzero(~grid.all(axis=1)), np.flatnonzero(~grid.all(axis=0))
    top, left = down[0], across[0]
    height, width = down[-1] + 1 - top, across[-1] + 1 - left
    if not grid[top : top + height, left : left + width].any():
        return ["--box", f"{left},{top},{width},{height}"]
    return ["--mask", MASK_FILE]


def _quoted(words: Iterable[object]) -> str:
    return shlex.join(map(str, words))
