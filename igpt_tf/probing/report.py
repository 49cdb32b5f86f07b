"""The results of probes as JSON fields, tables and plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import ConfusionMatrixDisplay

from igpt_tf.pictures.plots import write_figure
from igpt_tf.probing.linear import Trial
from igpt_tf.probing.protocol import LayerResult, ProbeResult
from igpt_tf.storage.files import atomic_write
from igpt_tf.storage.records import write_record

COLUMNS = ("layer", "labels_a_class", "held_out_percent", "test_percent", "std", "strength", "converged")
# With more classes than this, their names in the plot would overlap.
NAMED_CLASSES = 20


def fields_of(result: ProbeResult, solver: str) -> dict:
    """The result as JSON fields; accuracies from 0 to 1, as in all JSON and logs.

    `strength` is C of "lbfgs", the learning rate of "sgd". `converged` is null for "sgd", which always runs for the
    same number of epochs, or false if its loss did not stay finite.
    """
    layers = [
        {
            "layer": one.name,
            "accuracy": share(one.accuracy),
            "held_out_accuracy": share(one.held_out),
            "strength": one.hyperparameter,
            "converged": _converged(one, solver),
            "trials": [
                {
                    "strength": trial.hyperparameter,
                    "held_out_accuracy": share(trial.accuracy),
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
            "mean": share(one.mean),
            "std": share(one.std),
            "accuracies": [share(accuracy) for accuracy in one.accuracies],
            "strengths": list(one.strengths),
        }
        for one in result.low_data
    ]
    best = result.best
    return {
        "best_layer": None if best is None else best.name,
        "accuracy": None if best is None else share(best.accuracy),
        "held_out_accuracy": None if best is None else share(best.held_out),
        "layers": layers,
        "low_data": few,
        "classes": None if result.classes is None else list(result.classes),
    }


def share(percent: float | None) -> float | None:
    """A number from 0 to 1 of one in per cent."""
    return None if percent is None else percent / 100


def write_report(folder: Path, result: ProbeResult, fields: Mapping[str, Any], solver: str) -> None:
    """Write the fields, the tables and the plots of a finished probe to a folder."""
    write_record(folder / "probe.json", fields)
    write_table(folder / "probe.csv", result, solver)
    plot_layers(folder / "probe.png", result)
    table, plot = folder / "confusion.csv", folder / "confusion.png"
    counts = result.confusion()
    if counts is not None:
        names = result.classes or [str(number) for number in range(result.n_class)]
        _write_rows(table, [["true class", *names], *([name, *row] for name, row in zip(names, counts, strict=True))])
        plot_confusion(plot, counts, names)
    else:
        # Those of an earlier probe would be taken for this one's.
        for path in (table, plot):
            path.unlink(missing_ok=True)


def write_table(path: Path, result: ProbeResult, solver: str) -> None:
    """A .csv with a row per layer, then one per number of labels per class; columns as in `fields_of`, in per cent."""
    rows: list[Sequence] = [COLUMNS]
    for one in result.results:
        converged = _converged(one, solver)
        rows.append((one.name, "all", one.held_out, one.accuracy, None, one.hyperparameter, converged))
    best = result.best
    if best is not None:
        for few in result.low_data:
            converged = len(few.converged) == len(few.accuracies)
            rows.append((best.name, few.labels_a_class, None, few.mean, few.std, None, converged))
    _write_rows(path, rows)


def _converged(one: LayerResult | Trial, solver: str) -> bool | None:
    return None if solver == "sgd" and one.converged else one.converged


def plot_layers(path: Path, result: ProbeResult) -> None:
    """A .png of accuracy by layer; concatenated layers are a horizontal line."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    single = sorted(
        (one for one in result.results if len(one.layers) == 1 and one.converged), key=lambda one: one.layers
    )
    numbers = [one.layers[0] for one in single]
    accuracies, held_out = (
        np.array([getattr(one, name) for one in single], float) for name in ("accuracy", "held_out")
    )
    axes.plot(numbers, accuracies, "o-", label="test images")
    axes.plot(numbers, held_out, ".:", color="grey", label="held-out training images")
    for one in result.results:
        if len(one.layers) > 1 and one.converged:
            label = f"layers {one.name}, test images"
            axes.axhline(cast("float", one.accuracy), color="C2", linestyle="--", label=label)
    best = result.best
    if best is not None and len(best.layers) == 1:
        label = "best on the held-out images"
        axes.plot(best.layers, cast("float", best.accuracy), "*", color="C1", markersize=16, label=label)
    axes.set_xlabel("layer (0: the embedding)")
    axes.set_ylabel("accuracy of a linear probe, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower center")
    write_figure(path, figure)


def plot_confusion(path: Path, counts: np.ndarray, names: Sequence[str]) -> None:
    """A .png of a confusion matrix (C, C), in per cent of each true class."""
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6.5, 5.5), layout="constrained")
    axes = figure.subplots()
    # The name of a folder may be in an encoding that no font has.
    captions = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    display = ConfusionMatrixDisplay(shares, display_labels=captions)
    display.plot(include_values=False, ax=axes, xticks_rotation="vertical", im_kw={"vmin": 0, "vmax": 100})
    cast("Any", display.im_).colorbar.set_label("% of the true class")
    if len(names) > NAMED_CLASSES:
        axes.set(xticks=[], yticks=[])
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        # Matplotlib would read a dollar sign in a name as the start of a formula.
        label.set_parse_math(False)
    write_figure(path, figure)


def _write_rows(path: Path, rows: Iterable[Sequence]) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    with atomic_write(path) as file:
        file.write(table.getvalue().encode("utf-8", "backslashreplace"))
