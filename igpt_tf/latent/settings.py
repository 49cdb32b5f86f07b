"""How autoencoders and codebooks are trained; read without a framework."""

from __future__ import annotations

import dataclasses
import math

from igpt_tf.errors import UsageError
from igpt_tf.training.settings import PretrainSettings, RunSettings, check_bounds, redefault, setting

LOSSES = ("mse", "l1")
METHODS = ("som", "k-means", "vq", "fsq")


@dataclasses.dataclass(frozen=True)
class AutoencoderSettings(RunSettings):
    """The settings of training an autoencoder."""

    epochs: float = redefault(RunSettings, "epochs", 5.0)
    batch_size: int = redefault(RunSettings, "batch_size", 32)
    learning_rate: float = redefault(RunSettings, "learning_rate", 4e-3)
    clip_norm: float | None = redefault(RunSettings, "clip_norm", 1.0)
    optimizer: str = redefault(RunSettings, "optimizer", "muon")
    loss: str = setting("mse", str, "error of a pixel in [-1, 1]: mse, squared, or l1, absolute", choices=LOSSES)
    flip: bool = setting(True, bool, "mirror images left to right with probability 1/2, drawn anew in every pass")
    noise: float = setting(
        0.0,
        float,
        "most noise on the maps in training, so that they bear a codebook's errors: its standard deviation is drawn "
        "between 0 and this for each image",
        "at least 0",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in LOSSES:
            raise UsageError(f"expected one of {', '.join(LOSSES)}, got {self.loss!r}", "loss")


@dataclasses.dataclass(frozen=True)
class CodebookSettings:
    """How a codebook is trained. It takes seconds to minutes, and is started again if it is interrupted.

    Raises:
        UsageError: if a number is invalid or two settings contradict each other.
    """

    num_embeddings: int = setting(512, int, "units of the codebook", "at least 1")
    patch_H: int = setting(1, int, "height of a patch, in positions of the map", "at least 1")  # noqa: N815
    patch_W: int = setting(1, int, "width of a patch, in positions of the map", "at least 1")  # noqa: N815
    method: str = setting(
        "som",
        str,
        "som, a self-organising map; k-means; vq, an exponentially averaged codebook; or fsq, finite scalar "
        "quantisation",
        choices=METHODS,
    )
    grid_rows: int | None = setting(
        None,
        int,
        "rows of the units' grid, which divide their number; 1 for a line",
        "at least 1",
        unset="a near square",
    )
    steps: int = setting(1000, int, "steps of training", "at least 1")
    batch_size: int = setting(16384, int, "patches per step", "at least 1")
    decay: float = setting(0.95, float, "som and vq: share of the averages that each step keeps", "below 1")
    neighbourhood: float | None = setting(
        None,
        float,
        "som: width of the neighbourhood at the first step, in units of the grid",
        "at least 0",
        unset="a quarter of the grid's longer side",
    )
    neighbourhood_step: int = setting(20, int, "som: steps between two shrinkings of the neighbourhood", "at least 1")
    levels: tuple[int, ...] = setting(
        (), int, "fsq: levels of each number; their product is the number of units", unset="eights and fours", nargs="*"
    )
    seed: int = setting(0, int, "seed of the first units, the order of the maps and the re-seeded units", "at least 0")

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.method not in METHODS:
            raise UsageError(f"expected one of {', '.join(METHODS)}, got {self.method!r}", "method")
        if self.grid_rows is not None and self.num_embeddings % self.grid_rows:
            raise UsageError(
                f"expected rows that divide {self.num_embeddings} units, got {self.grid_rows}", "grid_rows"
            )
        if self.levels and (math.prod(self.levels) != self.num_embeddings or min(self.levels) < 2):
            raise UsageError(
                f"expected levels from 2 on whose product is num_embeddings {self.num_embeddings}, got {self.levels}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the units' grid."""
        n_units = self.num_embeddings
        rows = self.grid_rows or max(i for i in range(1, math.isqrt(n_units) + 1) if n_units % i == 0)
        return rows, n_units // rows


@dataclasses.dataclass(frozen=True)
class BaseSettings(PretrainSettings):
    """The settings of training the base transformer, which always knows the code of the whole map."""

    class_dropout: float = redefault(PretrainSettings, "class_dropout", 0.0)
