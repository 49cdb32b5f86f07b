"""Self-organising maps, trained in batches; without a neighbourhood, exponentially averaged codebooks.

Source: Irie et al., "Topological neural discrete representation learning à la Kohonen" (2023).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import sparse

from igpt_tf.latent.nearest_units import nearest_units

# Below this width a neighbourhood moves the nearest unit alone: its neighbours would get less than a fiftieth.
LEAST_WIDTH = 0.36
# A unit is dead when it gets less than this share of what it would get if all got the same.
DEAD = 0.01


class SelfOrganisingMap:
    """K units on a grid, which move to the average of the vectors nearest to them and to their neighbours.

    Args:
        units: (K, D) float32, to start with.
        positions: (K, 2) of each unit on the grid.
        decay: share of the averages that each step keeps.
        rng: draws the vectors that take the place of dead units.
    """

    def __init__(self, units: np.ndarray, positions: np.ndarray, decay: float, rng: np.random.Generator) -> None:
        self.units = units.astype(np.float32)
        self.counts = np.zeros(len(units))
        self.sums = np.zeros(units.shape)
        self._distances = np.square(positions[:, None] - positions[None]).sum(2)
        self._decay = decay
        self._rng = rng

    def step(self, vectors: np.ndarray, width: float) -> None:
        """Move the units.

        Args:
            vectors: (n, D) float32, a batch.
            width: standard deviation of the neighbourhood on the grid; 0 for none.
        """
        codes = nearest_units(vectors, self.units)
        n_vectors, n_units = len(vectors), len(self.units)
        members = sparse.csr_array(
            (np.ones(n_vectors, np.float32), (codes, np.arange(n_vectors))), (n_units, n_vectors)
        )
        counts, sums = members.sum(1).astype(float), np.asarray(members @ vectors, float)
        if width >= LEAST_WIDTH:
            # The one matrix product that an averaged codebook does not need.
            neighbours = np.exp(self._distances / (-2 * width**2))
            counts, sums = neighbours @ counts, neighbours @ sums
        self.counts = self._decay * self.counts + (1 - self._decay) * counts
        self.sums = self._decay * self.sums + (1 - self._decay) * sums
        seen = self.counts > 1e-9
        self.units[seen] = (self.sums[seen] / self.counts[seen, None]).astype(np.float32)

    def reseed(self, vectors: np.ndarray) -> int:
        """Put random vectors in place of dead units; returns how many.

        Args:
            vectors: (n, D) float32.
        """
        fair = self.counts.mean()
        dead = np.flatnonzero(self.counts < DEAD * fair)
        dead = dead[: len(vectors)]
        self.units[dead] = vectors[self._rng.choice(len(vectors), len(dead), replace=False)]
        # As if it had a fair share, or the next vector alone would move it.
        self.counts[dead] = fair
        self.sums[dead] = fair * self.units[dead]
        return len(dead)


def sort_on_grid(units: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Units (K, D) in an order in which, row by row, neighbours on the grid are already somewhat alike.

    Args:
        units: (K, D), K the size of the grid.
        grid: rows and columns.
    """
    centred = units - units.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    first = centred @ axes[0]
    second = centred @ axes[1] if len(axes) > 1 else first
    if min(grid) == 1:
        return units[np.argsort(first, kind="stable")]
    rows = np.argsort(first, kind="stable").reshape(grid)
    return units[np.concatenate([row[np.argsort(second[row], kind="stable")] for row in rows])]


def train_som(
    som: SelfOrganisingMap, batches: Iterable[np.ndarray], n_steps: int, width: float, neighbourhood_step: int
) -> None:
    """Train on batches (n, D) with a neighbourhood that shrinks, and is gone in the last fifth.

    Dead units are re-seeded whenever it shrinks, until a tenth of the steps is left to settle.

    Args:
        som: is trained in place.
        batches: at least `n_steps` of them.
        n_steps: steps.
        width: of the neighbourhood at the first step; 0 for none at all.
        neighbourhood_step: steps between two shrinkings.
    """
    # Every shrinking divides the width by the same number.
    n_shrinkings = max(1, int(0.8 * n_steps) // neighbourhood_step)
    for number, vectors in zip(range(n_steps), batches, strict=False):
        shrinkings = number // neighbourhood_step
        wide = width > LEAST_WIDTH and shrinkings < n_shrinkings
        som.step(vectors, width * (LEAST_WIDTH / width) ** (shrinkings / n_shrinkings) if wide else 0)
        if (number + 1) % neighbourhood_step == 0 and number < 0.9 * n_steps:
            som.reseed(vectors)
