"""Turn images into a token store for training; an interrupted run resumes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from igpt_tf.cli.console import report
from igpt_tf.cli.opening import load_named_palette
from igpt_tf.cli.parser import non_negative
from igpt_tf.cli.program import command
from igpt_tf.cli.source import add_source_options, files_of, open_named_source

EXAMPLES = (
    "--data photos --palette palette.npy --out photos.tokens",
    "--data mnist --palette grey.npy --out mnist.tokens",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add_source_options(parser)
    add("--palette", type=Path, required=True, help=f"a .npy from {command('palette fit')}, or a model")
    add("--out", type=Path, required=True, help="folder of the store")
    add(
        "--random_crops",
        type=non_negative,
        default=0,
        help="number of random crops of each image, instead of its central square, as in the paper: the shorter side "
        "is resized to 256 to 384 pixels, 224 x 224 pixels are cut out and downsized",
    )
    add("--seed", type=non_negative, default=0, help="seed of the random crops")


def run(options: argparse.Namespace) -> None:
    """Write the store and print what it holds."""
    from igpt_tf.data.store.store import tokenize
    from igpt_tf.data.store.writer import FILES
    from igpt_tf.storage.files import check_outputs

    palette = load_named_palette(options.palette)
    source = open_named_source(options)
    check_outputs([options.out / name for name in FILES], files_of(options.data, source, options.data_file))
    started = time.perf_counter()
    store = tokenize(
        source,
        options.out,
        palette,
        options.n_px,
        workers=options.workers,
        random_crops=options.random_crops,
        seed=options.seed,
        progress=True,
    )
    seconds = time.perf_counter() - started
    classes = None if store.labels is None else len(store.classes or set(store.labels.tolist()))
    fields = {name: getattr(store, name) for name in ("n_px", "n_vocab", "skipped", "fingerprint")}
    fields |= {"store": str(options.out), "images": len(store), "classes": classes, "seconds": round(seconds, 2)}
    labels = "no labels" if classes is None else f"labels of {classes} classes"
    text = f"{options.out}: {len(store)} images of {store.n_px} pixels, {store.n_vocab} colours, {labels}"
    report(options, fields, text)
