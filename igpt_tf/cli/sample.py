"""Draw images from a model; after an interruption the same command resumes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.console import remark, report, tell_replaced
from igpt_tf.cli.memory import bytes_to_draw, require_memory
from igpt_tf.cli.opening import load_networks
from igpt_tf.cli.parser import (
    add_device_options,
    add_model_options,
    add_processor_options,
    add_sampling_options,
    positive,
)
from igpt_tf.cli.pictures import (
    FILM,
    GRID,
    SHOWN,
    add_figure_options,
    choose_scale,
    existing,
    finish,
    open_drawing,
)
from igpt_tf.cli.series import WHOLE, Series, open_series
from igpt_tf.cli.shards import check_merged, shard
from igpt_tf.errors import UsageError, UserError
from igpt_tf.progress import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from igpt_tf.pictures.palette import Palette
    from igpt_tf.sampling import Controls
    from igpt_tf.sampling.network import Network
    from igpt_tf.weights.presets import Preset

# Times that the grid and the film are enlarged.
SCALE = 4
BAR = "{desc}{percentage:3.0f}%|{bar}| {n:.1f}/{total} images [{elapsed}<{remaining}]"

EXAMPLES = ("--n 9", "--model my-model --temperature 0.95 --out pictures")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add_model_options(parser)
    add(
        "--n",
        type=positive,
        help=f"images to draw; the grid and the GIF show the first {SHOWN} (default: n_sub_batch on each device)",
    )
    add(
        "--shard",
        type=shard,
        metavar="I/N",
        help="draw only the I-th of N shares of the --n pictures; other machines draw the others, --merge checks",
    )
    add(
        "--merge",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="check that these folders hold a whole series; draw nothing",
    )
    add("--overwrite", action="store_true", help="replace all sample_*.png in --out instead of resuming with them")
    add_sampling_options(parser)
    add_figure_options(
        parser,
        f"times that the pictures, the grid and the film are enlarged (default: {SCALE} for grid and film; pictures "
        "keep the model's own size)",
    )
    add_device_options(parser)
    add_processor_options(parser)


def run(options: argparse.Namespace) -> None:
    """Draw the missing pictures of sample_0.png, sample_1.png ..., and write their grid."""
    if options.merge is not None:
        n = check_merged(options.merge)
        report(options, {"images": n}, f"all {n} pictures are there")
        return
    if options.shard is not None and (options.n is None or options.grid or options.gif):
        raise UsageError(
            "--shard: expected --n, the number of all pictures, and neither --grid nor --gif, which show the first of "
            "all, got " + ("no --n" if options.n is None else "one of them")
        )
    controls, preset, palette = open_drawing(options)
    grid_path = options.grid or options.out / GRID
    film_path = Path(options.gif) if isinstance(options.gif, str) else options.out / FILM
    replaced = existing(options, [grid_path, *([film_path] if options.gif else [])])
    networks, batch_size = load_networks(options, preset)
    starts = networks[0].starts
    settings = {
        "model": preset.fingerprint(),
        "palette": palette.digest(),
        "seed": options.seed,
        "classes": None if options.classes is None else starts(options.classes, len(options.classes)).tolist(),
        "dtype": options.dtype,
        **dataclasses.asdict(controls),
    }
    n = options.n or batch_size
    scale = 1 if options.pixels or options.scale is None else options.scale
    with open_series(options.out, settings, n, options.overwrite, scale, options.shard or WHOLE) as series:
        if options.grid and series.has_name(options.grid):
            raise UsageError(f"--grid: expected another name than those of the pictures, got {options.grid}")
        if series.is_new:
            tell_replaced([*dict.fromkeys([*series.stale, *replaced])])
        elif series.scale != scale and (options.scale or options.pixels):
            remark(f"{options.out}: pictures stay enlarged {series.scale} times, like those drawn before")
        if series.missing:
            # A film of a part of the series would lie beside the pictures of all of it.
            options.gif = options.gif or (not series.is_new and film_path.exists())
            _draw(options, networks, preset, controls, palette, batch_size, series)
        else:
            all_of_them = f"all {n} pictures" if options.shard is None else "all pictures of this share"
            remark(f"{options.out}: {all_of_them} were drawn before; --overwrite draws them anew")
        if series.n_beyond:
            remark(f"{options.out}: {series.n_beyond} more pictures have higher numbers; they stay")
        if options.shard is None:
            _show(options, series, preset, grid_path, film_path)
        else:
            drawn = {"folder": str(options.out), "n": n, "here": series.n_here}
            report(options, drawn, f"{options.out}: {series.n_here} of {n} pictures")


def _draw(
    options: argparse.Namespace,
    networks: Sequence[Network],
    preset: Preset,
    controls: Controls,
    palette: Palette,
    batch_size: int,
    series: Series,
) -> None:
    """Draw what is missing and write each picture as soon as its batch is finished."""
    from igpt_tf.pictures.writing import write_png
    from igpt_tf.sampling import Sampler

    batch_size = min(batch_size, len(series.missing))
    each = bytes_to_draw(preset.config, controls.guidance != 1, dtype=options.dtype)
    require_memory(batch_size, each, "--n_sub_batch")
    done = series.n_here - len(series.missing)
    # Checks everything before anything is removed.
    steps = Sampler(networks).sample_rows(
        series.missing,
        controls,
        classes=options.classes,
        seed=options.seed,
        batch_size=batch_size,
    )
    series.begin()
    try:
        with (
            ProgressBar(
                total=series.n_here, initial=done, bar_format=BAR, smoothing=0, first="compiling", desc="drawing"
            ) as bar,
            contextlib.closing(steps),
        ):
            for numbers, rows, tokens in steps:
                bar.update(len(numbers) * rows / preset.config.n_px)
                if tokens is None:
                    continue
                for number, picture in zip(numbers, palette.dequantize(tokens), strict=True):
                    write_png(series.path(number), picture, series.scale)
                    done += 1
    except KeyboardInterrupt:
        how = "the same command without --overwrite" if options.overwrite else "the same command"
        raise KeyboardInterrupt(f"{done} of {series.n_here} pictures are in {options.out}; {how} resumes") from None


def _show(options: argparse.Namespace, series: Series, preset: Preset, grid_path: Path, film_path: Path) -> None:
    """Write the grid and the film of the first pictures, as they are on the disk."""
    import numpy as np

    from igpt_tf.pictures.figures import film, in_rows, name_rows
    from igpt_tf.pictures.imaging import read_image
    from igpt_tf.pictures.writing import grid

    n_px, scale = preset.config.n_px, series.scale
    paths = [series.path(number) for number in range(min(series.n, SHOWN))]
    found = []
    for path in paths:
        picture = read_image(path)
        if picture.shape != (n_px * scale, n_px * scale, 3):
            height, width, _ = picture.shape
            raise UserError(
                f"{path}: expected a picture of {n_px * scale} x {n_px * scale} pixels, as the series has them, got "
                f"{width} x {height}: remove it, and the same command draws it anew"
            )
        found.append(picture[::scale, ::scale])
    # A row for each of several classes, whose pictures have them in turn.
    names = _class_names(options, preset)[: len(found)]
    columns = math.ceil(len(found) / len(names)) if names else math.ceil(math.sqrt(len(found)))
    layout = (
        [range(row, len(found), len(names)) for row in range(len(names))]
        if names
        else in_rows(range(len(found)), columns)
    )
    shown = len(layout) * columns
    canvas = grid([[found[i] for i in row] for row in layout], scale=choose_scale(options, SCALE, shown, n_px))
    films = {}
    if options.gif:
        frames = film(np.stack(found), np.zeros(n_px**2, bool), layout)
        films[film_path] = (frames, choose_scale(options, SCALE, shown, n_px, film=True))
    all_shown = len(paths) == series.n
    finish(
        options,
        paths,
        (grid_path, name_rows(canvas, names) if names else canvas),
        films,
        None if all_shown else series.n,
    )


def _class_names(options: argparse.Namespace, preset: Preset) -> list[str]:
    """The names of the classes of the grid's rows; none for fewer than two classes."""
    classes = options.classes or []
    names = preset.start_classes
    if len(classes) < 2:
        return []
    return [names[one] if names and isinstance(one, int) and one < len(names) else str(one) for one in classes]
