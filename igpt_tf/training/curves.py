"""The curves of a run: losses, accuracies and learning rate by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from igpt_tf.pictures.plots import write_figure
from igpt_tf.training.best import Logs

CURVES_FILE = "curves.png"
# What each figure is called, and its lines under their names in the log.
FIGURES = (
    ("loss, nats", ("loss", "val_loss")),
    ("accuracy", ("accuracy", "val_accuracy")),
    ("PSNR, dB", ("psnr", "val_psnr")),
    ("SSIM", ("ssim", "val_ssim")),
    ("learning rate", ("learning_rate",)),
)


def plot_curves(path: Path, history: Sequence[Logs], steps_per_interval: int) -> None:
    """A .png with a figure for each quantity that the run has logged.

    Args:
        path: the file.
        history: the logs of all save intervals.
        steps_per_interval: for the horizontal axis.
    """
    drawn = [(title, [name for name in names if any(name in logs for logs in history)]) for title, names in FIGURES]
    drawn = [(title, names) for title, names in drawn if names]
    if any("psnr" in logs for logs in history):
        # The loss of reconstructions is an error of pixels.
        drawn[0] = "loss", drawn[0][1]
    figure = Figure(figsize=(5 * len(drawn), 4), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        for name in names:
            points = [(i * steps_per_interval, logs[name]) for i, logs in enumerate(history, 1) if name in logs]
            # A line through one point would show nothing.
            label = "validation" if name.startswith("val_") else "training"
            axes.plot(*zip(*points, strict=True), ".-" if len(points) < 30 else "-", label=label)
        axes.set(xlabel="step", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(alpha=0.3)
        if names != ["learning_rate"]:
            axes.legend(loc="upper right")
    write_figure(path, figure)
