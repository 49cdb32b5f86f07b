"""Fill in what is missing of pictures: rows, a box, or what a mask says."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.opening import load_model
from igpt_tf.cli.parser import add_device_options, add_model_options, add_sampling_options, non_negative, positive
from igpt_tf.cli.pictures import SHOWN, finish, open_drawing
from igpt_tf.cli.series import refuse_series_names
from igpt_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.pictures.palette import Palette


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("pictures", nargs="+", help="picture files, folders of them, or http(s) addresses")
    add_model_options(parser)
    region = parser.add_mutually_exclusive_group()
    region.add_argument("--rows", type=non_negative, help="rows that are given (default: half of the picture)")
    region.add_argument(
        "--box", type=box, metavar="X,Y,W,H", help="fill this box: left, top, width and height in the model's pixels"
    )
    region.add_argument(
        "--mask", type=Path, help="picture whose white parts are filled; resized and cropped as the pictures are"
    )
    shown = f"completions of each picture; the grid and the GIF show the first {SHOWN} pictures"
    add("--n", type=positive, default=4, help=shown)
    add(
        "--method",
        choices=["auto", "forced", "smc"],
        default="auto",
        help="forced: pixels follow what is above and to the left of them, blind to what is given below; smc: they "
        "follow all that is given, the better the more particles, and at the cost of as many images; auto: smc where "
        "something is given below what is drawn",
    )
    add(
        "--particles",
        type=positive,
        default=32,
        metavar="N",
        help="images that smc chooses among and draws at once, however small --n_sub_batch is: lower it when memory "
        "is short",
    )
    add("--best_of", type=positive, default=1, metavar="N", help="draw N candidates and keep the model's likeliest")
    add_sampling_options(parser)
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Complete each picture n times; write NAME_0.png ..., and a grid row of what was given, drawn and true."""
    controls, preset, palette = open_drawing(options)
    from igpt_tf.download.single import read_url
    from igpt_tf.model import ImageGPT
    from igpt_tf.pictures.figures import film, in_rows, seen
    from igpt_tf.pictures.palette import quantize
    from igpt_tf.pictures.reading import names_of, read_pictures
    from igpt_tf.sampling import Sampler

    n_px = preset.config.n_px
    known = _known(options, n_px)
    sources, originals = read_pictures(options.pictures, n_px, read_url)
    paths = [options.out / f"{name}_{k}.png" for name in names_of(sources) for k in range(options.n)]
    refuse_series_names([*paths, *([options.grid] if options.grid else [])])
    model, batch_size = load_model(options, ImageGPT.from_preset, preset)
    tokens = quantize(palette, originals)
    batches = Sampler(model).complete_batches(
        tokens.repeat(options.n, axis=0),
        known,
        controls,
        classes=_classes(options.classes, len(tokens), options.n),
        seed=seeds_of(options.seed, len(tokens), options.n),
        batch_size=batch_size,
        method=options.method,
        n_particles=options.particles,
        best_of=options.best_of,
        progress=True,
    )
    shown = _write(options, batches, palette, paths)[: SHOWN * options.n]
    given = seen(palette.dequantize(tokens[:SHOWN]), known)
    completions = in_rows(shown, options.n)
    rows = [[given[i], *completions[i], originals[i]] for i in range(len(given))]
    frames = film(shown, known, options.n) if options.gif else None
    finish(options, len(paths), paths, rows, frames)


def box(text: str) -> tuple[int, ...]:
    """Four whole numbers with commas between them."""
    try:
        numbers = tuple(int(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError(f"expected x,y,width,height such as 8,8,16,16, got {text!r}")
    return numbers


def _known(options: argparse.Namespace, n_px: int) -> np.ndarray:
    """Booleans (T,): what is given of every picture."""
    from igpt_tf.pictures.imaging import read_image
    from igpt_tf.sampling.region import known_by_mask, known_outside_box, known_rows

    if options.box is not None:
        return known_outside_box(n_px, *options.box)
    if options.mask is None:
        if options.rows == n_px:
            raise UsageError(f"--rows: expected fewer than the {n_px} rows of the pictures, got {n_px}: give fewer")
        return known_rows(n_px, n_px // 2 if options.rows is None else options.rows)
    mask = read_image(options.mask)
    try:
        return known_by_mask(mask, n_px)
    except UserError as error:
        raise UserError(f"{options.mask}: {error}") from error


def _classes(classes: list[int | str] | None, n_pictures: int, n: int) -> list[int | str] | None:
    """The class of each completion: pictures have the classes in turn."""
    if classes is None:
        return None
    return [classes[picture % len(classes)] for picture in range(n_pictures) for _ in range(n)]


def _write(
    options: argparse.Namespace, batches: Generator[tuple[np.ndarray, np.ndarray]], palette: Palette, paths: list[Path]
) -> np.ndarray:
    """Write each picture to its path as soon as it is completed; returns all of them, (B, n_px, n_px, C) uint8."""
    import numpy as np

    from igpt_tf.pictures.writing import write_png

    drawn: dict[int, np.ndarray] = {}
    try:
        with contextlib.closing(batches):
            for numbers, tokens in batches:
                for number, picture in zip(numbers, palette.dequantize(tokens), strict=True):
                    write_png(paths[number], picture)
                    drawn[int(number)] = picture
    except KeyboardInterrupt:
        kept = f"{len(drawn)} of {len(paths)} completions are in {options.out}"
        raise KeyboardInterrupt(f"{kept}; the same command draws all of them again") from None
    return np.stack([drawn[number] for number in range(len(paths))])


def seeds_of(seed: int, n_pictures: int, n: int) -> list[int]:
    """A seed for each completion: completion k of a picture is the same however many are asked for."""
    import numpy as np

    return [
        int(np.random.SeedSequence((seed, picture, k)).generate_state(1, np.uint64)[0])
        for picture in range(n_pictures)
        for k in range(n)
    ]
