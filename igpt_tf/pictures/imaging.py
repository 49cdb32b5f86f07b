"""Image files to uint8 arrays."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from igpt_tf.errors import UserError, skipped
from igpt_tf.pictures.decoding import decode

# Files of a folder with these extensions are images.
IMAGE_EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".tif", ".tiff", ".bmp", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".jp2", ".avif"),
)
# What systems leave in folders, unseen by their users.
UNSEEN = ("thumbs.db", "desktop.ini")


def read_image(source: str | os.PathLike[str] | bytes) -> np.ndarray:
    """Read an image as it would look on white paper.

    Transparent parts are composited on white, colours become those of sRGB, 16-bit channels keep their high byte, a
    photograph is turned upright as its EXIF data says, and only the first frame of an animation or a multi-page file is
    read. A JPEG of more than 89 million pixels is read at a half, a quarter or an eighth of its size.

    Args:
        source: a path, or the bytes of a file.

    Returns:
        (height, width, 3) uint8.

    Raises:
        UserError: if it is no whole image file, or needs more memory than IGPT_IMAGE_GB (2 GiB) to be decoded.
    """
    return read_with_size(source)[0]


def read_with_size(
    source: str | os.PathLike[str] | bytes, most_pixels: int | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Read an image as `read_image` does, and the width and height that it has in its file.

    Args:
        source: a path, or the bytes of a file.
        most_pixels: an image of more is refused before it is decoded; None: only if memory is short.
    """
    image = _read(source, most_pixels)
    size = image.info["size"]
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB")), size


def read_with_alpha(source: str | os.PathLike[str] | bytes, most_pixels: int | None = None) -> np.ndarray:
    """Read an image as `read_image` does, (height, width, 4) uint8, its transparency as the fourth channel.

    Args:
        source: a path, or the bytes of a file.
        most_pixels: an image of more is refused before it is decoded; None: only if memory is short.
    """
    return np.array(_read(source, most_pixels).convert("RGBA"))


def _read(source: str | os.PathLike[str] | bytes, most_pixels: int | None = None) -> Image.Image:
    """An image in mode RGB, or RGBA if it has transparency."""
    name = "the bytes given as an image" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{name}: expected an image file, got nothing: check the path") from None
    except OSError as error:
        raise UserError(
            f"{name}: expected an image file, got one that cannot be read ({error.strerror or error})"
        ) from None
    if not data:
        raise UserError(f"{name}: expected an image file, got an empty one")
    try:
        return decode(data, most_pixels)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise UserError(
            f"{name}: expected an image file such as PNG or JPEG, got something else: convert it to PNG"
        ) from None
    # Each decoder fails in its own ways, from SyntaxError and struct.error to RuntimeError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{name}: expected a whole image file, got one that cannot be decoded ({reason}): get it again"
        ) from error


def find_images(path: str | os.PathLike[str]) -> list[Path]:
    """The sorted paths of the image files at a path; a warning names other files and folders that cannot be read.

    Args:
        path: one file of any name, or a folder, whose subfolders, also linked ones, are searched too, by extension
            (`IMAGE_EXTENSIONS`); hidden files and folders are left out.

    Raises:
        UserError: if there is nothing at the path, or no image in the folder.
    """
    if not os.fspath(path):
        raise UserError("expected the path of an image file or a folder, got an empty one: type . for this folder")
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: expected an image file or a folder of images, got nothing: check the path")
    folder = _Folder(path)
    folder.search(path)
    skipped(path, folder.n_folders, "folders, which cannot be read", folder.closed)
    skipped(path, len(folder.others) + len(folder.images), "files, which are no images by their names", folder.others)
    if not folder.images:
        raise UserError(f"{path}: expected a folder with images, got none: put PNG or JPEG files there")
    return sorted(folder.images)


class _Folder:
    """What there is in a folder: images, other files, and folders that cannot be read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: list[Path] = []
        self.others: list[Path] = []
        self.closed: list[str] = []
        self.n_folders = 0

    def search(self, folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> None:
        """Search a folder; `above` identifies those it lies in, to which links are not followed."""
        try:
            status, names = folder.stat(), sorted(os.listdir(folder))
        except OSError as error:
            self.n_folders += 1
            self.closed.append(f"{folder.relative_to(self.root)} ({error.strerror or error})")
            return
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        self.n_folders += 1
        for name in names:
            path = folder / name
            if name.startswith(".") or name.lower() in UNSEEN:
                continue
            if os.path.isdir(path):
                self.search(path, above | {here})
            elif path.suffix.lower() in IMAGE_EXTENSIONS and not _is_special(path):
                self.images.append(path)
            else:
                self.others.append(path.relative_to(self.root))


def _is_special(path: Path) -> bool:
    """Whether a path is a pipe or a device; a broken link is none, and is reported when it is read."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def to_grey(images: np.ndarray) -> np.ndarray:
    """Turn RGB images grey: ITU-R 601 luma, equal to Pillow's mode "L" bit for bit.

    Args:
        images: (N, height, width, 3) uint8; may be memory-mapped.

    Returns:
        (N, height, width) uint8.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(f"expected RGB images of shape (N, height, width, 3) uint8, got {images.shape} {images.dtype}")
    grey = np.empty(images.shape[:3], np.uint8)
    # The weights times 2 ** 16, rounded so that they add up to it.
    weights = np.array([19595, 38470, 7471], np.uint32)
    for image, out in zip(images, grey, strict=True):
        out[:] = (image @ weights + 0x8000) >> 16
    return grey
