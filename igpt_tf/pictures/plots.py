"""Figures made with matplotlib: how they are written, and those of palettes and completions."""

# matplotlib declares too few types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import colorsys
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from igpt_tf.storage.files import atomic_write

# The suffixes of figures.
FORMATS = (".png", ".pdf", ".svg")
# Longer names are shortened in their middle.
MOST_LETTERS = 24
SMALL = 8


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure, whole or not at all, in the format of its suffix, or as PNG if that is none of `FORMATS`."""
    suffix = path.suffix.lower()
    with atomic_write(path) as file, warnings.catch_warnings():
        # Names may be in any script, and the font may lack it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format=suffix[1:] if suffix in FORMATS else "png", dpi=120)


def panels(figure: Any, rows: int, columns: int) -> np.ndarray:
    """Axes (rows, columns) for images, without ticks and frames."""
    found = figure.subplots(rows, columns, squeeze=False)
    for axes in found.flat:
        axes.set_axis_off()
    return found


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Show an image (height, width, 1 or 3) uint8, each pixel as a square."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def entitle(axes: Axes, text: str, **options: Any) -> None:
    """Write a title that may hold a file's name: shortened, and no formula."""
    kept = MOST_LETTERS // 2 - 1
    lines = [line if len(line) <= MOST_LETTERS else f"{line[:kept]}...{line[-kept:]}" for line in text.split("\n")]
    legible = "\n".join(lines).encode("utf-8", "backslashreplace").decode()
    axes.set_title(legible, fontsize=SMALL, **options).set_parse_math(False)


def draw_palette(path: Path, colors: np.ndarray, pictures: Sequence[tuple[str, np.ndarray, np.ndarray]] = ()) -> None:
    """Draw the colours of a palette, sorted, and pictures beside what it makes of them.

    Args:
        path: of the figure.
        colors: (V, 1 or 3) uint8.
        pictures: the name of each, the picture (height, width, 1 or 3) uint8, and the same in these colours.
    """
    rgb = np.broadcast_to(colors, (len(colors), 3))
    columns = math.ceil(math.sqrt(2 * len(rgb)))
    cells = np.full((math.ceil(len(rgb) / columns) * columns, 3), 255, np.uint8)
    cells[: len(rgb)] = rgb[sorted(range(len(rgb)), key=lambda i: _place(rgb[i]))]
    heights = [3, *[1.6] * len(pictures)]
    figure = Figure(figsize=(6, sum(heights) + 0.3), layout="constrained")
    top, *below = np.atleast_1d(cast("Any", figure.subfigures(len(heights), 1, height_ratios=heights)))
    (axes,) = panels(top, 1, 1).flat
    show_image(axes, cells.reshape(-1, columns, 3))
    entitle(axes, f"{len(colors):,} colours")
    for band, (name, before, after) in zip(below, pictures, strict=True):
        left, middle, right = panels(band, 1, 3).flat
        error = np.abs(before.astype(int) - after).mean(axis=-1)
        show_image(left, before)
        show_image(middle, after)
        shown = right.imshow(error, cmap="magma", vmin=0, interpolation="nearest")
        band.colorbar(shown, ax=right, label="error, of 255")
        entitle(left, name)
        entitle(middle, f"in {len(np.unique(after.reshape(-1, after.shape[-1]), axis=0)):,} of the colours")
        entitle(right, f"mean error {error.mean():.1f} of 255")
    write_figure(path, figure)


def _place(color: np.ndarray) -> tuple[float, ...]:
    """Where a colour is sorted: greys first, then by hue, dark before bright."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(color / 255))
    return (-1, value) if saturation < 0.15 else (int(12 * hue), value)


def draw_completions(path: Path, given: np.ndarray, drawn: np.ndarray, originals: np.ndarray) -> None:
    """Draw a row for each picture: its known part, its completions, the original; the paper's figure 1.

    Args:
        path: of the figure.
        given: (N, height, width, 1 or 3) uint8, blank where nothing is known.
        drawn: (N, n, height, width, 1 or 3) uint8.
        originals: (N, height, width, 1 or 3) uint8.
    """
    n = drawn.shape[1]
    figure = Figure(figsize=(1.2 * (n + 2), 1.2 * len(given) + 0.3), layout="constrained")
    widths = [1, n, 1]
    groups = cast("Any", figure.subfigures(1, 3, width_ratios=widths))
    titles = ("given", "completions" if n > 1 else "completion", "original")
    for group, title, images in zip(groups, titles, (given[:, None], drawn, originals[:, None]), strict=True):
        group.suptitle(title, fontsize=SMALL + 2)
        for axes, image in zip(
            panels(group, *images.shape[:2]).flat, images.reshape(-1, *images.shape[2:]), strict=True
        ):
            show_image(axes, image)
    write_figure(path, figure)
