"""Which pixels of pictures the model does not expect."""

from __future__ import annotations

import argparse

from igpt_tf.cli.console import report
from igpt_tf.cli.figure.common import add_out, check_out, read_quantised
from igpt_tf.cli.memory import bytes_to_predict, require_memory
from igpt_tf.cli.opening import NO_LIKELIHOOD, load_model, open_model, refuse_bert
from igpt_tf.cli.parser import add_device_options, add_model_options

EXAMPLES = ("photo.jpg", "photos --model my-model --out surprise.pdf")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pictures", nargs="+", help="picture files, folders of them, or http(s) addresses")
    add_model_options(parser)
    add_out(parser, "surprise")
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Draw each picture above its map, and print its mean."""
    preset = open_model(options)
    refuse_bert(preset, NO_LIKELIHOOD)
    check_out(options, options.pictures)
    paths, tokens, palette = read_quantised(options, preset)
    model, batch_size = load_model(options, preset)
    require_memory(min(batch_size, len(tokens)), bytes_to_predict(preset.config), "--n_sub_batch")
    from igpt_tf.pictures.reading import names_of
    from igpt_tf.scoring.evaluation import score
    from igpt_tf.scoring.plots import draw_surprises

    images = palette.dequantize(tokens)
    nats = score(model, tokens, batch_size=batch_size, progress=True)
    draw_surprises(options.out, names_of(paths), images, nats.reshape(images.shape[:3]))
    means = nats.astype("float64").mean(axis=1).tolist()
    rows = [{"image": path, "nats_per_token": mean} for path, mean in zip(paths, means, strict=True)]
    lines = [f"{row['image']}: {row['nats_per_token']:.4f} nats/token" for row in rows]
    report(options, {"figure": str(options.out), "pictures": rows}, *lines, str(options.out))
