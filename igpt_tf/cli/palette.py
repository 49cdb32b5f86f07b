"""Choose the colours that images are reduced to, by k-means on their pixels."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from igpt_tf.cli.options import non_negative, positive


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", required=True, help="a folder of pictures, or an .npy of uint8 images")
    parser.add_argument("--out", type=Path, default=Path("palette.npy"), help="the palette's file")
    parser.add_argument("--n_colors", type=positive, default=512, help="colours (the paper: 512)")
    parser.add_argument("--grey", action="store_true", help="greys instead of colours")
    parser.add_argument("--n_px", type=positive, default=32, help="pictures are reduced to this width first")
    parser.add_argument("--max_images", type=positive, default=50_000, help="images to learn from, drawn at random")
    parser.add_argument("--seed", type=non_negative, default=0, help="decides which pixels are used")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> None:
    """Fit the palette, write it and say how well it fits."""
    from igpt_tf.data.sources import draw_pixels
    from igpt_tf.imaging import to_grey
    from igpt_tf.palette import Palette

    images = draw_pixels(options.data, options.n_px, options.max_images, options.seed)
    if options.grey and images.shape[-1] == 3:
        images = to_grey(images)
    palette = Palette.fit(images, options.n_colors, options.seed)
    palette.save(options.out)
    # A folder is sorted, often by class: look at images from all of it.
    rmse = palette.rmse(images[:: max(1, len(images) // 1000)])
    if options.json:
        print(json.dumps({"palette": str(options.out), "n_colors": len(palette), "rmse_8bit": rmse}))
    else:
        print(f"{options.out}: {len(palette)} colours, reconstruction error {rmse:.2f} of 255 (RMSE)")
