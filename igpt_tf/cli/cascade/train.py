"""Train every part of a cascade, one after another."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.console import remark, report, warn
from igpt_tf.cli.parser import duration, positive
from igpt_tf.cli.source import add_key_options, open_pictures

# Where the parts are trained, in the folder of the cascade.
PARTS = "parts"

EXAMPLES = (
    "nano-cascade --data photos --out my-cascade",
    "nano-cascade --data photos --time_limit 8h --out my-cascade",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("recipe", metavar="RECIPE", help="shapes and settings by name: nano-cascade")
    add(
        "--data",
        required=True,
        help="images: a folder, a list, .npy or .npz, a data set by name, such as hf:NAME or tfds:NAME",
    )
    add_key_options(parser)
    add("--validation", help="images that are not trained on")
    add("--out", type=Path, required=True, help="folder of the cascade; parts/ in it keeps what is trained")
    add("--mixed_precision", action="store_true", help="train in bfloat16; weights and losses stay float32")
    add("--time_limit", type=duration, help="stop at a checkpoint before this much time has passed, such as 170m")
    add("--threads", type=positive, help="processor cores to compute on (all)")


def run(options: argparse.Namespace) -> None:
    """Train, or resume, and write the cascade."""
    began = time.monotonic()
    from igpt_tf.storage.files import check_writable

    images = open_pictures(options, options.data)
    validation = None if options.validation is None else open_pictures(options, options.validation)
    check_writable(options.out)
    load_backend(options.backend, threads=options.threads)
    from igpt_tf.cli.progress import progress_bar
    from igpt_tf.latent.recipe import find_cascade
    from igpt_tf.latent.train_cascade import CascadeTraining, OutOfTimeError
    from igpt_tf.training.callbacks import TimeLimit

    recipe = find_cascade(options.recipe)
    limit = None
    if options.time_limit is not None:
        limit = TimeLimit(options.time_limit - (time.monotonic() - began))
    training = CascadeTraining(
        recipe,
        options.out / PARTS,
        remark,
        options.mixed_precision,
        lambda settings: [progress_bar(settings, None)],
        limit,
        progress=True,
    )
    try:
        cascade = training.train(images, validation)
    except OutOfTimeError as stopped:
        warn(f"stopped while training {stopped} by the time limit: the same command resumes")
        return
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"what is trained is kept in {options.out / PARTS}; the same command resumes") from None
    cascade.save_to_preset(options.out)
    grids = ", ".join(f"{rows} x {columns}" for rows, columns in cascade.grids)
    fields = {"preset": str(options.out), "stages": cascade.n_stages, "n_px": recipe.n_px, "grids": cascade.grids}
    report(options, fields, f"{options.out}: a cascade of {recipe.n_px} x {recipe.n_px} pixels, codes {grids}")
