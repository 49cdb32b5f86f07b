"""The colours of a palette, by k-means on pixels."""

# SciPy, scikit-learn and threadpoolctl declare no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.pictures.nearest import pack, scale, unpack
from igpt_tf.progress import ProgressBar

# At least this many pixels are sampled for each colour.
PIXELS_PER_COLOR = 32
# With at most this many points, k-means is run ten times from different starts.
FEW_POINTS = 2048
# With at most this many centres, they start by k-means++, whose time grows with the square of their number.
CAREFUL_CENTERS = 1024
# Points per centre that k-means++ chooses from.
CAREFUL_POINTS = 20
MOST_PASSES = 100
# The search ends when a pass lowers the error by less than this fraction of it.
LEAST_GAIN = 1e-4


def choose_colors(images: np.ndarray, n_colors: int, seed: int, max_pixels: int, progress: bool = False) -> np.ndarray:
    """The colours of `Palette.fit` (V, n_channels), float32 in [-1, 1], for images (N, height, width, n_channels)."""
    max_pixels = max(max_pixels, PIXELS_PER_COLOR * n_colors)
    pixels = _draw_pixels(images, max_pixels, np.random.default_rng(seed))
    codes, counts = np.unique(pack(pixels), return_counts=True)
    colors = scale(unpack(codes, images.shape[3]))
    if len(colors) < n_colors:
        raise UserError(
            f"expected pixels of at least {n_colors} distinct colours, got {len(colors)}: "
            f"ask for at most {len(colors)} colours or give more images"
        )
    if len(colors) > n_colors:
        colors = cluster(colors, counts, n_colors, seed, progress)
    return _dark_to_bright(np.clip(colors, -1, 1).astype(np.float32))


def _draw_pixels(images: np.ndarray, max_pixels: int, rng: np.random.Generator) -> np.ndarray:
    """At most `max_pixels` random pixels (n, n_channels); little more than those is read."""
    n_pixels = int(np.prod(images.shape[:3]))
    if n_pixels <= max_pixels:
        return images.reshape(n_pixels, images.shape[3])
    # Sorted, so that a memory-mapped file is read from front to back.
    positions = np.sort(rng.integers(n_pixels, size=max_pixels))
    return images[np.unravel_index(positions, images.shape[:3])]


def _dark_to_bright(colors: np.ndarray) -> np.ndarray:
    """Sort (V, n_channels) colours by ITU-R 601 luma; equally bright ones by channel, so that the order is unique."""
    luma = colors @ np.array([0.299, 0.587, 0.114]) if colors.shape[1] == 3 else colors[:, 0]
    return colors[np.lexsort((*colors.T[::-1], luma))]


def cluster(points: np.ndarray, weights: np.ndarray, n_centers: int, seed: int, progress: bool = False) -> np.ndarray:
    """k-means by Lloyd's algorithm, whose result does not depend on the number of cores.

    A k-d tree finds the nearest centres. With 65,536 centres, one pass of scikit-learn's `MiniBatchKMeans` takes twenty
    times as long as the whole search here, and its palettes of 512 to 4,096 colours are 2 to 8 % worse.

    Args:
        points: (n, d) floats, distinct; more than n_centers.
        weights: (n,) how often each point occurs.
        n_centers: number of centres.
        seed: of the starting centres.
        progress: show a bar on standard error.

    Returns:
        (n_centers, d) float64.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if len(points) <= FEW_POINTS:
        # On one thread, because the rounding of sums depends on the number of threads.
        with threadpool_limits(1):
            kmeans = KMeans(n_centers, n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType]
            kmeans.fit(points, sample_weight=weights)
        return kmeans.cluster_centers_.astype(np.float64)
    return _lloyd(points, weights, _start(points, weights, n_centers, seed), progress)


def _start(points: np.ndarray, weights: np.ndarray, n_centers: int, seed: int) -> np.ndarray:
    from sklearn.cluster import kmeans_plusplus
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    if n_centers > CAREFUL_CENTERS:
        return points[rng.choice(len(points), n_centers, replace=False)]
    some = rng.permutation(len(points))[: CAREFUL_POINTS * max(n_centers, CAREFUL_POINTS)]
    with threadpool_limits(1):
        return kmeans_plusplus(points[some], n_centers, sample_weight=weights[some], random_state=seed)[0]


def _lloyd(points: np.ndarray, weights: np.ndarray, centers: np.ndarray, progress: bool) -> np.ndarray:
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    n_centers, last = len(centers), np.inf
    with ProgressBar(total=MOST_PASSES, unit="pass", desc="k-means", shown=progress, delay=1) as bar:
        for _ in range(MOST_PASSES):
            distances, nearest = cKDTree(centers).query(points, workers=-1)
            errors = weights * np.square(distances)
            total = errors.sum()
            if total >= last * (1 - LEAST_GAIN):
                break
            last = total
            masses = np.bincount(nearest, weights, n_centers)
            sums = [np.bincount(nearest, weights * column, n_centers) for column in points.T]
            empty = masses == 0
            centers = np.stack(sums, axis=1) / np.where(empty, 1, masses)[:, None]
            # A centre without points moves to one of the points that are farthest from theirs.
            centers[empty] = points[np.argsort(-errors, kind="stable")[: empty.sum()]]
            bar.update()
    return centers
