"""What a probe found, as fields, as tables and as pictures."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from igpt_tf.probing.linear import Trial
from igpt_tf.probing.protocol import LayerResult, ProbeResult
from igpt_tf.storage.files import atomic_write

COLUMNS = ("layer", "labels_a_class", "held_out_percent", "test_percent", "std", "strength", "converged")
# More classes than this would be named on top of each other.
NAMED_CLASSES = 20


def fields_of(result: ProbeResult, solver: str) -> dict:
    """All that was found, of what JSON holds; accuracies in per cent.

    `converged` is null for "sgd", which ends after its passes, unless the loss left the finite numbers.
    """
    layers = [
        {
            "layer": one.name,
            "accuracy": one.accuracy,
            "held_out_accuracy": one.held_out,
            "strength": one.strength,
            "converged": _converged(one, solver),
            "trials": [
                {
                    "strength": trial.strength,
                    "held_out_accuracy": trial.accuracy,
                    "converged": _converged(trial, solver),
                }
                for trial in one.trials
            ],
        }
        for one in result.results
    ]
    few = [
        {
            "labels_a_class": one.labels_a_class,
            "mean": one.mean,
            "std": one.std,
            "accuracies": list(one.accuracies),
            "strengths": list(one.strengths),
        }
        for one in result.low_data
    ]
    best = result.best
    return {
        "best_layer": None if best is None else best.name,
        "accuracy": None if best is None else best.accuracy,
        "held_out_accuracy": None if best is None else best.held_out,
        "layers": layers,
        "low_data": few,
        "classes": None if result.classes is None else list(result.classes),
    }


def write_table(path: Path, result: ProbeResult, solver: str) -> None:
    """A .csv with a row for each layer, then one for each number of labels; accuracies in per cent."""
    rows: list[Sequence] = [COLUMNS]
    rows += [
        (one.name, "all", one.held_out, one.accuracy, None, one.strength, _converged(one, solver))
        for one in result.results
    ]
    best = result.best
    rows += [
        (best.name, few.labels_a_class, None, few.mean, few.std, None, len(few.converged) == len(few.accuracies))
        for few in result.low_data
    ]
    _write_rows(path, rows)


def _converged(one: LayerResult | Trial, solver: str) -> bool | None:
    return None if solver == "sgd" and one.converged else one.converged


def write_confusion(path: Path, result: ProbeResult) -> None:
    """A .csv of `ProbeResult.confusion`, with the classes' names in the first row and column."""
    names = _names(result)
    counts = result.confusion()
    _write_rows(path, [["true class", *names], *([name, *row] for name, row in zip(names, counts, strict=True))])


def plot_layers(path: Path, result: ProbeResult) -> None:
    """A .png of the accuracy by layer; layers that were joined are a line across."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    single = [one for one in result.results if len(one.layers) == 1 and one.converged]
    single.sort(key=lambda one: one.layers)
    numbers = [one.layers[0] for one in single]
    axes.plot(numbers, [one.accuracy for one in single], "o-", label="test images")
    axes.plot(numbers, [one.held_out for one in single], ".:", color="grey", label="held-out training images")
    for one in result.results:
        if len(one.layers) > 1 and one.converged:
            axes.axhline(one.accuracy, color="C2", linestyle="--", label=f"layers {one.name}, test images")
    best = result.best
    if best is not None and len(best.layers) == 1:
        axes.plot(best.layers, [best.accuracy], "*", color="C1", markersize=16, label="chosen by the held-out images")
    axes.set_xlabel("layer (0: the embedding)")
    axes.set_ylabel("accuracy of a linear probe, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    _write_figure(path, figure)


def plot_confusion(path: Path, result: ProbeResult) -> None:
    """A .png of how the images of each class were classified, in per cent of the class."""
    counts = result.confusion()
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6.5, 5.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=100, cmap="viridis")
    figure.colorbar(image, label="% of the true class")
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    if result.n_class <= NAMED_CLASSES:
        places = np.arange(result.n_class)
        # A dollar in a name is no formula.
        axes.set_xticks(places, _names(result), rotation=90, parse_math=False)
        axes.set_yticks(places, _names(result), parse_math=False)
    _write_figure(path, figure)


def _names(result: ProbeResult) -> Sequence[str]:
    return result.classes or [str(number) for number in range(result.n_class)]


def _write_rows(path: Path, rows: Iterable[Sequence]) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    with atomic_write(path) as file:
        file.write(table.getvalue().encode())


def _write_figure(path: Path, figure: Figure) -> None:
    with atomic_write(path) as file, warnings.catch_warnings():
        # Names may be in any script, and the font may not know it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format="png", dpi=120)
