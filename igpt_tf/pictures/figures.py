"""Figures of images while they are drawn: their given pixels, grids with names, and the frames of a film."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from igpt_tf.pictures.writing import grid

T = TypeVar("T")

# The grey of pixels that are not drawn yet.
BLANK = 220
FRAMES = 64
# Narrower cells have no room for a name, in pixels.
READABLE = 96
LEAST_TEXT, MOST_TEXT = 11, 24


def seen(pictures: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pictures (N, height, width, C) with every pixel blank that is not known (T,) or (N, T)."""
    known = known.reshape(-1, *pictures.shape[1:3], 1)  # (N or 1, T) to one channel of each picture
    return np.where(known, pictures, np.uint8(BLANK))


def film(pictures: np.ndarray, known: np.ndarray, layout: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Frames that show pictures being drawn in raster order, from what is known to all of it.

    Args:
        pictures: (N, height, width, C) uint8.
        known: (T,) booleans.
        layout: numbers of the pictures in each row of a frame.
    """
    unknown = np.flatnonzero(~known)
    frames: list[np.ndarray] = []
    for count in np.unique(np.linspace(0, len(unknown), FRAMES).astype(int)):
        shown = known.copy()
        shown[unknown[:count]] = True
        drawn = seen(pictures, shown)
        frames.append(grid([[drawn[i] for i in row] for row in layout]))
    return frames


def in_rows(pictures: Sequence[T] | np.ndarray, columns: int) -> list[list[T]]:
    """The pictures, or their names, as rows of a grid with this many columns."""
    return [list(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]


def name_cells(canvas: np.ndarray, names: Sequence[Sequence[str]], pad: int = 2) -> np.ndarray:
    """A grid with a name below every image, or as it is where images are too small for that.

    Args:
        canvas: what `grid` made, (height, width, 3) uint8.
        names: those of the images, row by row.
        pad: that of the grid.
    """
    height = (len(canvas) - pad) // len(names)
    width = (canvas.shape[1] - pad) // max(map(len, names))
    if width < READABLE:
        return canvas
    size = int(np.clip(width / 20, LEAST_TEXT, MOST_TEXT))
    parts: list[np.ndarray] = []
    for i, row in enumerate(names):
        strip = _paper(size + size // 2 + pad, canvas.shape[1])
        for j, name in enumerate(row):
            _write(strip, pad + j * width + (width - pad) // 2, name, size, width - pad, "ma")
        parts += [canvas[i * height : (i + 1) * height], np.asarray(strip)]
    return np.concatenate([*parts, canvas[-pad:]])


def name_rows(canvas: np.ndarray, names: Sequence[str], pad: int = 2) -> np.ndarray:
    """A grid with a name to the left of every row, or as it is where images are too small for that.

    Args:
        canvas: what `grid` made, (height, width, 3) uint8.
        names: those of the rows.
        pad: that of the grid.
    """
    height = (len(canvas) - pad) // len(names)
    size = int(np.clip(height / 6, LEAST_TEXT, MOST_TEXT))
    if height < size + pad:
        return canvas
    most = 12 * size
    margin = _paper(len(canvas), min(most, max(int(_font(size).getlength(_legible(name))) for name in names) + size))
    for i, name in enumerate(names):
        _write(
            margin, margin.width - size // 2, name, size, margin.width - size // 2, "rm", pad + i * height + height // 2
        )
    return np.concatenate([np.asarray(margin), canvas], axis=1)


def _paper(height: int, width: int) -> Image.Image:
    return Image.new("RGB", (width, height), "white")


def _write(paper: Image.Image, x: float, text: str, size: int, width: int, anchor: str, y: float = 0) -> None:
    """Write a line of text, shortened in its middle until it is at most `width` pixels wide."""
    font, text = _font(size), _legible(text)
    shown, kept = text, len(text)
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"
    ImageDraw.Draw(paper).text((x, y), shown, "black", font, anchor)


def _legible(text: str) -> str:
    """The text on one line, with a question mark for every letter that the font lacks."""
    lacking = _shape("\uffff")
    return "".join(
        letter if letter == " " or (letter.isprintable() and _shape(letter) != lacking) else "?" for letter in text
    )


def _shape(letter: str) -> bytes:
    """The pixels of a letter."""
    paper = Image.new("L", (2 * LEAST_TEXT, 2 * LEAST_TEXT))
    ImageDraw.Draw(paper).text((0, 0), letter, 255, _font(LEAST_TEXT))
    return paper.tobytes()


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu, which has the letters of most alphabets and comes with matplotlib; else Pillow's, which has ASCII's."""
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib is not None and matplotlib.origin is not None:
        path = Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(path, size)
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))
