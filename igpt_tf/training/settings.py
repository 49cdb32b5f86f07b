"""The settings of training runs: each is declared once, with its default, its help and how to read it from text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from igpt_tf.errors import UsageError

SCHEDULES = ("cosine", "constant", "wsd")
# Of these, nothing before the end depends on the length of the run.
PROLONGABLE = ("constant", "wsd")
OPTIMIZERS = ("adam", "muon")
# The paper's second decay of Adam, and the images per step that it is for (section 3.4).
PAPER_BETA_2 = 0.95
PAPER_BATCH = 128


# What the bounds of numbers are called, and what they ask of a value.
BOUNDS: dict[str, Callable[[float], bool]] = {
    "positive": lambda value: 0 < value < math.inf,
    "at least 0": lambda value: 0 <= value < math.inf,
    "at least 1": lambda value: 1 <= value < math.inf,
    "between 0 and 1": lambda value: 0 < value < 1,
    "below 1": lambda value: 0 <= value < 1,
}


class Plan(NamedTuple):
    """The length of a run.

    n_intervals: save intervals.
    steps: of each save interval.
    warmup: steps of the warm-up.
    """

    n_intervals: int
    steps: int
    warmup: int

    @property
    def whole(self) -> int:
        """Steps of the run."""
        return self.n_intervals * self.steps


def setting(default: Any, kind: type, text: str, bound: str | None = None, unset: str = "", **options: Any) -> Any:
    """A field of a settings class.

    Args:
        default: its value when nothing else is said.
        kind: the type of its values, None aside.
        text: its help, in a few words.
        bound: one of `BOUNDS`; None: any value.
        unset: for the help: what happens by default where the default says nothing, such as None.
        options: how a command line reads it, as in `argparse.add_argument`, such as `choices`.
    """
    metadata = {"kind": kind, "help": text, "bound": bound, "unset": unset, "options": options}
    return dataclasses.field(default=default, metadata=metadata)


def check_bounds(settings: Any) -> None:
    """Refuse fields of a settings class, made with `setting`, that are out of their bounds."""
    for field in dataclasses.fields(settings):
        value, bound = getattr(settings, field.name), field.metadata["bound"]
        if value is not None and bound is not None and not BOUNDS[bound](value):
            raise UsageError(f"expected `{field.name}` to be {bound}, got {value}")


def redefault(base: type[RunSettings], name: str, default: Any) -> Any:
    """The field of a base class with another default."""
    return dataclasses.field(default=default, metadata=base.__dataclass_fields__[name].metadata)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The settings of every training run; the defaults are ours for small models, the paper's where it names one.

    Either of `steps` and `epochs` is rounded up to whole save intervals. A save interval ends with validation and a
    checkpoint.

    Raises:
        UsageError: if a number is invalid or two settings contradict each other.
    """

    epochs: float = setting(1.0, float, "passes over the data; may be a fraction", "positive")
    steps: int | None = setting(
        None, int, "optimiser steps of the whole run, instead of epochs", "positive", unset="set by epochs"
    )
    batch_size: int = setting(16, int, "images per step, over all devices (the paper: 128)", "positive")
    learning_rate: float = setting(3e-3, float, "peak learning rate (the paper: 0.003 for S)", "positive")
    warmup_steps: int | None = setting(
        None, int, "steps of linear warm-up", "at least 0", unset="200, or a tenth of a run of under 2,000 steps"
    )
    warmup_epochs: float | None = setting(
        None, float, "the warm-up in passes over the data, instead of steps", "at least 0", unset="set by warmup_steps"
    )
    save_every: int | None = setting(
        None, int, "about how many steps to train between checkpoints", "at least 1", unset="one pass over the data"
    )
    seed: int = setting(0, int, "seed of the initial weights, the data's order, masks and augmentation", "at least 0")
    accumulate: int = setting(1, int, "micro-batches per step, computed one after another", "at least 1")
    clip_norm: float | None = setting(
        None, float, "norm of all gradients together above which they are scaled down", "positive", unset="no limit"
    )
    ema: float | None = setting(
        None,
        float,
        "average the weights; the share of the average that each step keeps, such as 0.999",
        "between 0 and 1",
        unset="no average",
    )
    patience: int | None = setting(
        None,
        int,
        "stop after this many checkpoints without a better validation, and keep the best",
        "at least 1",
        unset="never stop",
    )
    schedule: str = setting(
        "cosine",
        str,
        "learning rate after the warm-up: cosine to 0 at the last step; constant: such a run can always be prolonged; "
        "or wsd, constant until the last fifth and then linear to 0: such a run can be prolonged before its decay",
        choices=SCHEDULES,
    )
    optimizer: str = setting(
        "adam",
        str,
        "adam (the paper's), or muon for the matrices of the blocks and adam for the rest",
        choices=OPTIMIZERS,
    )
    beta2: float | None = setting(
        None,
        float,
        "second decay of Adam (the paper: 0.95)",
        "between 0 and 1",
        unset="0.95 for 128 images per step, and as long a memory, in images, with fewer",
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        for name, choices in (("schedule", SCHEDULES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in choices:
                raise UsageError(f"expected one of {', '.join(choices)}, got {getattr(self, name)!r}", name)
        if self.batch_size % self.accumulate:
            raise UsageError(
                f"expected `accumulate` to divide `batch_size`, got {self.accumulate} and {self.batch_size}"
            )

    @property
    def micro_batch_size(self) -> int:
        """Images that are computed at once, over all devices."""
        return self.batch_size // self.accumulate

    def plan(self, n_examples: int) -> tuple[int, int]:
        """Save intervals of the run and steps in each; together at least `steps`, or `epochs` passes over the data."""
        steps = self.steps or self._steps_in(self.epochs, n_examples)
        save_every = self.save_every or self._steps_in(1, n_examples)
        if self.schedule == "wsd":
            # A longer run has intervals of the same length, or it could not resume this one.
            return math.ceil(steps / save_every), save_every
        n_intervals = max(1, round(steps / save_every))
        return n_intervals, math.ceil(steps / n_intervals)

    def warmup(self, n_examples: int) -> int:
        """Steps of the warm-up, at most all but the last of the run."""
        whole = math.prod(self.plan(n_examples))
        steps = min(200, whole // 10) if self.warmup_steps is None else self.warmup_steps
        if self.warmup_epochs is not None:
            steps = self._steps_in(self.warmup_epochs, n_examples)
        return min(steps, whole - 1)

    def plan_from(self, n_examples: int, begun: dict[str, Any] | None) -> Plan:
        """The plan of a run; one that is prolonged keeps the save interval and the warm-up that it began with.

        Args:
            n_examples: examples in one pass over the data.
            begun: what the run was trained with so far; None: it is new.
        """
        plan = Plan(*self.plan(n_examples), self.warmup(n_examples))
        if begun is None or self.schedule not in PROLONGABLE:
            return plan
        before = dataclasses.replace(self, steps=begun["steps"], epochs=begun["epochs"])
        steps = begun.get("steps_per_interval", before.plan(n_examples)[1])
        whole = self.steps or self._steps_in(self.epochs, n_examples)
        n_intervals = plan.n_intervals if steps == plan.steps else math.ceil(whole / steps)
        return Plan(n_intervals, steps, begun.get("warmup", before.warmup(n_examples)))

    def length(self, plan: Plan) -> dict[str, int]:
        """What a run that can be prolonged must agree in, and the step from which it is no longer the same run."""
        if self.schedule not in PROLONGABLE:
            return {}
        fixed = {"warmup": plan.warmup, "steps_per_interval": plan.steps}
        return {**fixed, "decay_begin": decay_begin(plan.whole)} if self.schedule == "wsd" else fixed

    def _steps_in(self, epochs: float, n_examples: int) -> int:
        return math.ceil(epochs * n_examples / self.batch_size)


def scaled_beta2(batch_size: int) -> float:
    """The second decay of Adam that remembers as many images as the paper's 0.95 does with 128 images per step.

    Larger batches keep 0.95. Source: Marek et al., "Small batch size training for language models" (2025).
    """
    return PAPER_BETA_2 ** min(1.0, batch_size / PAPER_BATCH)


def decay_begin(n_steps: int) -> int:
    """The step at which the decay of a `wsd` schedule begins: the last fifth of the run."""
    return n_steps - n_steps // 5


@dataclasses.dataclass(frozen=True)
class TokenSettings(RunSettings):
    """The settings of training on tokens."""

    bert_mask_prob: float = setting(
        0.15, float, "BERT: share of an image that is hidden (the paper: 0.15)", "between 0 and 1"
    )
    augment: tuple[str, ...] = setting(
        (),
        str,
        "augmentations, drawn anew in every pass: flip, crop, both, or no word for none",
        unset="none",
        nargs="*",
    )


@dataclasses.dataclass(frozen=True)
class PretrainSettings(TokenSettings):
    """The settings of pretraining."""

    class_dropout: float = setting(
        0.1, float, "share of the images whose class is left out, where the model is trained with classes", "below 1"
    )


@dataclasses.dataclass(frozen=True)
class FinetuneSettings(TokenSettings):
    """The settings of fine-tuning.

    The defaults are the paper's (section 3.4 and appendix A): its augmentation, no cosine, early stopping on the
    validation accuracy; and a learning rate a tenth of pretraining's.
    """

    epochs: float = redefault(TokenSettings, "epochs", 10.0)
    learning_rate: float = redefault(TokenSettings, "learning_rate", 3e-4)
    patience: int | None = redefault(TokenSettings, "patience", 3)
    augment: tuple[str, ...] = redefault(TokenSettings, "augment", ("flip", "crop"))
    schedule: str = redefault(TokenSettings, "schedule", "constant")
    generative_weight: float = setting(
        1.0, float, "weight of the generative loss beside the classes'; 0 leaves it out", "at least 0"
    )
    freeze: int = setting(0, int, "leave the embeddings and this many blocks, from the first, untrained", "at least 0")
    lora_rank: int | None = setting(
        None,
        int,
        "train nothing but the head and adapters of this rank on queries and values (Hu et al., 2021)",
        "at least 1",
        unset="train the weights",
    )
    mask: bool = setting(True, bool, "BERT: train on whole images instead of masked ones")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora_rank is not None and self.freeze:
            raise UsageError(
                "expected `lora_rank` alone, as it leaves all weights as they are, got `freeze` too: leave that out"
            )
