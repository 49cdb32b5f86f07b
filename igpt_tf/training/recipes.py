"""Recipes: settings by name, the paper's and those of the bundled models."""

from __future__ import annotations

import dataclasses

from igpt_tf.config import SIZES, ImageGPTConfig
from igpt_tf.errors import UsageError, meant
from igpt_tf.training.settings import PretrainSettings, scaled_beta2


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything about a run but its data and devices.

    Attributes:
        summary: what it makes, in a few words.
        config: the model's shape.
        settings: of the run.
        data: what it is for.
        source: where the numbers come from, and which of them could not be confirmed.
        expected_loss: nats per token on held-out images; None where nobody measured it.
        duration: how long it took; None where nobody measured it.
        machine: on which machine; None where nobody measured it.
    """

    summary: str
    config: ImageGPTConfig
    settings: PretrainSettings
    data: str
    source: str
    expected_loss: float | None = None
    duration: str | None = None
    machine: str | None = None

    def describe(self) -> list[tuple[str, str]]:
        """Title and text of every line that a printout has."""
        run, loss = self.settings, self.expected_loss
        length = f"{run.epochs:g} epoch(s)" if run.steps is None else f"{run.steps:,} steps"
        warmup = f"{run.warmup_steps:,} steps" if run.warmup_epochs is None else f"{run.warmup_epochs:g} epoch(s)"
        shape = ", ".join(f"{name} {value}" for name, value in self.config.to_dict().items())
        return [
            ("model", f"{self.summary}; {shape}"),
            ("data", self.data),
            (
                "training",
                f"{length} of {run.batch_size} images, {run.optimizer.capitalize()}, second decay of Adam "
                f"{run.beta2 or scaled_beta2(run.batch_size):g}, learning rate {run.learning_rate:g} after {warmup} of "
                f"warm-up, {run.schedule}",
            ),
            ("source", self.source),
            ("expected loss", "not measured" if loss is None else f"{loss:.4f} nats per token"),
            ("duration", self.duration or "not measured"),
            ("machine", self.machine or "not measured"),
        ]


IMAGENET = "ImageNet (ILSVRC 2012) at 32x32 in OpenAI's 512 colours"
# Section 3.4: batch, steps, Adam, warm-up, schedule, no dropout. Appendix A.1: no weight decay, masks of 15 %.
PAPER = {"batch_size": 128, "steps": 1_000_000, "warmup_epochs": 1.0, "save_every": 5000}
CONFIRMED = "the paper, section 3.4 and appendix A.1"
UNCONFIRMED = (
    f"{CONFIRMED}; but the learning rate is not confirmed: the paper's table 5 has it, which could not be read. It is "
    "one of those that section 3.4 says were tried from large to small (0.01, 0.003, 0.001, ...): "
    "take the next smaller one if the loss leaps early and does not come back"
)
BUNDLED = ImageGPTConfig(n_layer=12, n_embd=256, n_head=4)
BUNDLED_RUN = {
    "batch_size": 128,
    "optimizer": "muon",
    "learning_rate": 5e-3,
    "warmup_steps": 200,
    "augment": ("flip",),
    "seed": 0,
}
H200 = "one NVIDIA H200, JAX, mixed bfloat16"


def _paper(size: str, learning_rate: float, source: str = UNCONFIRMED, bert: bool = False, **measured) -> Recipe:
    return Recipe(
        summary=f"the paper's iGPT-{size.upper()}{' with the BERT objective' if bert else ''}",
        config=dataclasses.replace(SIZES[size], bert=bert),
        settings=PretrainSettings(learning_rate=learning_rate, **PAPER),
        data=IMAGENET,
        source=source,
        **measured,
    )


RECIPES: dict[str, Recipe] = {
    # The losses are those that OpenAI's README gives for its own checkpoints.
    "paper-s": _paper("s", 3e-3, CONFIRMED, expected_loss=2.0895),
    "paper-m": _paper("m", 3e-3, expected_loss=2.0614),
    "paper-l": _paper("l", 1e-3, expected_loss=2.0466, duration="about 2,500 V100-days (OpenAI's announcement)"),
    "paper-s-bert": _paper("s", 3e-3, bert=True),
    "paper-m-bert": _paper("m", 3e-3, bert=True),
    "paper-l-bert": _paper("l", 1e-3, bert=True),
    "nano-cifar10": Recipe(
        summary="the bundled model of CIFAR-10's ten classes",
        config=dataclasses.replace(BUNDLED, n_start=11),
        settings=PretrainSettings(epochs=18, save_every=1173, **BUNDLED_RUN),
        data="the 50,000 training images of CIFAR-10 as JPEG files, with labels, in 512 colours of its own",
        source="checkpoints/nano-cifar10/README.md",
        expected_loss=1.5790,
        duration="6 min",
        machine=H200,
    ),
    "nano-imagenet32": Recipe(
        summary="the bundled model of 200 classes of photographs",
        config=dataclasses.replace(BUNDLED, n_start=201),
        settings=PretrainSettings(epochs=5, save_every=1000, class_dropout=0.2, **BUNDLED_RUN),
        data="50,000 images of Tiny ImageNet at 32x32, with labels, in 512 colours of its own",
        source="checkpoints/nano-imagenet32/README.md",
        expected_loss=2.1080,
        duration="2 min",
        machine=H200,
    ),
    "nano-mnist": Recipe(
        summary="the bundled model of the ten digits",
        config=dataclasses.replace(SIZES["nano"], n_px=28, n_vocab=16, n_start=11),
        settings=PretrainSettings(
            epochs=12,
            batch_size=128,
            optimizer="muon",
            learning_rate=1e-2,
            warmup_steps=200,
            save_every=1407,
            seed=0,
        ),
        data="the 60,000 training images of MNIST, with labels, in 16 levels of grey",
        source="checkpoints/nano-mnist/README.md",
        expected_loss=0.2789,
        duration="1 min",
        machine=H200,
    ),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        UsageError: if there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"expected a recipe of {', '.join(RECIPES)}, got {name!r}{meant(name, RECIPES)}")
    return RECIPES[name]


def describe_recipes() -> str:
    """All recipes as text: a paragraph each."""
    return "\n\n".join(
        "\n".join([name, *(f"  {title:<14}{text}" for title, text in recipe.describe())])
        for name, recipe in RECIPES.items()
    )
