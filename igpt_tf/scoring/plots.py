"""Surprise maps and histograms of likelihoods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure

from igpt_tf.pictures.plots import entitle, panels, show_image, write_figure

# Pictures side by side.
A_ROW = 8


def draw_surprise(path: Path, image: np.ndarray, nats: np.ndarray, highest: float) -> None:
    """Write an image beside the map of its nats, with a legend.

    Args:
        path: the .png to write.
        image: (height, width, channels) uint8.
        nats: (height, width), -ln p of each pixel's colour.
        highest: nats of the brightest colour.
    """
    figure = Figure(figsize=(6, 3), layout="constrained")
    left, right = panels(figure, 1, 2).flat
    show_image(left, image)
    found = right.imshow(nats, cmap="magma", vmin=0, vmax=highest)
    figure.colorbar(found, ax=right, label="nats per pixel")
    for axes, title in ((left, "as the model sees it"), (right, f"surprise, {nats.mean():.3f} nats on average")):
        axes.set_title(title, fontsize=8)
    write_figure(path, figure)


def draw_surprises(path: Path, names: Sequence[str], images: np.ndarray, nats: np.ndarray) -> None:
    """Write several images, each above the map of its nats, with one legend.

    Args:
        path: of the figure.
        names: of the images.
        images: (N, height, width, 1 or 3) uint8.
        nats: (N, height, width), -ln p of each pixel's colour.
    """
    columns = min(len(images), A_ROW)
    bands = -(-len(images) // columns)
    figure = Figure(figsize=(1.5 * columns + 0.8, 3.2 * bands), layout="constrained")
    found = panels(figure, 2 * bands, columns)
    # A few pixels that surprise most would leave all others dark.
    highest, shown = float(np.quantile(nats, 0.998)), None
    for i, (name, image, values) in enumerate(zip(names, images, nats, strict=True)):
        upper, lower = (found[2 * (i // columns) + part, i % columns] for part in range(2))
        show_image(upper, image)
        shown = lower.imshow(values, cmap="magma", vmin=0, vmax=highest, interpolation="nearest")
        entitle(upper, name)
        entitle(lower, f"{values.mean():.2f} nats per pixel")
    assert shown is not None
    figure.colorbar(shown, ax=found, label="nats per pixel", aspect=15 * bands, pad=0.02, extend="max")
    write_figure(path, figure)


def draw_histograms(path: Path, panels: Mapping[str, tuple[np.ndarray, np.ndarray]], names: tuple[str, str]) -> None:
    """Write a histogram of two groups of images for each score.

    Args:
        path: the .png to write.
        panels: the score's name, with its area under the ROC curve, to the scores of both groups.
        names: of the groups.
    """
    figure = Figure(figsize=(5 * len(panels), 3), layout="constrained")
    row = np.atleast_1d(cast("Any", figure.subplots(1, len(panels))))
    for axes, (title, groups) in zip(row, panels.items(), strict=True):
        bins = np.histogram_bin_edges(np.concatenate(groups), 40)
        for scores, name in zip(groups, names, strict=True):
            axes.hist(scores, bins, density=True, alpha=0.6, label=name)
        axes.set(title=title, xlabel="bits per image", ylabel="density")
        axes.legend(loc="upper right")
    write_figure(path, figure)
