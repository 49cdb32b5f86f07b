"""The paper's Adam, and the learning rate of every step."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOperatorIssue=false

from __future__ import annotations

import keras
from keras import ops

from igpt_tf.training.settings import RunSettings


def new_optimizer(settings: RunSettings, n_steps: int, warmup: int) -> keras.optimizers.Optimizer:
    """Adam (0.9, 0.95), linear warm-up, the settings' schedule over `n_steps`, no weight decay; paper, section 3.4."""
    accumulate = settings.accumulate
    # A cosine that ends at its peak is constant.
    schedule = warmup_cosine(settings.learning_rate, warmup, n_steps, float(settings.schedule == "constant"))
    average = {}
    if settings.ema is not None:
        average = {"use_ema": True, "ema_momentum": settings.ema}
    return DenseAdam(
        InMicroBatches(schedule, accumulate) if accumulate > 1 else schedule,  # pyright: ignore[reportArgumentType]
        beta_1=0.9,
        beta_2=0.95,
        global_clipnorm=settings.clip_norm,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
        **average,
    )


def warmup_cosine(
    peak: float, warmup: int, n_steps: int, end: float = 0.0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """From 0 to the peak in `warmup` steps and along a cosine to `end` times the peak at step `n_steps`."""
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else peak,
        n_steps - warmup,
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
        alpha=end,
    )


@keras.saving.register_keras_serializable(package="igpt_tf")
class DenseAdam(keras.optimizers.Adam):
    """Adam that updates every weight at every step, also the embeddings of colours that a batch does not have.

    On TensorFlow the gradient of a table comes as the rows that were looked up, and Keras would leave the others, and
    their moments, as they are: another optimiser than on JAX, or than with accumulated gradients. With those, Keras
    would also average the weights after every micro-batch; here it is once per step.
    """

    def apply(self, grads, trainable_variables=None) -> None:
        """Take a step."""
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        super().apply([_dense(grad, variable) for grad, variable in zip(grads, variables, strict=True)], variables)

    def _update_model_variables_moving_average(self, trainable_variables) -> None:
        """Update the averages, which begin as the weights after the first step."""
        accumulate = self.gradient_accumulation_steps or 1
        micro_batch = self._iterations  # `iterations` counts whole steps
        kept = ops.where(micro_batch < accumulate, 0.0, self.ema_momentum)
        kept = ops.where((micro_batch + 1) % accumulate == 0, kept, 1.0)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            average.assign(kept * average + (1.0 - kept) * variable)


def _dense(grad, variable):
    """A gradient as an array of the variable's shape."""
    return ops.add(ops.zeros(variable.shape, variable.dtype), grad) if hasattr(grad, "indices") else grad


@keras.saving.register_keras_serializable(package="igpt_tf")
class InMicroBatches(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule for an optimiser that accumulates gradients, which Keras calls with the number of micro-batches.

    Args:
        schedule: the learning rate by steps.
        accumulate: micro-batches per step.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, accumulate: int) -> None:
        self.schedule = schedule
        self.accumulate = accumulate

    def __call__(self, step):
        """The learning rate of the step that micro-batch number `step` belongs to."""
        return self.schedule(ops.floor_divide(step, self.accumulate))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "accumulate": self.accumulate}

    @classmethod
    def from_config(cls, config: dict) -> InMicroBatches:
        """A schedule from `get_config`'s arguments."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["accumulate"])
