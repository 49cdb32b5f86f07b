"""Which save interval of a run was the best, and how long ago it was."""

from __future__ import annotations

import math

Logs = dict[str, float]


def best_interval(history: list[Logs]) -> int | None:
    """Number, from 1, of the first save interval that no other is better than; None without validation.

    The highest validation accuracy is the best, of equal ones the lowest validation loss; without an accuracy, the
    lowest validation loss.
    """
    order = [rank(logs) for logs in history]
    return 1 + order.index(min(order)) if order and min(order)[0] < math.inf else None


def rank(logs: Logs) -> tuple[float, float]:
    """A key that sorts the logs of save intervals, the best first."""
    loss = logs.get("val_loss", math.inf)
    return (1 - logs["val_accuracy"] if "val_accuracy" in logs else loss, loss)


def is_out_of_patience(history: list[Logs], patience: int | None) -> bool:
    """Whether the best save interval is at least `patience` intervals old; never for None."""
    best = best_interval(history)
    return patience is not None and best is not None and len(history) - best >= patience
