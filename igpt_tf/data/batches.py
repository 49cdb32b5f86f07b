"""The order in which training sees its examples."""

from __future__ import annotations

import keras
import numpy as np


class TrainingBatches(keras.utils.PyDataset):
    """Batches of (tokens, tokens), each example once a pass, in an order that the seed and the step decide alone.

    Passes follow each other without a seam: a batch may hold the end of one and the start of the next, so
    no example is dropped, and a run that starts again at any step reads what it would have read.

    Args:
        tokens: (N, T) integers; may be memory-mapped.
        batch_size: examples a step.
        steps_per_epoch: steps that Keras counts as one epoch, whatever N is.
        seed: decides the order.
        epoch: the epoch whose steps are read; set it before each.
    """

    def __init__(
        self, tokens: np.ndarray, batch_size: int, steps_per_epoch: int, seed: int = 0, epoch: int = 0
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.epoch = epoch
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Steps an epoch."""
        return self.steps_per_epoch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Step `index` of the current epoch: inputs and targets, the same (B, T) int32 tokens."""
        first = (self.epoch * self.steps_per_epoch + index) * self.batch_size
        passes, places = np.divmod(np.arange(first, first + self.batch_size), len(self.tokens))
        rows = [self._order_of(number)[place] for number, place in zip(passes, places, strict=True)]
        batch = self.tokens[rows].astype("int32")
        return batch, batch

    def _order_of(self, number: int) -> np.ndarray:
        if self._order is None or self._order[0] != number:
            self._order = (number, np.random.default_rng([self.seed, number]).permutation(len(self.tokens)))
        return self._order[1]
