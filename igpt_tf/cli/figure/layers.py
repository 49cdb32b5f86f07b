"""Accuracy of linear probes by layer, of one or several models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from igpt_tf.cli.console import report
from igpt_tf.cli.figure.common import add_out, check_out
from igpt_tf.errors import UserError

EXAMPLES = ("out/probe", "probe-s probe-m probe-l --out layers.pdf")
RESULT = "probe.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("probes", nargs="+", type=Path, help="folders that probe has written (its --out)")
    add_out(parser, "layers")


def run(options: argparse.Namespace) -> None:
    """Draw a line for each probe, and print its best layer."""
    from igpt_tf.probing.plots import draw_layers

    found = {str(folder): _read(folder) for folder in options.probes}
    check_out(options, [folder / RESULT for folder in options.probes])
    draw_layers(options.out, found)
    rows = [
        {"probe": name, "model": one["model"], "best_layer": one["best_layer"], "accuracy": one["accuracy"]}
        for name, one in found.items()
    ]
    lines = [f"{row['probe']}: layer {row['best_layer']}, {100 * row['accuracy']:.2f} %" for row in rows]
    report(options, {"figure": str(options.out), "probes": rows}, *lines, str(options.out))


def _read(folder: Path) -> dict[str, Any]:
    """The fields of a finished probe."""
    from igpt_tf.storage.records import RecordError, read_record

    wanted = f"{folder}: expected a folder that probe has written, with {RESULT}, got"
    try:
        fields = read_record(folder / RESULT, {"layers": list, "model": str, "best_layer": str, "accuracy": float})
    except RecordError as error:
        raise UserError(f"{wanted} another one ({error}): probe the model first") from error
    if fields is None:
        raise UserError(f"{wanted} none: probe the model first")
    return fields
