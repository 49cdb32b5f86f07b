"""Leave out the units of a codebook that are rarely used."""

from __future__ import annotations

import argparse
from pathlib import Path

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.console import report
from igpt_tf.cli.parser import positive
from igpt_tf.cli.source import add_key_options, open_pictures
from igpt_tf.storage.files import check_writable

EXAMPLES = (
    "--codebook c2 --maps maps --prune_threshold 100 --out smaller",
    "--codebook c2 --maps maps --autoencoder ae --data photos --out c3",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--codebook", type=Path, required=True, help="folder of the codebook")
    add("--maps", type=Path, required=True, help="store of maps on which uses are counted")
    add("--prune_threshold", type=positive, default=1, help="uses from which a unit stays")
    add("--out", "--out_dir", type=Path, required=True, help="folder of the smaller codebook")
    add("--autoencoder", type=Path, help="with --data: also measure what is lost in PSNR")
    add("--data", help="images for that")
    add_key_options(parser)


def run(options: argparse.Namespace) -> None:
    """Write the smaller codebook and print what is left."""
    from igpt_tf.errors import UsageError

    if (options.autoencoder is None) != (options.data is None):
        raise UsageError("expected --autoencoder and --data together, got one of them: give both or none")
    source = None if options.data is None else open_pictures(options, options.data)
    check_writable(options.out)
    load_backend(options.backend)
    from igpt_tf.data.image_rows import held_images
    from igpt_tf.latent.autoencoder import Autoencoder
    from igpt_tf.latent.codebook import Codebook
    from igpt_tf.latent.codebook_report import codebook_psnr, prune
    from igpt_tf.latent.maps import MapStore

    codebook, maps = Codebook.load(options.codebook), MapStore.open(options.maps)
    smaller, _ = prune(codebook, codebook.encode_store(maps), options.prune_threshold)
    smaller.save(options.out)
    fields = {"codebook": str(options.out), "units": len(smaller), "units_before": len(codebook)}
    text = f"{options.out}: {len(smaller)} of {len(codebook)} units"
    if source is not None:
        autoencoder = Autoencoder.from_preset(options.autoencoder)
        stride = autoencoder.config.stride
        images = held_images(source, stride * maps.shape[1])
        before, after = (codebook_psnr(one, autoencoder, images) for one in (codebook, smaller))
        fields |= {"psnr": after, "psnr_before": before}
        text += f", PSNR {after:.2f} dB instead of {before:.2f}"
    report(options, fields, text)
