"""Image files to uint8 arrays."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from igpt_tf.errors import UserError

# Files of a folder with these extensions are images.
IMAGE_EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".tif", ".tiff", ".bmp", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".jp2", ".avif"),
)
# Formats that are decoded. Pillow knows more, among them EPS, for which it would run Ghostscript on the file.
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "JPEG2000", "AVIF")
WHITE = (255, 255, 255, 255)


def read_image(source: str | os.PathLike[str] | bytes) -> np.ndarray:
    """Read an image as it would look on white paper.

    Transparent parts are composited on white, 16-bit channels keep their high byte, CMYK becomes RGB, a photograph is
    turned upright as its EXIF data says, and only the first frame of an animation or a multi-page file is read.

    Args:
        source: a path, or the bytes of a file.

    Returns:
        (height, width, 3) uint8.

    Raises:
        UserError: if it is no whole image file, or has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
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
        return _decode(data)
    except UnidentifiedImageError:
        raise UserError(
            f"{name}: expected an image file such as PNG or JPEG, got something else: convert it to PNG"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(
            f"{name}: expected an image of at most {Image.MAX_IMAGE_PIXELS:,} pixels, got a larger one: shrink it"
        ) from None
    # Each decoder fails in its own ways, from SyntaxError and struct.error to RuntimeError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{name}: expected a whole image file, got one that cannot be decoded ({reason}): get it again"
        ) from error


def _decode(data: bytes) -> np.ndarray:
    """Decode the bytes of an image file to (height, width, 3) uint8.

    Not with imageio: it drops transparency, clips 16-bit grey, and does not say what is wrong with a file.
    """
    with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as opened:
        # Pillow only warns up to twice its limit.
        if Image.MAX_IMAGE_PIXELS is not None and opened.width * opened.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        is_16_bit = opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM"))
        if opened.mode in ("I", "F") and not is_16_bit:
            raise ValueError("expected 8 or 16 bits per channel, got 32, whose white is unknown")
        image = ImageOps.exif_transpose(opened)
        if is_16_bit:
            # The high byte, as Pillow does for 16-bit RGB; its own conversion of 16-bit grey clips instead.
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return np.stack([grey] * 3, axis=-1)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
        return np.array(image.convert("RGB"))


def find_images(path: str | os.PathLike[str]) -> list[Path]:
    """The sorted paths of the image files at a path.

    Args:
        path: one file of any name, or a folder, whose subfolders are searched too, by extension (`IMAGE_EXTENSIONS`);
            hidden files and folders are left out.

    Raises:
        UserError: if there is nothing at the path, or no image in the folder.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: expected an image file or a folder of images, got nothing: check the path")
    found: list[Path] = []
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        files = (Path(folder, name) for name in names if not name.startswith("."))
        found += [file for file in files if file.suffix.lower() in IMAGE_EXTENSIONS and file.is_file()]
    if not found:
        raise UserError(f"{path}: expected a folder with images, got none: put PNG or JPEG files there")
    return sorted(found)


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
