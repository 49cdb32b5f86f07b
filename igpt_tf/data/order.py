"""The order in which training sees its examples: endless, seeded, shared between processes."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Examples:
    """Which examples a batch has.

    Attributes:
        first: number of the first one, counted over the whole run.
        epochs: (n,) the pass over the data that each belongs to, from 0.
        rows: (n,) where each lies in the data.
    """

    first: int
    epochs: np.ndarray
    rows: np.ndarray


class ExampleOrder:
    """An infinite sequence of batches, determined only by seed and step; every example appears once per epoch.

    Epochs follow each other without a gap: a batch may hold the end of one and the start of the next.

    Args:
        n_examples: N.
        batch_size: examples per batch, over all processes.
        seed: decides the order.
        share: (number of this process, number of processes): each has its own part of every batch.
    """

    def __init__(self, n_examples: int, batch_size: int, seed: int = 0, share: tuple[int, int] = (0, 1)) -> None:
        self.n_examples = n_examples
        self.batch_size = batch_size
        self.seed = seed
        self.share = share
        self._latest: tuple[int, np.ndarray] | None = None

    def __getitem__(self, step: int) -> Examples:
        """This process's part of the batch of a step."""
        process, n_processes = self.share
        start = step * self.batch_size
        numbers = np.arange(
            start + process * self.batch_size // n_processes, start + (process + 1) * self.batch_size // n_processes
        )
        epochs, places = np.divmod(numbers, self.n_examples)
        rows = np.concatenate([self._order_of(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)])
        return Examples(int(numbers[0]), epochs, rows)

    def _order_of(self, epoch: int) -> np.ndarray:
        latest = self._latest
        if latest is None or latest[0] != epoch:
            latest = self._latest = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.n_examples)
        return latest[1]
