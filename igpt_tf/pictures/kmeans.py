"""k-means of points in few dimensions, for as many centres as a palette may have."""

import numpy as np
from tqdm import tqdm

# Up to so many points, ten starts over all of them take no time.
FEW_POINTS = 2048
# Up to so many centres, a careful start is worth its time; it grows with their square.
CAREFUL_CENTERS = 1024
# Points a centre that the careful start looks at.
CAREFUL_POINTS = 20
MOST_PASSES = 100
# A pass that lowers the error by less than this part of it is the last.
LEAST_GAIN = 1e-4


def cluster(points: np.ndarray, weights: np.ndarray, n_centers: int, seed: int, progress: bool = False) -> np.ndarray:
    """Choose centres such that the squared distance of each point to the nearest one is small on average.

    Lloyd's algorithm. Nearest centres are found with a k-d tree, on all cores: comparing every point with every centre
    would take hours for 65,536 of them. How many cores there are changes nothing in the result.

    Args:
        points: (n, d) floats, distinct; more than n_centers.
        weights: (n,) how often each occurs.
        n_centers: how many centres.
        seed: decides where the search starts.
        progress: show a bar on standard error.

    Returns:
        (n_centers, d) float64.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if len(points) <= FEW_POINTS:
        # On one thread, because sums over several depend on how many there are.
        with threadpool_limits(1):
            kmeans = KMeans(n_centers, n_init=10, random_state=seed).fit(points, sample_weight=weights)
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
    from scipy.spatial import cKDTree

    n_centers, last = len(centers), np.inf
    with tqdm(total=MOST_PASSES, unit="pass", disable=not progress, leave=False, delay=1) as bar:
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
            # A centre that is nearest to nothing starts anew where it helps most.
            centers[empty] = points[np.argsort(-errors, kind="stable")[: empty.sum()]]
            bar.update()
    return centers
