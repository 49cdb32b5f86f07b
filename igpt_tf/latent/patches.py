"""Maps cut into patches, which become vectors, and vectors joined to maps."""

from __future__ import annotations

import numpy as np

from igpt_tf.errors import UserError


def patch_grid(height: int, width: int, patch_H: int, patch_W: int) -> tuple[int, int]:  # noqa: N803
    """Rows and columns of patches in a map.

    Args:
        height: of the map.
        width: of the map.
        patch_H: height of a patch.
        patch_W: width of a patch.

    Raises:
        UserError: if the patches do not divide the map.
    """
    if not height or not width or height % patch_H or width % patch_W:
        raise UserError(
            f"expected maps whose height and width patches of {patch_H} x {patch_W} divide, got {height} x {width}: "
            "use other patches or images of another size"
        )
    return height // patch_H, width // patch_W


def cut(maps: np.ndarray, patch_H: int, patch_W: int) -> np.ndarray:  # noqa: N803
    """The patches of maps, row by row, each as one vector.

    Args:
        maps: (N, h, w, C).
        patch_H: height of a patch.
        patch_W: width of a patch.

    Returns:
        (N, T, patch_H * patch_W * C), T patches of each map.

    Raises:
        UserError: if the patches do not divide the maps.
    """
    n, height, width, channels = maps.shape
    rows, columns = patch_grid(height, width, patch_H, patch_W)
    parts = maps.reshape(n, rows, patch_H, columns, patch_W, channels)
    parts = parts.transpose(0, 1, 3, 2, 4, 5)  # (N, rows, columns, patch_H, patch_W, C)
    return parts.reshape(n, rows * columns, patch_H * patch_W * channels)


def join(vectors: np.ndarray, height: int, width: int, patch_H: int, patch_W: int) -> np.ndarray:  # noqa: N803
    """Undo `cut`.

    Args:
        vectors: (N, T, patch_H * patch_W * C).
        height: of the maps.
        width: of the maps.
        patch_H: height of a patch.
        patch_W: width of a patch.

    Returns:
        (N, height, width, C).

    Raises:
        UserError: if there is another number of patches.
    """
    rows, columns = patch_grid(height, width, patch_H, patch_W)
    if vectors.shape[1] != rows * columns:
        raise UserError(f"expected {rows * columns} patches of a map of {height} x {width}, got {vectors.shape[1]}")
    parts = vectors.reshape(len(vectors), rows, columns, patch_H, patch_W, -1)
    parts = parts.transpose(0, 1, 3, 2, 4, 5)  # (N, rows, patch_H, columns, patch_W, C)
    return parts.reshape(len(vectors), height, width, -1)
