"""Training codebooks on maps: self-organising maps, k-means, averaged codebooks, finite scalar quantisation."""

# scikit-learn declares no types.
# pyright: reportMissingTypeStubs=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from igpt_tf.data.order import ExampleOrder
from igpt_tf.errors import UserError
from igpt_tf.latent.codebook import Codebook, row_by_row
from igpt_tf.latent.fsq import ScalarQuantizer, fit_scalars, levels_for
from igpt_tf.latent.maps import MapStore
from igpt_tf.latent.patches import cut, patch_grid
from igpt_tf.latent.settings import CodebookSettings
from igpt_tf.latent.som import SelfOrganisingMap, sort_on_grid, train_som
from igpt_tf.progress import ProgressBar

# Vectors per unit from which k-means++ chooses the first units.
START_VECTORS = 20
# Vectors on which finite scalar quantisation is fitted.
FIT_VECTORS = 1 << 17


def train_codebook(maps: MapStore, settings: CodebookSettings, progress: bool = False) -> Codebook:
    """Train a codebook of patches of maps; on one machine, the seed decides every number of it.

    Args:
        maps: from `encode_source`.
        settings: of the codebook and its training.
        progress: show a bar on standard error.

    Raises:
        UserError: if the patches do not divide the maps, or there are fewer different patches than units.
    """
    n_units = settings.num_embeddings
    patches = _Patches(maps, settings)
    rng = np.random.default_rng([settings.seed, 1])
    scalar: ScalarQuantizer | None = None
    if settings.method == "fsq":
        scalar, units = fit_scalars(patches.sample(FIT_VECTORS, rng), settings.levels or levels_for(n_units))
    else:
        units = _first_units(patches.sample(START_VECTORS * n_units, rng), n_units, settings.seed)
        with ProgressBar(total=settings.steps, unit="step", desc=settings.method, shown=progress, delay=1) as bar:
            batches = patches.batches(bar)
            units = _k_means(units, batches) if settings.method == "k-means" else _som(units, batches, settings, rng)
    positions = row_by_row(n_units, settings.grid)
    about = {"settings": dataclasses.asdict(settings), "maps": maps.fingerprint}
    how = settings.patch_H, settings.patch_W, settings.grid, positions, maps.autoencoder, settings.method
    return Codebook(units, *how, scalar=scalar, about=about)


class _Patches:
    """The patches of maps, in an order that the seed decides."""

    def __init__(self, maps: MapStore, settings: CodebookSettings) -> None:
        self.maps = maps
        self.settings = settings
        _, height, width, _ = maps.shape
        self.per_map = math.prod(patch_grid(height, width, settings.patch_H, settings.patch_W))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """All patches of these maps (n, D) float32."""
        vectors = cut(self.maps[rows], self.settings.patch_H, self.settings.patch_W)
        return vectors.reshape(-1, vectors.shape[2])

    def sample(self, n_vectors: int, rng: np.random.Generator) -> np.ndarray:
        """At most this many patches (n, D), of as many maps as there are up to that number."""
        rows = np.sort(rng.permutation(len(self.maps))[:n_vectors])
        kept = -(-n_vectors // len(rows))
        parts = []
        for start in range(0, len(rows), 1024):
            vectors = self.read(rows[start : start + 1024])
            vectors = vectors.reshape(-1, self.per_map, vectors.shape[1])  # (maps, patches of each, D)
            places = rng.integers(self.per_map, size=(len(vectors), min(kept, self.per_map)))
            parts.append(np.take_along_axis(vectors, places[:, :, None], 1).reshape(-1, vectors.shape[2]))
        return np.concatenate(parts)[:n_vectors]

    def batches(self, bar: ProgressBar) -> Iterator[np.ndarray]:
        """The batches (n, D) of all steps, counted on a bar."""
        order = ExampleOrder(len(self.maps), max(1, self.settings.batch_size // self.per_map), self.settings.seed)
        for step in range(self.settings.steps):
            yield self.read(order[step].rows)
            bar.update()


def _first_units(vectors: np.ndarray, n_units: int, seed: int) -> np.ndarray:
    """Some of the vectors, by k-means++."""
    from sklearn.cluster import kmeans_plusplus
    from threadpoolctl import threadpool_limits

    distinct = len(np.unique(vectors, axis=0))
    if distinct < n_units:
        raise UserError(
            f"expected at least {n_units} different patches for as many units, got {distinct}: "
            "give more images or ask for fewer units",
            "num_embeddings",
        )
    with threadpool_limits(1):
        return kmeans_plusplus(vectors, n_units, random_state=seed)[0].astype(np.float32)


def _k_means(units: np.ndarray, batches: Iterator[np.ndarray]) -> np.ndarray:
    """scikit-learn's k-means in batches."""
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(len(units), init=units, n_init=1, random_state=0)
    for vectors in batches:
        kmeans.partial_fit(vectors)
    return kmeans.cluster_centers_.astype(np.float32)


def _som(
    units: np.ndarray, batches: Iterator[np.ndarray], settings: CodebookSettings, rng: np.random.Generator
) -> np.ndarray:
    """A self-organising map, or, for vq, the same without a neighbourhood."""
    grid, width = settings.grid, settings.neighbourhood
    if settings.method == "vq":
        width = 0
    elif width is None:
        width = max(grid) / 4
    som = SelfOrganisingMap(sort_on_grid(units, grid), row_by_row(len(units), grid), settings.decay, rng)
    train_som(som, batches, settings.steps, width, settings.neighbourhood_step)
    return som.units
