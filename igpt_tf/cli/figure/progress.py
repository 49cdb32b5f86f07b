"""Accuracy of a linear probe against the loss, over the checkpoints of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.console import remark, report
from igpt_tf.cli.figure.common import add_out, check_out
from igpt_tf.cli.memory import bytes_to_predict, require_memory
from igpt_tf.cli.opening import resolve_palette
from igpt_tf.cli.parser import add_device_options, non_negative, positive
from igpt_tf.cli.probe import read_both, test_split
from igpt_tf.cli.source import add_key_options, open_images
from igpt_tf.errors import UsageError

EXAMPLES = ("my-run --data cifar10 --limit 5000", "run-a run-b --data photos --test_data others --layer 6")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        help="folders of runs, whose checkpoints are a line each (pretrain --keep N keeps more of them), or models",
    )
    add("--data", required=True, help="training images of the probe, with labels: a token store, or any other source")
    add("--test_data", help="its test images with labels (default: the test split of --data, if it has one)")
    add_key_options(parser)
    add("--limit", type=positive, help="use only this many training images, with all classes in proportion")
    add("--test_limit", type=positive, help="use only this many test images, with all classes in proportion")
    add("--layer", type=non_negative, help="layer whose features are probed (default: the middle one)")
    add("--palette", type=Path, help="palette .npy (default: the one beside each model)")
    add("--seed", type=non_negative, default=42, help="determines the held-out images, and the masks of BERT models")
    add_out(parser, "progress")
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Probe every checkpoint, print its loss and accuracy, and draw a line for each run."""
    from igpt_tf.weights.presets import open_series

    names = options.data, options.test_data or test_split(options.data)
    runs = {name: open_series(name) for name in options.runs}
    presets = [preset for series in runs.values() for _, preset in series]
    for preset in presets:
        if options.layer is not None and options.layer > preset.config.n_layer:
            raise UsageError(
                f"--layer: expected a number from 0 to {preset.config.n_layer}, the layers of {preset.source}, "
                f"got {options.layer}"
            )
    check_out(options, names)
    sources = open_images(options, names[0]), open_images(options, names[1])
    load_backend(options.backend)
    from igpt_tf.backend.devices import choose_devices, device_scope
    from igpt_tf.model import ImageGPT
    from igpt_tf.probing.plots import draw_progress
    from igpt_tf.probing.protocol import probe
    from igpt_tf.scoring.evaluation import evaluate
    from igpt_tf.weights.names import named_variables

    devices = choose_devices(options.n_gpu)
    batch_size = options.n_sub_batch * len(devices)
    points: dict[str, list[tuple[float, float, str]]] = {}
    lines: list[str] = []
    for name, series in runs.items():
        first = series[0][1]
        train, test = read_both(options, first, resolve_palette(options, first, *sources), *sources)
        require_memory(min(batch_size, len(train)), bytes_to_predict(first.config), "--n_sub_batch")
        with device_scope(devices):
            model = ImageGPT.from_preset(first)
        layer = first.config.n_layer // 2 if options.layer is None else options.layer
        found: list[tuple[float, float, str]] = []
        for called, preset in series:
            # The programs that are compiled for the first checkpoint serve all of them.
            preset.assign(named_variables(model))
            loss = evaluate(model, test.tokens, batch_size=batch_size, seed=options.seed, progress=True).nats
            best = probe(
                model, train, test, layers=[layer], batch_size=batch_size, seed=options.seed, progress=True
            ).best
            if best is None or best.accuracy is None:
                remark(f"{name}, {called}: left out, as the probe did not converge")
                continue
            found.append((loss, best.accuracy, called))
            lines.append(f"{name}{called and ', '}{called}: {loss:.4f} nats/token, {best.accuracy:.2f} %")
            remark(lines[-1])
        if found:
            points[name] = found
    draw_progress(options.out, points)
    rows = [
        {
            "run": name,
            "points": [
                {"checkpoint": called, "nats_per_token": loss, "accuracy": accuracy / 100}
                for loss, accuracy, called in found
            ],
        }
        for name, found in points.items()
    ]
    report(options, {"figure": str(options.out), "runs": rows}, *lines, str(options.out))
