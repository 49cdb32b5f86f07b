"""The optimisers, the paper's Adam and Muon, and the learning rate of every step."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOperatorIssue=false, reportOptionalOperand=false

from __future__ import annotations

import math
import re
from typing import Any

import keras
from keras import ops

from igpt_tf.training.settings import RunSettings, decay_begin, scaled_beta2

# Paths of the kernels that Muon takes for matrices.
MATRICES = re.compile(r"(attn/[qkvc]_proj|mlp/(c_fc|c_proj)|conv_[12]|(down|up)\d+)/kernel$")


def new_optimizer(settings: RunSettings, n_steps: int, warmup: int) -> keras.optimizers.Optimizer:
    """The settings' optimiser with their learning rate over `n_steps`, and without weight decay.

    Args:
        settings: of the run.
        n_steps: steps of the whole run.
        warmup: steps of linear warm-up.

    Source: section 3.4 of the paper for Adam (0.9, 0.95); Jordan et al., "Muon" (2024), and Liu et al., "Muon is
    scalable for LLM training" (2025), for Muon and the size of its updates, which is Adam's.
    """
    accumulate = settings.accumulate
    schedule = schedule_of(settings.schedule, settings.learning_rate, warmup, n_steps)
    shared = {
        "learning_rate": InMicroBatches(schedule, accumulate) if accumulate > 1 else schedule,
        "global_clipnorm": settings.clip_norm,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
        **({} if settings.ema is None else {"use_ema": True, "ema_momentum": settings.ema}),
    }
    beta_2 = settings.beta2 or scaled_beta2(settings.batch_size)
    if settings.optimizer == "muon":
        return MatrixMuon(adam_beta_2=beta_2, **shared)
    return DenseAdam(beta_1=0.9, beta_2=beta_2, **shared)


def schedule_of(name: str, peak: float, warmup: int, n_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate of a schedule's name: linear from 0 to the peak in `warmup` steps, then as the name says."""
    if name == "wsd":
        return WarmupStableDecay(peak, warmup, n_steps, decay_begin(n_steps))
    # A cosine that ends at its peak is constant.
    return warmup_cosine(peak, warmup, n_steps, float(name == "constant"))


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


class DenseUpdates(keras.optimizers.Optimizer):
    """Update every weight at every step, also the embeddings of colours that a batch lacks.

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


@keras.saving.register_keras_serializable(package="igpt_tf")
class DenseAdam(DenseUpdates, keras.optimizers.Adam):
    """Keras' Adam with dense updates."""


@keras.saving.register_keras_serializable(package="igpt_tf")
class MatrixMuon(DenseUpdates, keras.optimizers.Muon):
    """Keras' Muon for the matrices of the blocks, and Adam for everything else.

    Keras would take every 2-D weight for a matrix, the output embedding too, and no projection of the attention, whose
    kernels have three axes. Here the kernels of q, k, v, c_proj and c_fc are the matrices: an attention's (H, E, D) is
    one of (H E, D), and so is a convolution, but for those that an autoencoder begins and ends with. Embeddings, norms,
    heads and LoRA adapters are Adam's. Nothing decays unless `weight_decay`, of the matrices, or `adam_weight_decay`
    is given.
    """

    def __init__(self, learning_rate=0.003, weight_decay=None, adam_weight_decay=None, **kwargs) -> None:
        # Keras' inferred types allow no None, which its code takes for no decay.
        decay: Any = {"weight_decay": weight_decay, "adam_weight_decay": adam_weight_decay}
        super().__init__(learning_rate, **decay, **kwargs)

    def _should_use_adamw(self, variable) -> bool:
        return MATRICES.search(variable.path) is None

    def zeropower_via_newtonschulz5(self, x, steps: int):
        """The nearest matrix with orthonormal rows or columns, nearly, in the shape of x."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))  # (H, E, D) to (H E, D)
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x):
        """Scale an update to the size of Adam's, by the longer side of the matrix."""
        longer = max(math.prod(x.shape[:-1]), x.shape[-1])
        return x if self.rms_rate is None else x * (self.rms_rate * longer**0.5)


def _dense(grad, variable):
    """A gradient as an array of the variable's shape."""
    return ops.add(ops.zeros(variable.shape, variable.dtype), grad) if hasattr(grad, "indices") else grad


@keras.saving.register_keras_serializable(package="igpt_tf")
class WarmupStableDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 to the peak, constant, and linear to 0 at the last step.

    Until the decay begins nothing depends on the length of the run, which may then still be changed.

    Args:
        peak: the learning rate between warm-up and decay.
        warmup: steps of the warm-up.
        n_steps: steps of the whole run.
        decay: the step at which the decay begins.
    """

    def __init__(self, peak: float, warmup: int, n_steps: int, decay: int) -> None:
        self.peak = peak
        self.warmup = warmup
        self.n_steps = n_steps
        self.decay = decay

    def __call__(self, step):
        """The learning rate of a step, from 0."""
        step = ops.cast(step, "float32")
        rising = step / max(self.warmup, 1) if self.warmup else 1.0
        falling = (self.n_steps - step) / max(self.n_steps - self.decay, 1)
        return self.peak * ops.clip(ops.minimum(rising, falling), 0.0, 1.0)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"peak": self.peak, "warmup": self.warmup, "n_steps": self.n_steps, "decay": self.decay}


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
