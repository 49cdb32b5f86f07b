"""The colours of a palette, and what it makes of pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from igpt_tf.cli.console import report
from igpt_tf.cli.figure.common import add_out, check_out
from igpt_tf.cli.opening import load_named_palette
from igpt_tf.cli.parser import positive

EXAMPLES = ("photo.jpg", "photos --palette palette.npy --n_px 64 --out palette.pdf")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("pictures", nargs="*", help="picture files, folders of them, or http(s) addresses")
    add("--palette", "--model", type=Path, default=Path("nano-cifar10"), help="palette .npy, or a model that has one")
    add("--n_px", type=positive, default=32, help="height and width to resize the pictures to first")
    add_out(parser, "palette")


def run(options: argparse.Namespace) -> None:
    """Draw the colours, and below them each picture, the same in these colours, and the error."""
    palette = load_named_palette(options.palette)
    check_out(options, [options.palette, *options.pictures])
    import numpy as np

    from igpt_tf.download.http import read_url
    from igpt_tf.pictures.imaging import to_grey
    from igpt_tf.pictures.plots import draw_palette
    from igpt_tf.pictures.reading import names_of, read_pictures

    colors = palette.dequantize(np.arange(len(palette))[:, None])[:, 0, 0]
    paths, shown = [], []
    if options.pictures:
        paths, pictures = read_pictures(options.pictures, options.n_px, read_url)
        before = pictures if palette.n_channels == 3 else to_grey(pictures)[..., None]
        shown = list(zip(names_of(paths), before, palette.dequantize(palette.quantize(before)), strict=True))
    draw_palette(options.out, colors, shown)
    rows = [
        {"image": path, "rmse": palette.rmse(before[None])} for path, (_, before, _) in zip(paths, shown, strict=True)
    ]
    lines = [f"{row['image']}: root mean square error {row['rmse']:.2f} of 255" for row in rows]
    result = {"figure": str(options.out), "colors": len(palette), "pictures": rows}
    report(options, result, f"{options.palette}: {len(palette)} colours", *lines, str(options.out))
