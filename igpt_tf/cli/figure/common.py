"""The pictures that a figure is made of, and the file that it goes to."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.console import tell_replaced
from igpt_tf.cli.opening import open_palette
from igpt_tf.errors import UsageError
from igpt_tf.storage.files import check_outputs, check_writable

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.pictures.palette import Palette
    from igpt_tf.weights.presets import Preset


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """Declare --out."""
    parser.add_argument("--out", type=Path, default=Path(f"{name}.png"), help="the figure: a .png, .pdf or .svg file")


def check_out(options: argparse.Namespace, read: Iterable[str | Path] = ()) -> None:
    """Refuse a figure that cannot be written, or would replace what is read."""
    from igpt_tf.pictures.plots import FORMATS

    if options.out.suffix.lower() not in FORMATS:
        raise UsageError(f"--out: expected the name of a {', '.join(FORMATS)} file, got {options.out}")
    replaced = check_outputs([options.out], read)
    check_writable(options.out.parent)
    tell_replaced(replaced)


def read_quantised(options: argparse.Namespace, preset: Preset) -> tuple[list[str], np.ndarray, Palette]:
    """The paths of the pictures, their tokens (N, T), and the palette."""
    from igpt_tf.download.http import read_url
    from igpt_tf.pictures.palette import quantize
    from igpt_tf.pictures.reading import read_pictures

    palette = open_palette(options, preset)
    paths, pictures = read_pictures(options.pictures, preset.config.n_px, read_url)
    return paths, quantize(palette, pictures), palette
