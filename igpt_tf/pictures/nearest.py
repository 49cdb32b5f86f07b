"""The nearest colour, exactly, of very many 8-bit colours.

A colour travels as one integer, its code: the first channel in the highest byte.
"""

import numpy as np

# Colour space is cut into cubes of this many 8-bit levels a side.
CELL_LEVELS = 16
# From so many colours on, a tree finds them faster than cells do.
MANY_COLORS = 2048
# Far above float64's rounding of a distance, far below any that matters.
TIE = 1e-9


def scale(levels: np.ndarray) -> np.ndarray:
    """Return 8-bit levels as float64 in [-1, 1]."""
    return levels / 127.5 - 1


def pack(levels: np.ndarray) -> np.ndarray:
    """Return (..., n_channels) 8-bit levels as (...) int32 codes."""
    codes = levels[..., 0].astype(np.int32)
    for channel in range(1, levels.shape[-1]):
        codes <<= 8
        codes |= levels[..., channel]
    return codes


def unpack(codes: np.ndarray, n_channels: int) -> np.ndarray:
    """Undo `pack`: (n,) codes to (n, n_channels) uint8."""
    shifts = np.arange(n_channels - 1, -1, -1) * 8
    return (codes[:, None] >> shifts & 255).astype(np.uint8)


def nearest(codes: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return which of the colours is nearest to each code.

    The distance is squared Euclidean, in float64; of equally near colours the lowest index wins.

    Args:
        codes: (n,) int32, distinct for speed.
        colors: (V, n_channels) in [-1, 1].

    Returns:
        (n,) int32 indices from 0 to V - 1.
    """
    if len(colors) < MANY_COLORS:
        return _by_cells(codes, colors)
    from scipy.spatial import cKDTree

    distances, indices = cKDTree(colors).query(scale(unpack(codes, colors.shape[1])), k=2)
    found = indices[:, 0].astype(np.int32)
    # A tree does not say which of equals it takes.
    tied = np.flatnonzero(distances[:, 1] - distances[:, 0] < TIE)
    if tied.size:
        found[tied] = _by_cells(codes[tied], colors)
    return found


def _by_cells(codes: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """As `nearest`, with colour space cut into cells.

    Within one, only colours that are nearest to some point of the cell need comparing: of 512 colours about a dozen
    are left.
    """
    n_channels = colors.shape[1]
    colors = colors.astype(np.float64)
    levels = unpack(codes, n_channels)
    cells = levels // CELL_LEVELS
    packed = pack(cells)
    order = np.argsort(packed, kind="stable")
    starts = np.flatnonzero(np.diff(packed[order])) + 1
    least, greatest = _cell_distances(colors)
    indices = np.empty(len(codes), np.int32)
    for members in np.split(order, starts):
        cell = cells[members[0]]
        # A colour whose least distance to the cell exceeds another's greatest is never nearest. The margin is far
        # above float64 rounding, so that no tie is lost to it.
        limit = greatest[range(n_channels), cell].sum(axis=0).min() + 1e-9
        candidates = np.flatnonzero(least[range(n_channels), cell].sum(axis=0) <= limit)
        distances = np.zeros((len(members), len(candidates)))
        for values, centers in zip(scale(levels[members]).T, colors[candidates].T, strict=True):
            distances += np.square(values[:, None] - centers)
        # `candidates` ascends and argmin takes the first: the lowest index wins a tie.
        indices[members] = candidates[distances.argmin(axis=1)]
    return indices


def _cell_distances(colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest squared distance of each colour to the points of each cell.

    A cell is a box, so both are sums of one term a channel: two (n_channels, 256 / CELL_LEVELS, V) arrays.
    """
    first = np.arange(0, 256, CELL_LEVELS)[:, None]
    low, high = scale(first), scale(first + CELL_LEVELS - 1)
    colors = colors.T[:, None, :]
    least = np.maximum(np.maximum(low - colors, colors - high), 0)
    greatest = np.maximum(np.abs(colors - low), np.abs(colors - high))
    return np.square(least), np.square(greatest)
