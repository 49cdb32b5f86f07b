"""Which pixels of pictures the model does not expect."""

from __future__ import annotations

import argparse

from igpt_tf.cli.console import report
from igpt_tf.cli.figure.common import add_out, check_out, read_quantised
from igpt_tf.cli.memory import bytes_to_predict, require_memory
from igpt_tf.cli.opening import load_model, open_model
from igpt_tf.cli.parser import add_device_options, add_model_options
from igpt_tf.errors import UserError

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
    if preset.config.bert:
        raise UserError(
            f"{preset.source}: expected an autoregressive model, got a BERT model, which gives images no likelihood"
        )
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
    lines = [f"{path}: {mean:.4f} nats/token" for path, mean in zip(paths, means, strict=True)]
    rows = [{"image": path, "nats_per_token": mean} for path, mean in zip(paths, means, strict=True)]
    report(options, {"figure": str(options.out), "pictures": rows}, *lines, str(options.out))
