"""Figures of what a model attends to, and of how good its features are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from igpt_tf.pictures.figures import BLANK
from igpt_tf.pictures.plots import SMALL, entitle, panels, show_image, write_figure


@dataclass(frozen=True)
class Look:
    """What the heads of a layer take for one pixel.

    Args:
        layer: its number.
        pixel: column and row.
        heads: their numbers.
        weights: (len(heads), height, width), what each head takes from each pixel.
        start: (len(heads),) what each head takes from the start embedding; None for BERT models.
    """

    layer: int
    pixel: tuple[int, int]
    heads: Sequence[int]
    weights: np.ndarray
    start: np.ndarray | None


def draw_attention(path: Path, picture: np.ndarray, looks: Sequence[Look]) -> None:
    """Draw maps of attention over a picture, a row for each look and a column for each head.

    Args:
        path: of the figure.
        picture: (height, width, 1 or 3) uint8.
        looks: all of the same heads.
    """
    columns = 1 + len(looks[0].heads)
    figure = Figure(figsize=(1.5 * columns + 0.6, 1.75 * len(looks) + 0.2), layout="constrained")
    found = panels(figure, len(looks), columns)
    # So pale that the map can be seen on it.
    backdrop = (255 - (255 - picture.mean(axis=-1)) * 0.45).astype(np.uint8)
    shown = None
    for (first, *rest), look in zip(found, looks, strict=True):
        x, y = look.pixel
        show_image(first, picture)
        entitle(first, f"layer {look.layer}\npixel {x},{y}")
        seen = backdrop.copy()
        if look.start is not None:
            # What comes later is not read.
            seen.reshape(-1)[y * picture.shape[1] + x :] = BLANK
        for i, axes in enumerate(rest):
            weights = look.weights[i]
            relative = weights / max(weights.max(), 1e-12)
            show_image(axes, seen)
            shown = axes.imshow(relative, cmap="Reds", vmin=0, vmax=1, alpha=np.sqrt(relative), interpolation="nearest")
            lines = [f"head {look.heads[i]}: at most {weights.max():.0%}"]
            lines += [] if look.start is None else [f"start {look.start[i]:.0%}"]
            entitle(axes, "\n".join(lines))
        for axes in (first, *rest):
            axes.plot(x, y, "s", markersize=4, markerfacecolor="none", markeredgecolor="blue", markeredgewidth=1)
    assert shown is not None
    bar = figure.colorbar(shown, ax=found, aspect=15 * len(looks), pad=0.01)
    bar.set_label("attention, relative to\nthe map's largest", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    write_figure(path, figure)


def draw_layers(path: Path, probes: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the accuracy of several models' linear probes by layer; a star marks the layer that was chosen.

    Args:
        path: of the figure.
        probes: the name of each line, and the fields that `report.fields_of` made.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, fields in probes.items():
        single = {one["layer"]: one["accuracy"] for one in fields["layers"] if one["layer"].isdigit()}
        points = sorted((int(layer), 100 * value) for layer, value in single.items() if value is not None)
        (line,) = axes.plot(*zip(*points, strict=True), "o-", markersize=4, label=_plain(name))
        best = fields["best_layer"]
        if best in single:
            axes.plot(int(best), 100 * single[best], "*", color=line.get_color(), markersize=14)
    axes.set(xlabel="layer (0: the embedding)", ylabel="accuracy of a linear probe, % of the test images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(path, figure, axes)


def draw_progress(path: Path, runs: Mapping[str, Sequence[tuple[float, float, str]]]) -> None:
    """Draw the accuracy of linear probes against the loss, over the checkpoints of runs; the paper's figure 3.

    Args:
        path: of the figure.
        runs: the name of each, and of its checkpoints the loss in nats per token, the accuracy in per cent, and what
            it is called.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, points in runs.items():
        losses, accuracies = [point[0] for point in points], [point[1] for point in points]
        axes.plot(losses, accuracies, "o:", markersize=5, label=_plain(name))
        for loss, accuracy, called in (points[0], points[-1])[: len(points)]:
            axes.annotate(called, (loss, accuracy), (5, -10), textcoords="offset points", fontsize=SMALL)
    axes.set(xlabel="loss on the test images, nats per token (better to the right)")
    axes.set_ylabel("accuracy of a linear probe, % of the test images")
    axes.invert_xaxis()
    axes.margins(0.12)
    _finish(path, figure, axes)


def _plain(name: str) -> str:
    """A name that matplotlib neither reads as a formula nor leaves out."""
    return name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$").lstrip("_")


def _finish(path: Path, figure: Figure, axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=SMALL, loc="lower right")
    write_figure(path, figure)
