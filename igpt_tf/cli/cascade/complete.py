"""Fill in the missing part of pictures with a cascade."""

from __future__ import annotations

import argparse
from pathlib import Path

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.cascade.generate import BUNDLED, add_stage_options, controls_of_stages
from igpt_tf.cli.console import doing, report, tell_replaced
from igpt_tf.cli.parser import non_negative, positive
from igpt_tf.cli.region import add_region_options, read_squares, regions_of, tell_regions
from igpt_tf.errors import UsageError

EXAMPLES = (
    "photo.jpg --rows 50%",
    "photo.jpg --model my-cascade --box 20,20,24,24 --n 4",
)
# The figure of what was given, drawn and true.
GRID = "grid.png"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("pictures", nargs="+", help="picture files, folders of them, or http(s) addresses")
    add("--model", type=Path, default=BUNDLED, help="folder of a cascade, or a bundled one's name (%(default)s)")
    add_region_options(parser)
    add("--n", "--num_images", type=positive, default=4, help="completions of each picture")
    add(
        "--method",
        choices=["auto", "forced", "smc"],
        default="auto",
        help="forced, smc, or whichever suits the part that is given",
    )
    add("--particles", type=positive, default=32, metavar="N", help="codes that smc chooses among, for each picture")
    add("--out", "--out_dir", type=Path, default=Path("out"), help="folder for the pictures")
    add("--seed", type=non_negative, default=42, help="seed of the random numbers")
    add("--scale", type=positive, default=4, help="times that the pictures are enlarged")
    add("--n_sub_batch", "--batch_size", type=positive, default=16, help="images or particles per batch")
    add_stage_options(parser)


def run(options: argparse.Namespace) -> None:
    """Write NAME_0.png ... of each picture, and a grid of what was given, drawn and true."""
    from igpt_tf.storage.files import check_outputs, check_writable

    check_writable(options.out)
    load_backend(options.backend)
    import numpy as np

    from igpt_tf.latent.cascade import Cascade
    from igpt_tf.pictures.figures import in_rows, seen
    from igpt_tf.pictures.reading import names_of
    from igpt_tf.pictures.writing import grid, write_png

    with doing("loading the cascade"):
        cascade = Cascade.from_preset(options.model)
    if cascade.height != cascade.width:
        raise UsageError(f"--model: expected a cascade of square pictures, got {cascade.height} x {cascade.width}")
    size, n = cascade.height, options.n
    sources, photos, originals = read_squares(options.pictures, size)
    regions = regions_of(options, photos, size)
    paths = [options.out / f"{name}_{k}.png" for name in names_of(sources) for k in range(n)]
    inputs = [*sources, *([options.mask] if options.mask else [])]
    tell_replaced(check_outputs([*paths, options.out / GRID], inputs))
    known = np.stack([region.known for region in regions])
    drawn = cascade.complete(
        originals.repeat(n, axis=0),
        known.reshape(-1, size, size).repeat(n, axis=0),
        controls=controls_of_stages(options, cascade.n_stages),
        method=options.method,
        n_particles=options.particles,
        seed=options.seed,
        batch_size=options.n_sub_batch,
        progress=True,
    )
    tell_regions(options, photos, regions)
    for path, picture in zip(paths, drawn, strict=True):
        write_png(path, picture, options.scale)
    given = seen(originals, known)
    rows = [[given[i], *one, originals[i]] for i, one in enumerate(in_rows(list(drawn), n))]
    write_png(options.out / GRID, grid(rows, scale=options.scale))
    written = [str(path) for path in (*paths, options.out / GRID)]
    report(options, {"pictures": written[:-1], "grid": written[-1]}, *written)
