"""Bytes of image files to upright images in sRGB, whatever their metadata are like."""

# Pillow's colour management declares some types by names that it does not have.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from igpt_tf.errors import UserError

# Formats that are decoded. Pillow knows more, among them EPS, for which it would run Ghostscript on the file.
FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "JPEG2000", "AVIF")
# Above this many pixels, formats that can are decoded at a fraction of their size.
WHOLE_PIXELS = 89_478_485
# Memory to decode a pixel: 4 bytes of Pillow's, and as many for the converted copy.
BYTES_PER_PIXEL = 8
MEMORY_GB = 2.0
# Differences that rounding makes where a profile is that of sRGB.
SAME_COLOR = 2
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ON_THE_SIDE = tuple(TURNS[number] for number in (5, 6, 7, 8))
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"


def decode(data: bytes, most_pixels: int | None = None) -> Image.Image:
    """Decode the bytes of an image file to an image of mode RGB, or RGBA if it has transparency.

    Its `info["size"]` is the width and height of the whole picture, where this is decoded at a fraction of its size.

    Not with imageio: it drops transparency, clips 16-bit grey, and does not say what is wrong with a file.

    Args:
        data: the file.
        most_pixels: an image of more is refused before it is decoded; None: only if memory is short.

    Raises:
        UserError: if it needs too much memory, or has too many pixels.
        Exception: whatever the decoder of a file raises that is not whole.
    """
    try:
        return _decode(data, most_pixels)
    except (UserError, UnidentifiedImageError, MemoryError):
        raise
    except Exception as error:
        for leaner in _with_less_metadata(data):
            try:
                return _decode(leaner, most_pixels)
            except Exception:
                continue
        raise error


def _decode(data: bytes, most_pixels: int | None) -> Image.Image:
    with _open(data) as opened:
        width, height = opened.size
        if most_pixels is not None and width * height > most_pixels:
            raise UserError(
                f"expected an image of at most {most_pixels:,} pixels, got {width:,} x {height:,}: shrink it"
            )
        _reduce(opened)
        is_16_bit = opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM"))
        if opened.mode in ("I", "F") and not is_16_bit:
            raise ValueError("expected 8 or 16 bits per channel, got 32, whose white is unknown")
        profile = opened.info.get("icc_profile")
        opened.load()
        turn = TURNS.get(_orientation(opened))
        # The high byte, as Pillow does for 16-bit RGB; its own conversion of 16-bit grey clips instead.
        high = Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8)) if is_16_bit else None
        image = _in_srgb(opened, profile) if high is None else high
        image = image if image.mode == "RGBA" else image.convert("RGB")
        image = image.copy() if turn is None else image.transpose(turn)
        image.info["size"] = (height, width) if turn in ON_THE_SIDE else (width, height)
        return image


def _open(data: bytes) -> ImageFile.ImageFile:
    """`Image.open` without its limit on pixels, as ours is on memory."""
    Image.init()
    for name in FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))
        if factory is None or (accepts is not None and accepts(data[:16]) is not True):
            continue
        try:
            return factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            # Their metadata may be at fault.
            if name in ("PNG", "JPEG"):
                raise
    raise UnidentifiedImageError


def _reduce(opened: ImageFile.ImageFile) -> None:
    """Have a very large image decoded at a fraction of its size, if its format can; refuse one that is too large."""
    width, height = opened.size
    power = next((power for power in (0, 1, 2) if width * height <= WHOLE_PIXELS << 2 * power), 3)
    if opened.format in ("JPEG", "MPO"):
        opened.draft(None, (width >> power, height >> power))  # pyright: ignore[reportArgumentType]
    elif opened.format == "JPEG2000":
        opened.reduce = power  # pyright: ignore[reportAttributeAccessIssue]
    else:
        power = 0
    needed, limit = BYTES_PER_PIXEL * (width >> power) * (height >> power), _memory_limit()
    if needed > limit:
        raise UserError(
            f"expected an image that is decoded within {limit / 2**30:.2g} GiB of memory, got one of {width:,} x "
            f"{height:,} pixels, {needed / 2**30:.2g} GiB: shrink it, or set IGPT_IMAGE_GB to more"
        )


def _memory_limit() -> float:
    """Bytes of memory that an image may need to be decoded."""
    text = os.environ.get("IGPT_IMAGE_GB", "") or str(MEMORY_GB)
    try:
        return float(text) * 2**30
    except ValueError:
        raise UserError(f"expected IGPT_IMAGE_GB as a number of GiB, got {text!r}") from None


def _orientation(opened: Image.Image) -> int:
    """The EXIF orientation; 1, upright, if there is none that can be read."""
    try:
        return opened.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1


def _in_srgb(opened: Image.Image, profile: bytes | None) -> Image.Image:
    """An image with the colours of its profile in sRGB: of mode RGBA if it has transparency."""
    image = opened.convert("RGBA") if opened.has_transparency_data else opened
    mode = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}.get(opened.mode, "RGB")
    transform = _to_srgb(profile, mode) if profile else None
    if transform is None:
        return image
    colors = transform.apply(image.convert(mode))
    if image.mode == "RGBA":
        colors.putalpha(image.getchannel("A"))
    return colors


@functools.lru_cache(16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of a profile's colours to sRGB; None if they are the same, or the profile is damaged."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode != "RGB":
            return transform
        probe = (17 * np.indices((16, 16, 16))).astype(np.uint8).reshape(3, 4096, 1).transpose(1, 2, 0)
        change = np.asarray(transform.apply(Image.fromarray(np.ascontiguousarray(probe)))).astype(int) - probe
        return None if np.abs(change).max() <= SAME_COLOR else transform
    # The readers of profiles fail in their own ways, too.
    except Exception:
        return None


def _with_less_metadata(data: bytes) -> Iterator[bytes]:
    """The bytes of a PNG or JPEG with ever fewer of the parts that its pixels do not need."""
    if data.startswith(PNG_START):
        for kept in ((b"tRNS", b"eXIf", b"iCCP"), (b"tRNS", b"eXIf"), (b"tRNS",)):
            yield _png_with(data, kept)
    elif data.startswith(JPEG_START):
        for kept in ((b"JFIF", b"Adobe", b"Exif", b"ICC_PROFILE"), (b"JFIF", b"Adobe", b"Exif"), (b"JFIF", b"Adobe")):
            yield _jpeg_with(data, kept)


def _png_with(data: bytes, kept: tuple[bytes, ...]) -> bytes:
    """A PNG with these chunks alone beside the critical ones, whose names begin with a capital letter."""
    parts, start = [PNG_START], len(PNG_START)
    while start + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[start : start + 8])
        end = start + 12 + length
        if name[:1].isupper() or name in kept:
            parts.append(data[start:end])
        start = end
    return b"".join(parts)


def _jpeg_with(data: bytes, kept: tuple[bytes, ...]) -> bytes:
    """A JPEG with these application segments alone, and without comments."""
    parts, start = [JPEG_START], len(JPEG_START)
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker, length = data[start + 1], int.from_bytes(data[start + 2 : start + 4], "big")
        if marker == 0xDA:
            break
        end = start + 2 + length
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_metadata or data.startswith(kept, start + 4):
            parts.append(data[start:end])
        start = end
    return b"".join([*parts, data[start:]])
