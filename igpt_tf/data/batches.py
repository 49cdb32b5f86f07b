"""The order in which training sees its examples, and what it sees of each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import keras
import numpy as np

from igpt_tf.data.augment import generators_of
from igpt_tf.data.tokens import Tokens, fingerprint, sample_rows  # noqa: F401
from igpt_tf.model.bert import masked_sample_weights

# Batches that are read while the model is at work on one.
AHEAD = 3

# Inputs, targets and, where the targets are masked tokens, weights.
Inputs = np.ndarray | dict[str, np.ndarray]
Batch = tuple[Inputs, np.ndarray] | tuple[Inputs, np.ndarray, np.ndarray]


class TrainingBatches(keras.utils.PyDataset):
    """An endless row of batches (tokens, targets), each example once a pass, that the seed and the step decide alone.

    Passes follow each other without a seam: a batch may hold the end of one and the start of the next, so
    no example is dropped. Item i is the same whoever asks for it and when, so Keras may look ahead as it likes,
    and a run that starts again at any step reads what it would have read. `fit` needs `steps_per_epoch`.

    Args:
        tokens: (N, T) integers; may lie on disk.
        batch_size: examples an item, over all processes.
        seed: decides the order, and by `augment` and `mask` all else.
        first: the step that is item 0.
        share: (number of this process, processes): each reads only its part of every batch, the parts in order.
        augment: (tokens (n, T), one random generator an example) to tokens (n, T).
        mask: (first example, n, T) to BERT masks (n, T), of examples numbered from the start of the run on; the
            inputs are then {tokens, mask}, and targets that are tokens have weights as in `masked_sample_weights`.
        labels: (N,) integers that are the targets; None: the tokens themselves are.
    """

    def __init__(
        self,
        tokens: Tokens,
        batch_size: int,
        seed: int = 0,
        first: int = 0,
        share: tuple[int, int] = (0, 1),
        augment: Callable[[np.ndarray, list[np.random.Generator]], np.ndarray] | None = None,
        mask: Callable[[int, int, int], np.ndarray] | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.first = first
        self.share = share
        self.augment = augment
        self.mask = mask
        self._order: tuple[int, np.ndarray] | None = None
        self._lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: dict[int, Future[Batch]] = {}

    @property
    def num_batches(self) -> None:
        """There is no end."""
        return None

    def __getitem__(self, index: int) -> Batch:
        """Item `index`; those after it are begun in another thread."""
        with self._lock:
            self._thread = self._thread or ThreadPoolExecutor(1, "batches")
            wanted = self._ahead.pop(index, None)
            # Whoever asks twice, or out of order, gets the right item later rather than a wrong one.
            kept = {i: future for i, future in self._ahead.items() if index < i <= index + AHEAD}
            wanted = wanted or self._thread.submit(self.read, index)
            for i in range(index + 1, index + 1 + AHEAD):
                kept[i] = kept.get(i) or self._thread.submit(self.read, i)
            self._ahead = kept
        return wanted.result()

    def read(self, index: int) -> Batch:
        """Item `index`, read here and now."""
        process, n_processes = self.share
        start = (self.first + index) * self.batch_size
        numbers = np.arange(
            start + process * self.batch_size // n_processes, start + (process + 1) * self.batch_size // n_processes
        )
        passes, places = np.divmod(numbers, len(self.tokens))
        rows = np.concatenate([self._order_of(number)[places[passes == number]] for number in np.unique(passes)])
        batch = np.asarray(self.tokens[rows]).astype("int32")
        if self.augment is not None:
            generators = [g for n in np.unique(passes) for g in generators_of(self.seed, int(n), rows[passes == n])]
            batch = np.asarray(self.augment(batch, generators)).astype("int32")
        targets = batch if self.labels is None else self.labels[rows]
        if self.mask is None:
            return batch, targets
        mask = self.mask(int(numbers[0]), *batch.shape)
        inputs = {"tokens": batch, "mask": mask}
        return (inputs, targets, masked_sample_weights(mask)) if self.labels is None else (inputs, targets)

    def _order_of(self, number: int) -> np.ndarray:
        order = self._order
        if order is None or order[0] != number:
            order = self._order = (number, np.random.default_rng([self.seed, number]).permutation(len(self.tokens)))
        return order[1]
