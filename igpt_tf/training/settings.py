"""What decides the course of a run."""

from __future__ import annotations

import dataclasses
import math

from igpt_tf.errors import UsageError

SCHEDULES = ("cosine", "constant")


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """What decides the course of a run; the defaults are ours for small models, the paper's where it names one.

    Attributes:
        epochs: passes over the data; may be a fraction.
        steps: optimiser steps of the whole run; if given, `epochs` does not count. Either is rounded up to periods of
            one length.
        batch_size: images an optimiser step, over all devices (the paper: 128).
        learning_rate: the peak (the paper: 0.003 for S).
        warmup_steps: linear warm-up. None: 200, or a tenth of a shorter run.
        warmup_epochs: the warm-up in passes over the data; if given, `warmup_steps` does not count.
        save_every: about how many steps a period has, which ends with validation and a checkpoint; None: one pass over
            the data.
        seed: of the initial weights, of the order of the data, of masks and of augmentation.
        accumulate: parts in which a batch is computed, one after another; the step is that of the whole batch.
        clip_norm: longest gradient, all weights together; longer ones are scaled down to it. None: as they are.
        ema: how much of the average of the weights a step keeps, such as 0.999; None: no average is kept.
        patience: periods without a better validation loss after which training ends; None: it never does.
        bert_mask_prob: how much of an image a BERT model does not see (the paper: 0.15).
        augment: names of augmentations, in the order in which they are applied.
        schedule: what the learning rate does after the warm-up: "cosine" to 0 at the last step, or "constant".

    Raises:
        UsageError: if a number is one that no run can have.
    """

    epochs: float = 1.0
    steps: int | None = None
    batch_size: int = 16
    learning_rate: float = 3e-3
    warmup_steps: int | None = None
    warmup_epochs: float | None = None
    save_every: int | None = None
    seed: int = 0
    accumulate: int = 1
    clip_norm: float | None = None
    ema: float | None = None
    patience: int | None = None
    bert_mask_prob: float = 0.15
    augment: tuple[str, ...] = ()
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        """Refuse numbers that no run can have."""
        for name in ("epochs", "batch_size", "learning_rate", "steps", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be positive, got {value}")
        for name in ("warmup_steps", "warmup_epochs"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name} must be at least 0, got {value}")
        for name in ("save_every", "patience", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        for name in ("ema", "bert_mask_prob"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise UsageError(f"{name} must be between 0 and 1, got {value}")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        if self.batch_size % self.accumulate:
            raise UsageError(f"accumulate must divide batch_size, got {self.accumulate} and {self.batch_size}")

    @property
    def part_size(self) -> int:
        """Images that are computed at a time, over all devices."""
        return self.batch_size // self.accumulate

    def plan(self, n_images: int) -> tuple[int, int]:
        """Periods of the run and steps in each; together at least `steps`, or `epochs` passes over `n_images`."""
        steps = self.steps or self._steps_in(self.epochs, n_images)
        save_every = self.save_every or self._steps_in(1, n_images)
        n_periods = max(1, round(steps / save_every))
        return n_periods, math.ceil(steps / n_periods)

    def warmup(self, n_images: int) -> int:
        """Steps of the warm-up, at most all but the last of the run."""
        whole = math.prod(self.plan(n_images))
        steps = min(200, whole // 10) if self.warmup_steps is None else self.warmup_steps
        if self.warmup_epochs is not None:
            steps = self._steps_in(self.warmup_epochs, n_images)
        return min(steps, whole - 1)

    def _steps_in(self, epochs: float, n_images: int) -> int:
        return math.ceil(epochs * n_images / self.batch_size)


@dataclasses.dataclass(frozen=True)
class FinetuneSettings(PretrainSettings):
    """What decides the course of fine-tuning, beside all that decides pretraining's.

    The defaults are the paper's (section 3.4 and appendix A): its augmentation, no cosine, early stopping on the
    validation accuracy; and a learning rate a tenth of pretraining's.

    Attributes:
        generative_weight: weight of the generative loss beside the classes'; 0 leaves it out.
        freeze: leaves the embeddings and so many blocks, from the first, as they are; 0 trains everything.
        lora_rank: trains nothing but the head and adapters of this rank on the queries and values of every block
            (Hu et al., 2021); None trains the weights themselves.
        mask: whether a BERT model's images are masked while it trains, as in the paper; False shows all of them.

    Raises:
        UsageError: if a number is one that no run can have.
    """

    epochs: float = 10.0
    learning_rate: float = 3e-4
    patience: int | None = 3
    augment: tuple[str, ...] = ("flip", "crop")
    schedule: str = "constant"
    generative_weight: float = 1.0
    freeze: int = 0
    lora_rank: int | None = None
    mask: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that no run can have."""
        super().__post_init__()
        if not 0 <= self.generative_weight < math.inf:
            raise UsageError(f"generative_weight must be at least 0, got {self.generative_weight}")
        if self.freeze < 0:
            raise UsageError(f"freeze must be at least 0, got {self.freeze}")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise UsageError(f"lora_rank must be at least 1, got {self.lora_rank}")
        if self.lora_rank is not None and self.freeze:
            raise UsageError("lora_rank leaves all weights as they are: leave out freeze")
