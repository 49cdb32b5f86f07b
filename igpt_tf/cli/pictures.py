"""What `sample` and `complete` write beside the pictures: the grid, the films, and the lines on standard output."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.console import remark, report
from igpt_tf.cli.opening import CANNOT_DRAW, open_model, open_palette, refuse_bert
from igpt_tf.cli.parser import controls_of, positive
from igpt_tf.errors import UsageError, listed, meant
from igpt_tf.storage.files import check_outputs, check_writable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from igpt_tf.pictures.palette import Palette
    from igpt_tf.sampling import Controls
    from igpt_tf.weights.presets import Preset

# A grid and a film show this many pictures of a series, or rows of completions.
SHOWN = 100
# The names of figures that show all pictures.
GRID, FILM = "grid.png", "drawing.gif"
# Pixels of a figure by default, and of any picture at most, which is what Pillow opens without a warning.
USUAL_PIXELS, MOST_PIXELS = 1 << 24, 89_478_485


def add_figure_options(parser: argparse.ArgumentParser, scaled: str) -> None:
    """Declare the options for the grid, the film and the size; `scaled` says what --scale enlarges."""
    add = parser.add_argument
    add("--grid", type=Path, help="where the pictures' grid goes, a .png file (default: in --out)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--scale", type=positive, help=scaled)
    size.add_argument("--size", type=positive, metavar="PIXELS", help="the same as a number of pixels, such as 512")
    add("--pixels", action="store_true", help="write each picture at the model's own size, whatever the scale")
    add(
        "--gif",
        nargs="?",
        const=True,
        metavar="FILM.gif",
        help="also write a film of the pictures, pixel by pixel (default: drawing.gif in --out)",
    )


def open_drawing(options: argparse.Namespace) -> tuple[Controls, Preset, Palette]:
    """How colours are drawn, the model and its palette; places that cannot be written are refused before the work."""
    controls = controls_of(options)
    preset = open_model(options)
    refuse_bert(preset, CANNOT_DRAW)
    options.classes = choose_classes(options.classes, preset)
    if options.classes is None and controls.guidance != 1:
        raise UsageError("--guidance: expected --class_name with it, got it alone: name a class")
    _check_size(options, preset.config.n_px)
    named = {"--grid": options.grid, "--gif": Path(options.gif) if isinstance(options.gif, str) else None}
    for (flag, path), suffix in zip(named.items(), (".png", ".gif"), strict=True):
        if path is not None and (path.suffix.lower() != suffix or path.is_dir()):
            raise UsageError(f"{flag}: expected the name of a {suffix} file, got {path}")
    for folder in (options.out, *(path.parent for path in named.values() if path is not None)):
        check_writable(folder)
    return controls, preset, open_palette(options, preset)


def _check_size(options: argparse.Namespace, n_px: int) -> None:
    """Turn --size into `scale`; refuse what no picture can have."""
    if options.size is not None:
        options.scale, rest = divmod(options.size, n_px)
        if rest or not options.scale:
            near = " or ".join(str(n * n_px) for n in (options.scale, options.scale + 1) if n)
            raise UsageError(
                f"--size: expected a multiple of the model's {n_px} pixels, got {options.size}: give {near}"
            )
    most = largest_scale(n_px)
    if options.scale is not None and options.scale > most:
        flag, asked, unit = ("--scale", options.scale, 1) if options.size is None else ("--size", options.size, n_px)
        raise UsageError(
            f"{flag}: expected at most {most * unit}, as larger pictures need too much memory, got {asked}: give less"
        )


def largest_scale(n_px: int) -> int:
    """How often the pixels of one picture can be repeated."""
    return max(1, math.isqrt(MOST_PIXELS) // n_px)


def choose_classes(words: list[str] | None, preset: Preset) -> list[int | str] | None:
    """The classes that the user named, by name or number; every class for `all`."""
    if words is None:
        return None
    if preset.config.n_start == 1:
        raise UsageError(f"--class_name: expected a model that was trained with classes, got {preset.source}")
    names = preset.start_classes or ()
    if words == ["all"] and "all" not in names:
        return list(range(preset.config.n_start - 1))
    for word in words:
        if word not in names and not (word.isdigit() and int(word) < preset.config.n_start - 1):
            shown = word if word.isdigit() else repr(word)
            known = listed(names) or f"a number from 0 to {preset.config.n_start - 2}"
            raise UsageError(f"--class_name: expected one of {known}, got {shown}{meant(word, names)}")
    return [int(word) if word not in names else word for word in words]


def existing(options: argparse.Namespace, outputs: Iterable[Path], inputs: Iterable[str | Path] = ()) -> list[Path]:
    """The outputs that are there already; a `UserError` if one is an input, the palette or a file of the model."""
    model = Path(options.model)
    files = [*model.iterdir()] if model.is_dir() else [*model.parent.glob(f"{model.name}*")] if model.name else []
    palette = [] if options.palette is None else [options.palette]
    return check_outputs(outputs, [*inputs, *palette, *files])


def choose_scale(options: argparse.Namespace, usual: int, shown: int, n_px: int, film: bool = False) -> int:
    """How often the pixels of a figure are repeated: as the user says or as is usual, as far as there is room.

    Args:
        options: parsed options, of which `scale` counts.
        usual: the scale by default.
        shown: places for pictures in the figure.
        n_px: side of the pictures.
        film: whether it is a film, whose frames are all in memory.
    """
    room = USUAL_PIXELS if options.scale is None else MOST_PIXELS
    most = max(1, math.isqrt((room // 8 if film else room) // (shown * n_px**2)))
    if options.scale is not None and options.scale > most:
        kind = "film" if film else "grid"
        remark(
            f"the {kind} of {shown} pictures is enlarged {most} times, not {options.scale}, which would be too large"
        )
    return min(options.scale or usual, most)


def finish(
    options: argparse.Namespace,
    paths: list[Path],
    figure: tuple[Path, np.ndarray],
    films: Mapping[Path, tuple[list[np.ndarray], int]],
    n: int | None = None,
) -> None:
    """Write the grid and the films, and print where everything is, the grid last.

    Args:
        options: parsed sampling options, of which `out` and `json` count.
        paths: paths of the pictures that were drawn.
        figure: where the grid goes, and the grid.
        films: frames and scale of each film, by its path.
        n: how many pictures there are, if they are too many to print each.
    """
    from igpt_tf.pictures.writing import write_gif, write_png

    result: dict = {"folder": str(options.out), "n": n or len(paths)}
    lines = [f"{options.out}: {n} pictures"]
    if n is None:
        result["images"] = lines = [str(path) for path in paths]
    for path, (frames, scale) in films.items():
        write_gif(path, frames, scale=scale)
    gifs = [str(path) for path in films]
    if gifs:
        result["gif"] = gifs[0]
    if len(gifs) > 1:
        result["gifs"] = gifs
    path, canvas = figure
    result["grid"] = str(path)
    write_png(path, canvas)
    report(options, result, *lines, *gifs, result["grid"])
