"""The nearest colour, exactly, of very many 8-bit colours.

A colour travels as one integer, its code: the first channel in the highest byte.
"""

# SciPy declares no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import numpy as np

# Far above float64's rounding of a distance, far below any difference that matters.
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
    """Find the nearest colour of each code by squared Euclidean distance, in float64; the lowest index wins a tie.

    Args:
        codes: (n,) int32, distinct for speed.
        colors: (V, n_channels) in [-1, 1].

    Returns:
        (n,) int32 indices from 0 to V - 1.
    """
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    colors = colors.astype(np.float64)
    points = scale(unpack(codes, colors.shape[1]))
    tree = cKDTree(colors)
    distances, indices = tree.query(points, k=2)
    found = indices[:, 0].astype(np.int32)
    # A tree does not say which of several equally near colours it returns.
    tied = np.flatnonzero(distances[:, 1] - distances[:, 0] < TIE)
    near = tree.query_ball_point(points[tied], distances[tied, 0] + TIE, return_sorted=True)
    for row, candidates in zip(tied, near, strict=True):
        found[row] = candidates[np.square(colors[candidates] - points[row]).sum(axis=1).argmin()]
    return found
