"""Fill in what is missing of pictures: rows, a box, or what a mask says."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.console import remark, tell_replaced
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
    largest_scale,
    open_drawing,
)
from igpt_tf.cli.region import Region, add_region_options, read_squares, regions_of, tell_regions
from igpt_tf.cli.series import refuse_series_names
from igpt_tf.errors import UsageError, listed

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.pictures.palette import Palette
    from igpt_tf.pictures.photograph import Photograph

# Times that each completion is enlarged: 512 pixels for a model of 32.
SCALE = 16

EXAMPLES = ("photo.jpg", "photo.jpg --mask mask.png --n 8 --out pictures")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("pictures", nargs="*", help="picture files, folders of them, or http(s) addresses")
    add_model_options(parser)
    add_region_options(parser)
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
    add_figure_options(parser, f"times that pictures, grid and films are enlarged (default: {SCALE}, if there is room)")
    add(
        "--paste",
        action="store_true",
        help="also write NAME_0_pasted.png ...: each photograph, whole, with what was drawn in its place",
    )
    add(
        "--no_names",
        dest="names",
        action="store_false",
        help="leave out the files' names below the pictures of the grid",
    )
    add_device_options(parser)
    add_processor_options(parser)


def run(options: argparse.Namespace) -> None:
    """Complete each picture n times; write NAME_0.png ..., and a grid row of what was given, drawn and true."""
    _take_back(options)
    controls, preset, palette = open_drawing(options)
    import numpy as np

    from igpt_tf.pictures.figures import film, in_rows, name_cells, seen
    from igpt_tf.pictures.palette import quantize
    from igpt_tf.pictures.reading import names_of
    from igpt_tf.pictures.writing import grid

    n, n_px = options.n, preset.config.n_px
    sources, photos, originals = read_squares(options.pictures, n_px)
    regions = regions_of(options, photos, n_px)
    names = names_of(sources)
    paths = [options.out / f"{name}_{k}.png" for name in names for k in range(n)]
    pasted = [path.with_stem(f"{path.stem}_pasted") for path in paths] if options.paste else []
    grid_path = options.grid or options.out / (GRID if len(names) > 1 else f"{names[0]}_{GRID}")
    film_paths = _film_paths(options, names[:SHOWN])
    outputs = [*paths, *pasted, grid_path, *film_paths]
    refuse_series_names(outputs)
    replaced = existing(options, outputs, [*sources, *([options.mask] if options.mask else [])])
    from igpt_tf.sampling.keys import candidate_seeds
    from igpt_tf.sampling.region import is_prefix

    known = np.stack([region.known for region in regions])
    networks, batch_size = load_networks(options, preset)
    forced = options.method == "forced" or controls.greedy or (options.method == "auto" and is_prefix(known).all())
    best_of = 1 if controls.greedy else options.best_of
    at_once, flag = min(batch_size, len(paths) * best_of * (1 if forced else options.particles)), "--n_sub_batch"
    if not forced and options.particles > at_once:
        at_once, flag = options.particles, "--particles"
    n_given = int(known.all(axis=0).argmin())
    require_memory(at_once, bytes_to_draw(preset.config, controls.guidance != 1, n_given, options.dtype), flag)
    from igpt_tf.sampling import Sampler

    tokens = quantize(palette, originals)
    batches = Sampler(networks).complete_batches(
        tokens.repeat(n, axis=0),
        known.repeat(n, axis=0),
        controls,
        classes=_classes(options.classes, len(tokens), n),
        seed=candidate_seeds(options.seed, len(tokens), n),
        batch_size=batch_size,
        method=options.method,
        n_particles=options.particles,
        best_of=options.best_of,
        progress=True,
    )
    tell_regions(options, photos, regions)
    tell_replaced(replaced)
    if left := _left(options, names, outputs):
        remark(f"kept from an earlier run, as this one does not draw them anew: {listed(left)}")
    scale = 1 if options.pixels else options.scale or min(SCALE, largest_scale(n_px))
    completions = in_rows(_write(options, batches, palette, paths, scale), n)
    if options.paste:
        _paste(sources, photos, regions, completions, in_rows(pasted, n))
    given = seen(palette.dequantize(tokens[:SHOWN]), known[:SHOWN])
    rows = [[given[i], *completions[i], originals[i]] for i in range(len(given))]
    canvas = grid(rows, scale=choose_scale(options, SCALE, len(rows) * (n + 2), n_px))
    if options.names:
        files = [path.name for path in paths]
        canvas = name_cells(canvas, [["given", *files[i * n : i * n + n], photos[i].name] for i in range(len(rows))])
    film_scale = choose_scale(options, SCALE, n, n_px, film=True) if film_paths else 1
    films = {
        path: (film(np.stack(completions[i]), known[i], [range(n)]), film_scale) for i, path in enumerate(film_paths)
    }
    finish(options, [*paths, *pasted], (grid_path, canvas), films)


def _take_back(options: argparse.Namespace) -> None:
    """A picture behind --gif is no film: `complete --gif photo.jpg` completes it."""
    if isinstance(options.gif, str) and not options.gif.lower().endswith(".gif"):
        options.pictures.insert(0, options.gif)
        options.gif = True
    if not options.pictures:
        raise UsageError("expected pictures to complete, got none: name files, folders or http(s) addresses")


def _film_paths(options: argparse.Namespace, names: list[str]) -> list[Path]:
    """A film for each picture, named after it unless the user names the only one."""
    if not options.gif:
        return []
    if options.gif is True:
        return [options.out / f"{name}_{FILM}" for name in names]
    path = Path(options.gif)
    return [path] if len(names) == 1 else [path.with_stem(f"{name}_{path.stem}") for name in names]


def _left(options: argparse.Namespace, names: list[str], outputs: list[Path]) -> list[Path]:
    """Completions and films that an earlier run left for the same pictures, and this run does not replace."""
    written, likely = set(outputs), list[Path]()
    for name in names:
        more = (options.out / f"{name}_{k}.png" for k in itertools.count(options.n))
        likely += itertools.takewhile(Path.exists, more)
        likely += [options.out / f"{name}_{k}_pasted.png" for k in range(options.n)]
        likely.append(options.out / f"{name}_{FILM}")
    return [path for path in likely if path not in written and path.exists()]


def _classes(classes: list[int | str] | None, n_pictures: int, n: int) -> list[int | str] | None:
    """The class of each completion: pictures have the classes in turn."""
    if classes is None:
        return None
    return [classes[picture % len(classes)] for picture in range(n_pictures) for _ in range(n)]


def _write(
    options: argparse.Namespace,
    batches: Generator[tuple[np.ndarray, np.ndarray]],
    palette: Palette,
    paths: list[Path],
    scale: int,
) -> np.ndarray:
    """Write each picture to its path as soon as it is completed; returns all of them, (B, n_px, n_px, C) uint8."""
    import numpy as np

    from igpt_tf.pictures.writing import write_png

    drawn: dict[int, np.ndarray] = {}
    try:
        with contextlib.closing(batches):
            for numbers, tokens in batches:
                for number, picture in zip(numbers, palette.dequantize(tokens), strict=True):
                    write_png(paths[number], picture, scale)
                    drawn[int(number)] = picture
    except KeyboardInterrupt:
        kept = f"{len(drawn)} of {len(paths)} completions are in {options.out}"
        raise KeyboardInterrupt(f"{kept}; the same command draws all of them again") from None
    return np.stack([drawn[number] for number in range(len(paths))])


def _paste(
    sources: list[str],
    photos: list[Photograph],
    regions: list[Region],
    completions: list[list[np.ndarray]],
    paths: list[list[Path]],
) -> None:
    """Write every photograph with what was drawn in its place."""
    from igpt_tf.download.http import read_url
    from igpt_tf.pictures.reading import read_picture
    from igpt_tf.pictures.writing import write_png

    for i, source in enumerate(sources):
        # Read anew, because all photographs together may not fit into memory.
        photo, _ = read_picture(source, read_url)
        for path, drawn in zip(paths[i], completions[i], strict=True):
            write_png(path, photos[i].paste(photo, drawn, regions[i].known, regions[i].box))
