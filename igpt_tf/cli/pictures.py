"""What `sample` and `complete` write beside the pictures: the grid, the film, and the lines on standard output."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.console import report
from igpt_tf.cli.opening import open_model, open_palette
from igpt_tf.cli.parser import controls_of
from igpt_tf.errors import UsageError
from igpt_tf.storage.files import require_writable

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.pictures.palette import Palette
    from igpt_tf.sampling import Controls
    from igpt_tf.weights.presets import Preset

# A grid and a film show this many pictures of a series, or rows of completions.
SHOWN = 100


def open_drawing(options: argparse.Namespace) -> tuple[Controls, Preset, Palette]:
    """How colours are drawn, the model and its palette; places that cannot be written are refused before the work."""
    preset = open_model(options)
    controls = controls_of(options)
    options.classes = choose_classes(options.classes, preset)
    if options.classes is None and controls.guidance != 1:
        raise UsageError("--guidance: expected --class_name with it, got it alone: name a class")
    if options.grid is not None and (options.grid.suffix.lower() != ".png" or options.grid.is_dir()):
        raise UsageError(f"--grid: expected the name of a .png file, got {options.grid}")
    for folder in (options.out, *([options.grid.parent] if options.grid else [])):
        require_writable(folder)
    return controls, preset, open_palette(options, preset)


def choose_classes(words: list[str] | None, preset: Preset) -> list[int | str] | None:
    """The classes that the user named, by name or number; every class for `all`."""
    if words is None:
        return None
    if preset.config.n_start == 1:
        raise UsageError(f"--class_name: expected a model that was trained with classes, got {preset.source}")
    names = preset.start_classes or ()
    if words == ["all"] and "all" not in names:
        return list(range(preset.config.n_start - 1))
    return [int(word) if word.isdigit() and word not in names else word for word in words]


def finish(
    options: argparse.Namespace,
    n: int,
    paths: list[Path],
    rows: list[list[np.ndarray]],
    frames: list[np.ndarray] | None,
) -> None:
    """Write the grid and the film, and print where everything is, the grid last.

    Args:
        options: parsed sampling options, of which `out`, `grid`, `scale` and `json` count.
        n: how many pictures were drawn.
        paths: paths of pictures; printed only if they are all n.
        rows: pictures of the grid, row by row.
        frames: frames of drawing.gif, or None for no film.
    """
    from igpt_tf.pictures.writing import grid, write_gif, write_png

    result: dict = {"folder": str(options.out), "n": n}
    lines = [f"{options.out}: {n} pictures"]
    if len(paths) == n:
        result["images"] = lines = [str(path) for path in paths]
    if frames is not None:
        result["gif"] = str(options.out / "drawing.gif")
        write_gif(result["gif"], frames, scale=options.scale)
    result["grid"] = str(options.grid or options.out / "grid.png")
    write_png(result["grid"], grid(rows, scale=options.scale))
    report(options, result, *lines, *(result[name] for name in ("gif", "grid") if name in result))
