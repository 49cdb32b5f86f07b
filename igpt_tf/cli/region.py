"""The region of a picture that is drawn: `--rows`, `--box` or `--mask`, in pixels of the model or the photograph."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from igpt_tf.cli.console import remark
from igpt_tf.errors import UsageError, listed, naming

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.pictures.photograph import Box, Photograph

MODEL, PHOTO, PER_CENT = "", "px", "%"
_LENGTH = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)(px|%)?")


class Lengths(NamedTuple):
    """Numbers of one unit: pixels of the model, pixels of the photograph, or per cents of the photograph."""

    numbers: tuple[float, ...]
    unit: str
    text: str


@dataclass
class Region:
    """What is given of one picture.

    Args:
        known: (T,) booleans.
        box: the part of the photograph that is drawn, if it was named in the photograph's measures.
        understood: how the measures were understood, if they are not those of the model.
    """

    known: np.ndarray
    box: Box | None = None
    understood: str = ""


def add_region_options(parser: argparse.ArgumentParser) -> None:
    """Declare --rows, --box and --mask."""
    region = parser.add_mutually_exclusive_group()
    region.add_argument(
        "--rows",
        type=rows,
        metavar="N[px|%]",
        help="rows that are given: 16 of the model's, 600px of the photograph's, or 50%% of the photograph; more "
        "than the model has are the photograph's (default: half of the picture)",
    )
    region.add_argument(
        "--box",
        type=box,
        metavar="X,Y,W,H[px|%]",
        help="fill this box: left, top, width and height in the model's pixels, in the photograph's with px at the "
        "end, or in per cents of it with %%; a box that exceeds the model's size is in the photograph's pixels",
    )
    region.add_argument(
        "--mask", type=Path, help="picture whose white parts are filled; resized and cropped as the pictures are"
    )


def rows(text: str) -> Lengths:
    """A number of rows and its unit."""
    return _lengths(text, 1, "a whole number of at least 0, or one with px or % such as 600px or 50%")


def box(text: str) -> Lengths:
    """Four numbers with commas between them, and their unit."""
    return _lengths(text, 4, "x,y,width,height such as 8,8,16,16, or 25%,25%,50%,50%, or 300,200,400,400px")


def _lengths(text: str, n: int, expected: str) -> Lengths:
    """n numbers; a unit at the last one alone is that of all of them."""
    found = [_LENGTH.fullmatch(part.strip().lower()) for part in text.split(",")]
    matches = [match for match in found if match]
    units = [match[2] or MODEL for match in matches]
    numbers = [float(match[1]) for match in matches]
    one_unit = len(set(units)) == 1 or set(units[:-1]) == {MODEL}
    whole = bool(units) and (units[-1] == PER_CENT or all(number.is_integer() for number in numbers))
    if len(found) != n or len(matches) != n or not one_unit or not whole or (n == 1 and numbers[0] < 0):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return Lengths(tuple(numbers), units[-1], text)


def regions_of(options: argparse.Namespace, photos: list[Photograph], n_px: int) -> list[Region]:
    """The region of each photograph."""
    from igpt_tf.pictures.imaging import read_with_alpha
    from igpt_tf.sampling.region import known_by_mask, known_rows

    if options.box is not None:
        return [_box(options.box, photo, n_px) for photo in photos]
    if options.rows is not None:
        return [_rows(options.rows, photo, n_px) for photo in photos]
    if options.mask is None:
        return [Region(known_rows(n_px, n_px // 2))] * len(photos)
    mask = read_with_alpha(options.mask)
    with naming(options.mask):
        return [Region(known_by_mask(mask, n_px))] * len(photos)


def _rows(rows: Lengths, photo: Photograph, n_px: int) -> Region:
    """The upper rows are given."""
    from igpt_tf.sampling.region import known_rows

    (number,) = rows.numbers
    if rows.unit == MODEL and number <= n_px:
        n_rows = int(number)
        y, understood = None, ""
    else:
        y = number * photo.height / 100 if rows.unit == PER_CENT else number
        if y > photo.height:
            rows_of = f"0 to {n_px} as the model has, or " if rows.unit == MODEL else ""
            most = "100%" if rows.unit == PER_CENT else photo.height
            raise UsageError(f"--rows: expected {rows_of}0 to {most} as {photo.name} has, got {rows.text}: give fewer")
        n_rows = photo.rows_within(y, n_px)
        understood = f"{_unit(rows, photo)}; {n_rows} of the model's {n_px} rows are given"
    if n_rows == n_px:
        most = "" if y is None else f" that the model sees of {photo.name}"
        raise UsageError(
            f"--rows: expected fewer than the {n_px} rows of the pictures{most}, got {rows.text}: give fewer"
        )
    part = None if y is None else (0, y, photo.width, photo.height - y)
    return Region(known_rows(n_px, n_rows), part, understood)


def _box(box: Lengths, photo: Photograph, n_px: int) -> Region:
    """All but a box is given."""
    from igpt_tf.sampling.region import known_outside_box

    x, y, width, height = box.numbers
    if box.unit == MODEL and _fits((x, y, width, height), n_px, n_px):
        return Region(known_outside_box(n_px, *map(int, box.numbers)))
    if box.unit == PER_CENT:
        x, width = x * photo.width / 100, width * photo.width / 100
        y, height = y * photo.height / 100, height * photo.height / 100
    if not _fits((x, y, width, height), photo.width, photo.height):
        size = f"{photo.name}'s {photo.width} x {photo.height}"
        inside = f"the model's {n_px} x {n_px} or {size}" if box.unit == MODEL else size
        raise UsageError(
            f"--box: expected a box x,y,width,height of at least 1 x 1 pixels inside {inside}, got {box.text}"
        )
    cells = photo.within((x, y, width, height), n_px)
    if cells is None:
        raise UsageError(
            f"--box: expected a box in the central square {photo.left},{photo.top},{photo.side},{photo.side} of "
            f"{photo.name}, which the model sees, got {box.text}: crop the photograph around the box first"
        )
    understood = f"{_unit(box, photo)}; drawn is {','.join(map(str, cells))} of the model's {n_px} x {n_px}"
    return Region(known_outside_box(n_px, *cells), (x, y, width, height), understood)


def _fits(box: Box, width: float, height: float) -> bool:
    """Whether a box is not empty and lies in a picture."""
    x, y, wide, high = box
    slack = 1e-6
    return min(x, y) >= 0 and min(wide, high) > 0 and x + wide <= width + slack and y + high <= height + slack


def _unit(lengths: Lengths, photo: Photograph) -> str:
    """What numbers were taken for."""
    kind = "per cents" if lengths.unit == PER_CENT else "pixels"
    return f"{lengths.text} are {kind} of {photo.name} ({photo.width} x {photo.height})"


def read_squares(pictures: list[str], n_px: int) -> tuple[list[str], list[Photograph], np.ndarray]:
    """Paths or addresses, sizes, and central squares (N, n_px, n_px, 3) of the photographs."""
    import numpy as np

    from igpt_tf.download.http import read_url
    from igpt_tf.pictures.crop import resize_and_crop
    from igpt_tf.pictures.photograph import Photograph
    from igpt_tf.pictures.reading import each_picture

    sources, photos, squares = [], [], []
    for source, photo, (width, height) in each_picture(pictures, read_url):
        sources.append(source)
        name = Path(unquote(urlsplit(source).path) if "://" in source else source).name
        photos.append(Photograph(name, width, height))
        squares.append(resize_and_crop(photo, n_px))
    return sources, photos, np.stack(squares)


def tell_regions(options: argparse.Namespace, photos: list[Photograph], regions: list[Region]) -> None:
    """Say how measures were understood, and what was cropped from photographs."""
    understood = list(dict.fromkeys(region.understood for region in regions if region.understood))
    if understood:
        remark(f"{'--rows' if options.box is None else '--box'}: {listed(understood, 3)}")
    cropped = [photo.cropped for photo in photos if photo.cropped]
    if cropped:
        remark(f"cropped to the central square, which the model sees: {listed(cropped, 3)}")
