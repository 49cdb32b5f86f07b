"""Surprise maps and histograms of likelihoods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure

from igpt_tf.storage.files import atomic_write


def draw_surprise(path: Path, image: np.ndarray, nats: np.ndarray, highest: float) -> None:
    """Write an image beside the map of its nats, with a legend.

    Args:
        path: the .png to write.
        image: (height, width, channels) uint8.
        nats: (height, width), -ln p of each pixel's colour.
        highest: nats of the brightest colour.
    """
    figure = Figure(figsize=(6, 3), layout="constrained")
    left, right = cast("Any", figure.subplots(1, 2))
    left.imshow(image, cmap="gray", vmin=0, vmax=255)
    found = right.imshow(nats, cmap="magma", vmin=0, vmax=highest)
    figure.colorbar(found, ax=right, label="nats per pixel")
    for axes, title in ((left, "as the model sees it"), (right, f"surprise, {nats.mean():.3f} nats on average")):
        axes.set_axis_off()
        axes.set_title(title, fontsize=8)
    _save(figure, path)


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
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150)
