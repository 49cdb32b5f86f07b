"""The batches of a training run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from igpt_tf.data.order import ExampleOrder, Examples


class TrainingBatches(keras.utils.PyDataset):
    """An infinite sequence of batches for `fit`, which needs `steps_per_epoch`.

    Args:
        order: which examples each batch has.
        prepare: reads examples and makes the inputs, targets and perhaps weights of a batch.
        first: the step of the order that is item 0.
    """

    def __init__(self, order: ExampleOrder, prepare: Callable[[Examples], Any], first: int = 0) -> None:
        # Keras' own worker threads would skip batches under tf.distribute, which starts the sequence twice.
        super().__init__()
        self.order = order
        self.prepare = prepare
        self.first = first

    @property
    def num_batches(self) -> None:
        """None: there is no last batch."""
        return None

    def __getitem__(self, index: int) -> Any:
        """The batch of step `first + index`."""
        return self.prepare(self.order[self.first + index])
