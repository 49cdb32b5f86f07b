"""Reading pictures that were named; writing what was drawn: the grid, the film, and where everything is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from igpt_tf.errors import UsageError, UserError
from igpt_tf.storage.files import require_writable

if TYPE_CHECKING:
    import numpy as np

# What is not drawn yet, in grids and films.
BLANK = 220
FRAMES = 64
# Pictures of a series that its grid and its film show, and whose paths are printed; rows of completions likewise.
SHOWN = 100


def check_places(options: argparse.Namespace) -> None:
    """Refuse places that cannot be written before the work is done, not after."""
    if options.grid is not None and (options.grid.suffix.lower() != ".png" or options.grid.is_dir()):
        raise UsageError(f"--grid: expected the name of a .png file, found {options.grid}")
    for folder in (options.out, *([options.grid.parent] if options.grid else [])):
        require_writable(folder)


def finish(
    options: argparse.Namespace,
    n: int,
    paths: list[Path],
    rows: list[list[np.ndarray]],
    frames: list[np.ndarray] | None,
) -> None:
    """Write the grid of `rows` and the film, and print where everything is, the grid last.

    Args:
        options: `out`, `grid`, `scale` and `json` of the sampling options.
        n: how many pictures were drawn.
        paths: of the pictures, which are written already; printed only if they are all of them.
        rows: pictures of the grid, row by row.
        frames: of drawing.gif, or None.
    """
    from igpt_tf.pictures.imaging import grid, write_gif, write_png

    result: dict = {"folder": str(options.out), "n": n}
    lines = [f"{options.out}: {n} pictures"]
    if len(paths) == n:
        result["images"] = lines = [str(path) for path in paths]
    if frames is not None:
        result["gif"] = str(options.out / "drawing.gif")
        write_gif(result["gif"], frames, scale=options.scale)
    result["grid"] = str(options.grid or options.out / "grid.png")
    write_png(result["grid"], grid(rows, scale=options.scale))
    if options.json:
        print(json.dumps(result))
        return
    for line in [*lines, *(result[name] for name in ("gif", "grid") if name in result)]:
        print(line)


def seen(pictures: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pictures (N, n_px, n_px, C) with the pixels that are not known (T,) blank."""
    import numpy as np

    known = known.reshape(1, *pictures.shape[1:3], 1)
    return np.where(known, pictures, np.uint8(BLANK))


def film(pictures: np.ndarray, known: np.ndarray, columns: int) -> list[np.ndarray]:
    """Frames of pictures that are drawn in raster order from what is known.

    Args:
        pictures: (N, n_px, n_px, C) uint8.
        known: (T,) booleans.
        columns: pictures in a row of each frame.
    """
    import numpy as np

    from igpt_tf.pictures.imaging import grid

    unknown = np.flatnonzero(~known)
    frames = []
    for count in np.unique(np.linspace(0, len(unknown), FRAMES).astype(int)):
        shown = known.copy()
        shown[unknown[:count]] = True
        frames.append(grid(in_rows(list(seen(pictures, shown)), columns)))
    return frames


def in_rows(pictures: list[np.ndarray], columns: int) -> list[list[np.ndarray]]:
    """Pictures in rows of so many columns."""
    return [pictures[i : i + columns] for i in range(0, len(pictures), columns)]


def read_pictures(sources: list[str], n_px: int) -> tuple[list[str], np.ndarray]:
    """The path or address of each picture, and the pictures (N, n_px, n_px, 3)."""
    import numpy as np

    from igpt_tf.download.single import read_url
    from igpt_tf.pictures.imaging import find_images, load_images, read_image, resize_and_crop

    paths, pictures = [], []
    for source in sources:
        if _is_address(source):
            try:
                picture = read_image(read_url(source))
            except UserError as error:
                raise error if source in str(error) else UserError(f"{source}: {error}") from error
            paths.append(source)
            pictures.append(resize_and_crop(picture, n_px)[None])
        else:
            files = find_images(source)
            paths += map(str, files)
            pictures.append(load_images(files, n_px))
    return paths, np.concatenate(pictures)


def names_of(paths: list[str]) -> list[str]:
    """A name for each of `read_pictures`' paths, those that were there before with a number behind them."""
    taken: dict[str, None] = {}
    for path in paths:
        name = Path(unquote(urlsplit(path).path) if _is_address(path) else path).stem or "picture"
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        taken[free] = None
    return list(taken)


def _is_address(path: str) -> bool:
    return path.lower().startswith(("http://", "https://"))
