"""Writing what was drawn: pictures, their grid and the film of their drawing."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

import numpy as np

from igpt_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    from igpt_tf.palette import Palette

# What is not drawn yet, in grids and films.
BLANK = 220
FRAMES = 64


def check_places(options: argparse.Namespace) -> None:
    """Refuse places that cannot be written before the work is done, not after."""
    if options.grid is not None and (options.grid.suffix.lower() != ".png" or options.grid.is_dir()):
        raise UsageError(f"--grid: expected the name of a .png file, found {options.grid}")
    for folder in (options.out, *([options.grid.parent] if options.grid else [])):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder}: cannot be written (no permission); choose another folder")


def write_results(
    options: argparse.Namespace,
    named: dict[str, np.ndarray],
    rows: list[list[np.ndarray]],
    frames: list[np.ndarray] | None,
) -> None:
    """Write each picture under its name and the grid of `rows`, and print the paths, the grid's last.

    Args:
        options: `out`, `grid`, `scale` and `json` of the sampling options.
        named: file name to picture (n_px, n_px, channels) uint8.
        rows: pictures of the grid, row by row.
        frames: of drawing.gif, or None.
    """
    from igpt_tf.imaging import grid, write_gif, write_png

    paths = [options.out / name for name in named]
    for path, picture in zip(paths, named.values(), strict=True):
        write_png(path, picture)
    grid_path = options.grid or options.out / "grid.png"
    write_png(grid_path, grid(rows, scale=options.scale))
    result = {"images": [str(path) for path in paths], "grid": str(grid_path)}
    if frames is not None:
        gif_path = options.out / "drawing.gif"
        write_gif(gif_path, frames, scale=options.scale)
        result["gif"] = str(gif_path)
    if options.json:
        print(json.dumps(result))
        return
    for path in [*result["images"], *([result["gif"]] if "gif" in result else []), result["grid"]]:
        print(path)


def seen(pictures: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pictures (N, n_px, n_px, C) with the pixels that are not known (T,) blank."""
    known = known.reshape(1, *pictures.shape[1:3], 1)
    return np.where(known, pictures, np.uint8(BLANK))


def film(palette: Palette, tokens: np.ndarray, known: np.ndarray, columns: int) -> list[np.ndarray]:
    """Frames of pictures that are drawn in raster order from what is known.

    Args:
        palette: of the tokens.
        tokens: (N, T).
        known: (T,) booleans.
        columns: pictures in a row of each frame.
    """
    from igpt_tf.imaging import grid

    pictures = palette.dequantize(tokens)
    unknown = np.flatnonzero(~known)
    frames = []
    for count in np.unique(np.linspace(0, len(unknown), FRAMES).astype(int)):
        shown = known.copy()
        shown[unknown[:count]] = True
        frames.append(grid(in_rows(list(seen(pictures, shown)), columns)))
    return frames


def in_rows(pictures: list[np.ndarray], columns: int) -> list[list[np.ndarray]]:
    """Pictures in rows of so many columns."""
    return [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
