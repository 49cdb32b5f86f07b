"""Where each head of a layer looks for a pixel of a picture."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from igpt_tf.cli.console import report
from igpt_tf.cli.figure.common import add_out, check_out, read_quantised
from igpt_tf.cli.memory import bytes_to_predict, require_memory
from igpt_tf.cli.opening import load_model, open_model
from igpt_tf.cli.parser import add_device_options, add_model_options, non_negative, positive
from igpt_tf.errors import UsageError

if TYPE_CHECKING:
    from igpt_tf.probing.plots import Look

EXAMPLES = ("photo.jpg --layer 6 --pixel 16,20", "photo.jpg --layer 2 6 10 --pixel 8,20 24,20 --head 0 3")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("pictures", nargs=1, metavar="picture", help="a picture file or an http(s) address")
    add_model_options(parser)
    add("--layer", nargs="+", type=positive, metavar="L", help="layers, from 1, in rows (default: the middle one)")
    add("--head", nargs="+", type=non_negative, metavar="H", help="heads, from 0, in columns (default: all)")
    add(
        "--pixel",
        nargs="+",
        type=_pixel,
        metavar="X,Y",
        help="pixels that look: column and row of the model's picture, from 0 (default: the middle one)",
    )
    add_out(parser, "attention")
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Draw a row of maps for each layer and pixel, and print what each head takes."""
    preset = open_model(options)
    config = preset.config
    layers = options.layer or [max(1, config.n_layer // 2)]
    heads = list(range(config.n_head)) if options.head is None else options.head
    pixels = options.pixel or [(config.n_px // 2, config.n_px // 2)]
    for flag, found, least, most in (
        ("--layer", max(layers), 1, config.n_layer),
        ("--head", max(heads), 0, config.n_head - 1),
        ("--pixel", max(map(max, pixels)), 0, config.n_px - 1),
    ):
        if found > most:
            raise UsageError(f"{flag}: expected numbers from {least} to {most}, got {found}")
    check_out(options, options.pictures)
    paths, tokens, palette = read_quantised(options, preset)
    if len(tokens) != 1:
        raise UsageError(f"expected one picture, got {len(tokens)} in {options.pictures[0]}: name one of them")
    require_memory(1, bytes_to_predict(config), "--model")
    model, _ = load_model(options, preset)
    from igpt_tf.probing.attention import attention_maps, over_pixels
    from igpt_tf.probing.plots import Look, draw_attention

    looks: list[Look] = []
    for layer in layers:
        maps = attention_maps(model, tokens, layer, [y * config.n_px + x for x, y in pixels])
        weights, start = over_pixels(model, maps[0][heads])  # (H, P, n_px, n_px) and (H, P)
        for i, pixel in enumerate(pixels):
            looks.append(Look(layer, pixel, heads, weights[:, i], None if start is None else start[:, i]))
    draw_attention(options.out, palette.dequantize(tokens)[0], looks)
    rows = [_fields(look, i) for look in looks for i in range(len(heads))]
    report(
        options, {"figure": str(options.out), "picture": paths[0], "maps": rows}, *map(_line, rows), str(options.out)
    )


def _pixel(text: str) -> tuple[int, int]:
    """Column and row, with a comma between them."""
    x, comma, y = text.partition(",")
    if not (comma and x.isdecimal() and y.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected column,row such as 16,20, got {text!r}")
    return int(x), int(y)


def _fields(look: Look, i: int) -> dict[str, Any]:
    y, x = divmod(int(look.weights[i].argmax()), look.weights.shape[-1])
    start = {} if look.start is None else {"start": float(look.start[i])}
    most = {"most": float(look.weights[i].max()), "at": [x, y]}
    return {"layer": look.layer, "head": look.heads[i], "pixel": list(look.pixel), **most, **start}


def _line(row: dict[str, Any]) -> str:
    start = f", {row['start']:.1%} of the start" if "start" in row else ""
    x, y = row["pixel"]
    at = ",".join(map(str, row["at"]))
    return f"layer {row['layer']}, head {row['head']}, pixel {x},{y}: at most {row['most']:.1%}, of pixel {at}{start}"
