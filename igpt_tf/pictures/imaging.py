"""Image files and uint8 arrays: reading, cropping, writing, laying out in grids."""

import io
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from igpt_tf.errors import UserError
from igpt_tf.storage.files import atomic_write

# What a folder is searched for.
IMAGE_EXTENSIONS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".tif", ".tiff", ".bmp", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".jp2", ".avif"),
)
# What is decoded. Pillow knows more, among them EPS, for which it would run Ghostscript on the file.
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "JPEG2000", "AVIF")
WHITE = (255, 255, 255, 255)


def read_image(source: str | os.PathLike | bytes) -> np.ndarray:
    """Read an image as the eye would see it on white paper.

    Transparent parts are composited on white, 16-bit channels keep their high byte, CMYK becomes RGB, a photograph is
    turned upright as its EXIF data says, and of an animation or a multi-page file the first frame is read.

    Args:
        source: a path, or the bytes of a file.

    Returns:
        (height, width, 3) uint8.

    Raises:
        UserError: there is no such file, it is no image, it is damaged, or it is too large to be meant seriously
            (`PIL.Image.MAX_IMAGE_PIXELS`).
    """
    name = "the bytes given as an image" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except FileNotFoundError:
        raise UserError(f"Expected an image file, found nothing at {name}: check the path.") from None
    except OSError as error:
        raise UserError(f"Expected an image file, cannot read {name}: {error.strerror or error}.") from None
    if not data:
        raise UserError(f"Expected an image file, found an empty one: {name}.")
    try:
        return _decode(data)
    except UnidentifiedImageError:
        raise UserError(
            f"Expected an image file such as PNG or JPEG, found something else: {name}. Convert it to PNG."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(
            f"Expected an image of at most {Image.MAX_IMAGE_PIXELS:,} pixels, found a larger one: {name}. Shrink it."
        ) from None
    # Each decoder fails in its own ways, from SyntaxError and struct.error to RuntimeError.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"Expected a whole image file, cannot decode {name}: {reason}. Get it again.") from error


def _decode(data: bytes) -> np.ndarray:
    """Return encoded image data as (height, width, 3) uint8.

    Not through imageio: it drops transparency, clips 16-bit grey, and does not say what is wrong with a file.
    """
    with warnings.catch_warnings():
        # Oddities in metadata do not matter here; a size that would exhaust the memory does.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as opened:
            is_16_bit = opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM"))
            if opened.mode in ("I", "F") and not is_16_bit:
                raise ValueError("its pixels are 32-bit numbers whose white is unknown, expected 8 or 16 bits")
            image = ImageOps.exif_transpose(opened)
            if is_16_bit:
                # The high byte, as Pillow does for 16-bit RGB; its own conversion of 16-bit grey clips instead.
                grey = (np.asarray(image) >> 8).astype(np.uint8)
                return np.stack([grey] * 3, axis=-1)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
            return np.array(image.convert("RGB"))


def resize_and_crop(image: np.ndarray, n_px: int) -> np.ndarray:
    """Shrink or enlarge an image until its shorter side is `n_px`, and keep the central square.

    Resampling is Pillow's antialiased bicubic filter: the usual one where images are generated or scored (clean-fid
    explains why), and sharper than a box. The square is cut first, which differs from cutting last only near the
    left-out sides, and keeps an image of 1 x 100,000 pixels from growing in memory.

    Args:
        image: (height, width, 3) uint8.
        n_px: side of the result, in pixels.

    Returns:
        (n_px, n_px, 3) uint8; an image of that size comes back bit for bit.

    Raises:
        UserError: the image is not of that shape and dtype, or has no pixel.

    Source: section 3.1 of the paper (shorter side, then the centre crop).
    """
    if n_px < 1:
        raise UserError(f"Expected n_px of at least 1, found {n_px}.")
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UserError(
            f"Expected an image of shape (height, width, 3) uint8, found {image.shape} {image.dtype}: "
            "read_image returns such an array."
        )
    height, width, _ = image.shape
    side = min(height, width)
    # Whole pixels: half a pixel of shift would blur an image whose shorter side is n_px already.
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == n_px:
        return square.copy()
    return np.array(Image.fromarray(np.ascontiguousarray(square)).resize((n_px, n_px), Image.Resampling.BICUBIC))


def find_images(path: str | os.PathLike) -> list[Path]:
    """List the image files at a path.

    Args:
        path: a file, which is taken whatever its name, or a folder, which is searched through all its subfolders by
            extension (`IMAGE_EXTENSIONS`); hidden files and folders are passed over.

    Returns:
        The paths, sorted.

    Raises:
        UserError: there is nothing at the path, or no image in the folder.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"Expected an image file or a folder of images, found nothing at {path}: check the path.")
    found = []
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        files = (Path(folder, name) for name in names if not name.startswith("."))
        found += [file for file in files if file.suffix.lower() in IMAGE_EXTENSIONS and file.is_file()]
    if not found:
        raise UserError(f"Expected a folder with images, found none in {path}: put PNG or JPEG files there.")
    return sorted(found)


def load_images(paths: Iterable[str | os.PathLike], n_px: int) -> np.ndarray:
    """Read, resize and crop image files.

    Returns:
        (N, n_px, n_px, 3) uint8, in the order of the paths.

    Raises:
        UserError: one of the files cannot be read; the line names it.
    """
    paths = list(paths)
    images = np.empty((len(paths), n_px, n_px, 3), np.uint8)
    for image, path in zip(images, paths, strict=True):
        image[:] = resize_and_crop(read_image(path), n_px)
    return images


def to_grey(images: np.ndarray) -> np.ndarray:
    """Turn RGB images grey: ITU-R 601 luma, equal to Pillow's mode "L" bit for bit.

    Args:
        images: (N, height, width, 3) uint8; may be memory-mapped.

    Returns:
        (N, height, width) uint8.

    Raises:
        UserError: another dtype or shape.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(
            f"Expected RGB images of shape (N, height, width, 3) uint8, found {images.shape} {images.dtype}."
        )
    grey = np.empty(images.shape[:3], np.uint8)
    # The weights times 2 ** 16, rounded so that they add up to it.
    weights = np.array([19595, 38470, 7471], np.uint32)
    for image, out in zip(images, grey, strict=True):
        out[:] = (image @ weights + 0x8000) >> 16
    return grey


def grid(rows: Sequence[Sequence[np.ndarray | None]], pad: int = 2, scale: int = 1) -> np.ndarray:
    """Lay images of one size out in rows on white.

    Args:
        rows: lists of (height, width, 3) or grey (height, width, 1) uint8 images; None leaves a cell blank, and a
            short row is blank at its end.
        pad: white pixels around every cell, not enlarged by `scale`.
        scale: every pixel becomes scale x scale.

    Returns:
        (rows * (scale * height + pad) + pad, columns * (scale * width + pad) + pad, 3) uint8.

    Raises:
        UserError: there is no image, or they differ in size.
    """
    if scale < 1 or pad < 0:
        raise UserError(f"Expected scale of at least 1 and pad of at least 0, found scale={scale}, pad={pad}.")
    cells = {
        (i, j): _enlarge(_as_rgb(image), scale)
        for i, row in enumerate(rows)
        for j, image in enumerate(row)
        if image is not None
    }
    sizes = sorted({cell.shape[:2] for cell in cells.values()})
    if len(sizes) != 1:
        found = " and ".join(f"{height // scale} x {width // scale}" for height, width in sizes) or "no image"
        raise UserError(f"Expected images of one size for a grid, found {found}: use resize_and_crop first.")
    height, width = sizes[0]
    n_columns = max(len(row) for row in rows)
    canvas = np.full((len(rows) * (height + pad) + pad, n_columns * (width + pad) + pad, 3), 255, np.uint8)
    for (i, j), cell in cells.items():
        top, left = pad + i * (height + pad), pad + j * (width + pad)
        canvas[top : top + height, left : left + width] = cell
    return canvas


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write an image to a PNG file, whole or not at all; missing folders are created.

    Args:
        path: the file; one of that name is replaced.
        image: (height, width, 3), or grey (height, width, 1) or (height, width), uint8.

    Raises:
        UserError: the array is no such image, or the file cannot be written.
    """
    data = iio.imwrite("<bytes>", _as_rgb(image), plugin="pillow", extension=".png")
    with atomic_write(path) as file:
        file.write(data)


def write_gif(
    path: str | os.PathLike,
    frames: Sequence[np.ndarray],
    duration_ms: int = 100,
    hold_ms: int = 2000,
    scale: int = 1,
) -> None:
    """Write frames of one size to an animated GIF that loops, whole or not at all; missing folders are created.

    All frames share one palette of at most 256 colours: exact if they have no more together, else the nearest of a
    median cut, without dithering, which would flicker.

    Args:
        path: the file; one of that name is replaced.
        frames: (height, width, 3) or grey (height, width, 1) uint8 images.
        duration_ms: how long a frame stays; GIF counts in hundredths of a second.
        hold_ms: how long the last frame stays.
        scale: every pixel becomes scale x scale.

    Raises:
        UserError: there is no frame, they differ in size, or the file cannot be written.
    """
    frames = [_as_rgb(frame) for frame in frames]
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) != 1:
        found = " and ".join(f"{height} x {width}" for height, width in sizes) or "no frame"
        raise UserError(f"Expected frames of one size for a GIF, found {found}.")
    # One tall image of all frames, so that they are given one palette.
    tall = Image.fromarray(np.concatenate(frames)).quantize(256, dither=Image.Dither.NONE)
    indices = np.asarray(tall).reshape(len(frames), *sizes[0])
    images = [Image.fromarray(_enlarge(index, scale)) for index in indices]
    for image in images:
        image.putpalette(tall.getpalette())
    durations = [duration_ms] * (len(images) - 1) + [hold_ms]
    with atomic_write(path) as file:
        images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=True)


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """Return a uint8 image, RGB or grey, as (height, width, 3)."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise UserError(
            f"Expected an image of shape (height, width, 3) uint8, or grey with 1 channel, "
            f"found {image.shape} {image.dtype}."
        )
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Repeat every pixel of (height, width, ...) `scale` times both ways."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)
