"""What is given of pictures, their completions, and the originals."""

from __future__ import annotations

import argparse

from igpt_tf.cli.console import report
from igpt_tf.cli.figure.common import add_out, check_out
from igpt_tf.cli.memory import bytes_to_draw, require_memory
from igpt_tf.cli.opening import CANNOT_DRAW, load_model, open_model, open_palette, refuse_bert
from igpt_tf.cli.parser import add_device_options, add_model_options, non_negative, number, positive
from igpt_tf.cli.region import add_region_options, read_squares, regions_of, tell_regions

EXAMPLES = ("photos --n 5", "photo.jpg --box 8,8,16,16 --out completions.pdf")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("pictures", nargs="+", help="picture files, folders of them, or http(s) addresses")
    add_model_options(parser)
    add_region_options(parser)
    add("--n", type=positive, default=4, help="completions of each picture")
    add("--particles", type=positive, default=32, help="candidates of each completion, where pixels below are given")
    add("--seed", type=non_negative, default=42, help="seed of the random numbers: the same as for complete")
    add("--temperature", type=number, default=1.0, help="below 1 favours likely colours; 0 takes the likeliest")
    add_out(parser, "completions")
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Draw the completions, as `complete` does, and the figure."""
    import numpy as np

    from igpt_tf.pictures.figures import seen
    from igpt_tf.pictures.palette import quantize
    from igpt_tf.pictures.plots import draw_completions
    from igpt_tf.sampling.controls import Controls
    from igpt_tf.sampling.keys import candidate_seeds

    controls = Controls(options.temperature)
    preset = open_model(options)
    refuse_bert(preset, CANNOT_DRAW)
    check_out(options, [*options.pictures, *([options.mask] if options.mask else [])])
    palette = open_palette(options, preset)
    paths, photos, originals = read_squares(options.pictures, preset.config.n_px)
    regions = regions_of(options, photos, preset.config.n_px)
    known = np.stack([region.known for region in regions])
    model, batch_size = load_model(options, preset)
    n_given = int(known.all(axis=0).argmin())
    require_memory(
        min(batch_size, len(paths) * options.n), bytes_to_draw(preset.config, n_given=n_given), "--n_sub_batch"
    )
    from igpt_tf.sampling import Sampler

    tell_regions(options, photos, regions)
    tokens = quantize(palette, originals)
    drawn = Sampler(model).complete(
        tokens.repeat(options.n, axis=0),
        known.repeat(options.n, axis=0),
        controls,
        seed=candidate_seeds(options.seed, len(tokens), options.n),
        batch_size=batch_size,
        n_particles=options.particles,
        progress=True,
    )
    pictures = palette.dequantize(drawn)
    images = pictures.reshape(len(tokens), options.n, *pictures.shape[1:])
    draw_completions(options.out, seen(palette.dequantize(tokens), known), images, originals)
    report(options, {"figure": str(options.out), "pictures": paths, "n": options.n}, str(options.out))
