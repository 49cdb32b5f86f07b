"""The learning rate of every step."""

from __future__ import annotations

import keras
from keras import ops


def warmup_cosine(peak: float, warmup: int, n_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """From 0 to the peak in `warmup` steps and along a cosine back to 0 at step `n_steps`; paper, section 3.4."""
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else peak,
        n_steps - warmup,
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )


class InParts(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule for an optimiser that accumulates gradients: Keras asks it with the number of parts, not of steps.

    Args:
        schedule: the learning rate by steps.
        n_parts: parts that make a step.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, n_parts: int) -> None:
        self.schedule = schedule
        self.n_parts = n_parts

    def __call__(self, step):
        """The learning rate of the step that part number `step` belongs to."""
        return self.schedule(ops.floor_divide(step, self.n_parts))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "n_parts": self.n_parts}

    @classmethod
    def from_config(cls, config: dict) -> InParts:
        """A schedule from `get_config`'s arguments."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["n_parts"])
