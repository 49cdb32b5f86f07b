"""Choose the colours of a palette by k-means on the pixels of images: `palette fit`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.console import report, tell_replaced
from igpt_tf.cli.parser import non_negative, positive
from igpt_tf.cli.program import command
from igpt_tf.cli.source import add_source_options, files_of, open_named_source
from igpt_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.data.sources.open import Source

# The reconstruction error is measured on about this many images.
EVALUATED = 1000

EXAMPLES = ("fit --data photos", "fit --data cifar10 --n_colors 64 --out my-palette.npy")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("action", nargs="?", choices=["fit"], help="fit: choose a palette for images")
    add_source_options(parser)
    add("--out", type=Path, default=Path("palette.npy"), help=".npy file to write the palette to")
    add("--n_colors", type=positive, default=512, help="number of colours, up to 65,536 (the paper: 512)")
    add("--grey", action="store_true", help="choose grey levels instead of colours")
    add("--max_images", type=positive, default=50_000, help="number of images to sample, at random")
    add("--seed", type=non_negative, default=0, help="seed of the sample and of k-means")


def run(options: argparse.Namespace) -> None:
    """Fit the palette, write it and print its reconstruction error."""
    if options.action is None:
        raise UsageError(f"palette: expected the action fit, got none: {command('palette fit')} --data ...")
    from igpt_tf.pictures.imaging import to_grey
    from igpt_tf.pictures.palette import MAX_COLORS, Palette
    from igpt_tf.storage.files import check_outputs, check_writable

    if options.n_colors > MAX_COLORS:
        raise UsageError(f"--n_colors: expected at most {MAX_COLORS}, as tokens have 16 bits, got {options.n_colors}")
    source = open_named_source(options)
    # Checked before the work, which may take hours.
    replaced = check_outputs([options.out], files_of(options.data, source, options.data_file))
    if options.out.suffix.lower() != ".npy":
        raise UsageError(f"--out: expected the name of a .npy file, got {options.out}")
    tell_replaced(replaced)
    check_writable(options.out.absolute().parent)
    images, skipped = draw_images(source, options.n_px, options.max_images, options.seed, options.workers)
    if options.grey:
        images = to_grey(images)
    palette = Palette.fit(images, options.n_colors, options.seed, progress=True)
    palette.save(options.out)
    # A folder is sorted, often by class: take images from all of it.
    rmse = palette.rmse(images[:: max(1, len(images) // EVALUATED)])
    fields = {"palette": str(options.out), "n_colors": len(palette), "rmse_8bit": rmse, "images": len(images)}
    text = f"{options.out}: {len(palette)} colours, reconstruction error {rmse:.2f} of 255 (RMSE)"
    report(options, {**fields, "skipped": skipped}, text)


def draw_images(
    source: Source, n_px: int, max_images: int, seed: int = 0, workers: int | None = None
) -> tuple[np.ndarray, int]:
    """Random images (N, n_px, n_px, 3), and the number of others that could not be read."""
    import numpy as np

    from igpt_tf.data.store.encode import Encoder, encode_all

    if source.are_tokens:
        raise UserError(f"{source.name}: expected images to choose colours from, got tokens")
    drawn = np.sort(np.random.default_rng(seed).permutation(len(source))[:max_images])
    images, read = encode_all(source, drawn, Encoder(n_px), workers, progress=True)
    return images, len(drawn) - len(read)
