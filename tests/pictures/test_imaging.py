"""Image files of every kind, made here with Pillow, against the colours that an eye would see in them."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from examples import one_line_error, photograph, random_image
from igpt_tf.errors import SkippedWarning, UserError
from igpt_tf.pictures import decoding, imaging
from igpt_tf.pictures.crop import resize_and_crop
from igpt_tf.pictures.reading import read_pictures

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encode(image, kind="PNG", **options):
    """Return a Pillow image, or an array, as the bytes of a file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(*colors):
    """Return one row of colours as (1, n, channels) uint8."""
    return np.array([colors], np.uint8)


PNG_START = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112


def png_chunk(name, data, crc=None):
    return struct.pack(">I", len(data)) + name + data + (crc or struct.pack(">I", zlib.crc32(name + data)))


def png_16_bit_rgb(image):
    """Return a (height, width, 3) uint16 array as PNG bytes, which Pillow cannot write."""

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return PNG_START + chunks


def tiff_16_bit_rgb(image):
    """Return a (height, width, 3) uint16 array as the bytes of an uncompressed little-endian TIFF."""
    height, width, _ = image.shape
    data = image.astype("<u2").tobytes()
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8 + len(data)), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data))]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data) + 6)
    return start + data + struct.pack("<3H", 16, 16, 16) + directory + bytes(4)


def expect(data, *colors, atol=0):
    """The bytes are read as one row of these colours."""
    image = imaging.read_image(data)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), pixels(*colors), atol=atol)


def test_path_and_bytes_give_the_same(tmp_path):
    image = random_image(5, 7, 3)
    path = tmp_path / "image.png"
    path.write_bytes(encode(image))
    for source in (path, str(path), path.read_bytes()):
        np.testing.assert_array_equal(imaging.read_image(source), image)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP"])
def test_lossless_kinds(kind):
    image = photograph(6, 8)
    np.testing.assert_array_equal(imaging.read_image(encode(image, kind, lossless=True)), image)


def test_the_name_of_a_file_does_not_matter(tmp_path):
    (tmp_path / "photo.png").write_bytes(encode(photograph(16, 16), "JPEG", quality=95))
    assert imaging.read_image(tmp_path / "photo.png").shape == (16, 16, 3)


def test_transparency_is_composited_on_white():
    rgba = pixels((255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 128), (10, 20, 30, 255))
    expect(encode(rgba), RED, WHITE, (127, 127, 127), (10, 20, 30))
    opaque = random_image(9, 9, 4)
    opaque[..., 3] = 255
    np.testing.assert_array_equal(imaging.read_image(encode(opaque)), opaque[..., :3])


def palette_image():
    image = Image.fromarray(pixels(0, 1, 2))
    image.putpalette([*RED, *GREEN, *BLUE])
    return image


def test_palette_png():
    expect(encode(palette_image()), RED, GREEN, BLUE)


def test_palette_png_with_transparency():
    expect(encode(palette_image(), transparency=1), RED, WHITE, BLUE)
    expect(encode(palette_image(), transparency=bytes([255, 0, 128])), RED, WHITE, (127, 127, 255))


def test_rgb_png_with_a_transparent_colour():
    expect(encode(pixels(RED, GREEN, BLUE), transparency=GREEN), RED, WHITE, BLUE)


def test_one_bit():
    image = Image.fromarray(pixels(0, 255, 0)).convert("1")
    for kind in ("PNG", "TIFF", "PPM"):
        expect(encode(image, kind), BLACK, WHITE, BLACK)


def test_grey():
    for kind in ("PNG", "TIFF", "PPM", "BMP"):
        expect(encode(pixels(0, 100, 255), kind), BLACK, (100,) * 3, WHITE)


def test_grey_with_alpha():
    expect(encode(pixels((100, 255), (100, 0), (0, 128))), (100,) * 3, WHITE, (127,) * 3)


LEVELS_16 = np.array([[0, 255, 256, 30000, 65535]], np.uint16)


def test_16_bit_grey_is_scaled_and_not_clipped():
    grey = [(level,) * 3 for level in (0, 0, 1, 117, 255)]
    for kind in ("PNG", "TIFF"):
        expect(encode(LEVELS_16, kind), *grey)
    expect(b"P5 5 1 65535\n" + LEVELS_16.astype(">u2").tobytes(), *grey)


def test_16_bit_rgb_is_scaled_and_not_clipped():
    image = np.stack([LEVELS_16, LEVELS_16[:, ::-1], LEVELS_16], -1)
    for data in (png_16_bit_rgb(image), tiff_16_bit_rgb(image)):
        expect(data, (0, 255, 0), (0, 117, 0), (1, 1, 1), (117, 0, 117), (255, 0, 255))


@pytest.mark.parametrize("values", [np.array([[0, 1 << 20]], np.int32), np.array([[0.0, 0.5]], np.float32)])
def test_32_bit_is_refused(values):
    one_line_error(imaging.read_image, encode(values, "TIFF"), match="expected 8 or 16 bits per channel, got 32")


def test_cmyk_jpeg():
    # Pillow writes CMYK as Adobe does, inverted.
    cmyk = np.zeros((16, 64, 4), np.uint8)
    for i, ink in enumerate([(0, 0, 0, 0), (0, 255, 255, 0), (255, 255, 0, 0), (0, 0, 0, 255)]):
        cmyk[:, 16 * i : 16 * i + 16] = ink
    data = encode(Image.frombytes("CMYK", (64, 16), cmyk.tobytes()), "JPEG", quality=100)
    assert b"Adobe" in data
    image = imaging.read_image(data)
    np.testing.assert_allclose(image[8, 8::16].astype(int), [WHITE, RED, BLUE, BLACK], atol=3)


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photographs_are_turned_upright(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = photograph(32, 48)
    image = imaging.read_image(encode(stored, "JPEG", quality=95, subsampling=0, exif=exif))
    expected = UPRIGHT[orientation](stored)
    assert image.shape == expected.shape
    np.testing.assert_allclose(image.astype(int), expected, atol=6)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_frame_of_many(kind):
    frames = [Image.fromarray(np.full((4, 4, 3), color, np.uint8)) for color in (RED, GREEN, BLUE)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    image = imaging.read_image(data)
    np.testing.assert_array_equal(image, np.broadcast_to(pixels(RED), (4, 4, 3)))


def test_a_transparent_gif():
    expect(encode(palette_image(), "GIF", transparency=2), RED, GREEN, WHITE)


def test_no_image_at_all(tmp_path):
    (tmp_path / "text.png").write_text("not an image\nat all\n")
    (tmp_path / "empty.png").write_bytes(b"")
    one_line_error(imaging.read_image, tmp_path / "none.png", match="none.png: .*got nothing")
    one_line_error(imaging.read_image, tmp_path / "empty.png", match="empty.png: .*got an empty one")
    one_line_error(imaging.read_image, tmp_path / "text.png", match="text.png: .*got something else")
    one_line_error(imaging.read_image, tmp_path, match=f"{tmp_path}: .* cannot be read")
    one_line_error(imaging.read_image, b"", match="the bytes .*: .* empty one")
    one_line_error(imaging.read_image, b"<svg></svg>", match="the bytes .*: .* something else")


def test_postscript_is_not_run():
    one_line_error(imaging.read_image, encode(photograph(4, 4), "EPS"), match="got something else")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_truncated_files(tmp_path, kind):
    data = encode(random_image(40, 40, 3), kind)
    path = tmp_path / "half.img"
    for length in (9, 30, len(data) // 2, len(data) - 60):
        path.write_bytes(data[:length])
        one_line_error(imaging.read_image, path, match="half.img")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
def test_damaged_files_are_read_or_refused_in_one_line(kind):
    rng = np.random.default_rng(0)
    whole = np.frombuffer(encode(random_image(12, 12, 3), kind), np.uint8)
    for _ in range(40):
        data = whole.copy()
        data[rng.integers(len(data), size=3)] = rng.integers(0, 256, 3)
        try:
            assert imaging.read_image(data.tobytes()).shape[2] == 3
        except UserError as error:
            assert "\n" not in str(error)


def test_memory_is_the_limit_and_can_be_set(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    path.write_bytes(encode(np.zeros((40, 40, 3), np.uint8)))
    # Pillow's own limit does not count.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert imaging.read_image(path).shape == (40, 40, 3)
    monkeypatch.setenv("IGPT_IMAGE_GB", "1e-5")
    one_line_error(
        imaging.read_image, path, match="bomb.png: .* memory, got one of 40 x 40 .*: shrink it, or set IGPT_"
    )
    monkeypatch.setenv("IGPT_IMAGE_GB", "much")
    one_line_error(imaging.read_image, path, match="expected IGPT_IMAGE_GB as a number of GiB, got 'much'")


def test_a_bomb_of_a_few_bytes_is_refused_before_it_is_decoded():
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = PNG_START + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    one_line_error(imaging.read_image, data, match="100,000 x 100,000 pixels, 75 GiB")


@pytest.mark.parametrize(("kind", "power"), [("JPEG", 1), ("JPEG", 3), ("JPEG2000", 1), ("PNG", 0)])
def test_very_large_photographs_are_read_smaller_where_the_format_can(monkeypatch, kind, power):
    stored = photograph(256, 512)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encode(stored, kind, **({} if kind == "JPEG2000" else {"exif": exif}))
    monkeypatch.setattr(decoding, "WHOLE_PIXELS", 256 * 512 >> 2 * power)
    image = imaging.read_image(data)
    upright = stored if kind == "JPEG2000" else np.rot90(stored, -1)
    assert image.shape == (upright.shape[0] >> power, upright.shape[1] >> power, 3)
    expected = resize_and_crop(upright, 8).astype(int)
    assert np.abs(resize_and_crop(image, 8) - expected).mean() < 4
    # Up to the limit, every pixel is as it was.
    monkeypatch.setattr(decoding, "WHOLE_PIXELS", 256 * 512)
    assert imaging.read_image(data).shape == upright.shape


def odd_exif(orientation):
    """EXIF data with an exposure bias, a signed rational, in a field whose type Pillow reads but does not write."""
    entries = [(ORIENTATION, 3, 1, orientation), (282, 10, 1, 38)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0" + b"II*\0\x08\0\0\0" + directory + bytes(4) + struct.pack("<ii", -1, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_odd_exif_data_turn_a_photograph_all_the_same(kind):
    stored = photograph(32, 48)
    data = encode(stored, kind, exif=odd_exif(6), lossless=True, quality=95, subsampling=0)
    np.testing.assert_allclose(imaging.read_image(data).astype(int), np.rot90(stored, -1), atol=6)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(range(200))])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_data_are_passed_over(kind, exif):
    assert imaging.read_image(encode(photograph(32, 48), kind, exif=exif)).shape == (32, 48, 3)


def with_chunk(data, name, content, crc=None):
    """A PNG with one more chunk before its pixels."""
    return data[:33] + png_chunk(name, content, crc) + data[33:]


@pytest.mark.parametrize(
    ("name", "content", "crc"),
    [
        (b"zTXt", b"comment\0\0" + zlib.compress(bytes(2 << 20)), None),
        (b"iTXt", b"comment\0\1\0\0\0" + zlib.compress(bytes(2 << 20)), None),
        (b"tEXt", b"comment\0text", b"oops"),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20)), None),
        (b"iCCP", b"profile\0\0nonsense", None),
        (b"iCCP", b"", None),
        (b"pHYs", b"", None),
        (b"gAMA", b"1", None),
        (b"cHRM", b"1", None),
        (b"eXIf", b"II*", b"oops"),
    ],
)
def test_what_a_png_says_beside_its_pixels_refuses_none(name, content, crc):
    stored = photograph(16, 24)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = name != b"eXIf"
    data = with_chunk(encode(stored, exif=exif) if turned else encode(stored), name, content, crc)
    np.testing.assert_array_equal(imaging.read_image(data), np.rot90(stored, -1) if turned else stored)


@pytest.mark.parametrize(
    "content", [b"ICC_PROFILE\0", b"MPF\0II*\0" + bytes(40), b"Photoshop 3.0\0" + b"8BIM\0", b"\0"]
)
@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xFE])
def test_what_a_jpeg_says_beside_its_pixels_refuses_none(marker, content):
    data = encode(photograph(16, 24), "JPEG")
    segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(content)) + content
    expected = imaging.read_image(data)
    np.testing.assert_array_equal(imaging.read_image(data[:2] + segment + data[2:]), expected)


def profile_of(primaries, gamma):
    """A profile of a display with these chromaticities of red, green and blue, and D50 white."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([0.9642, 1, 0.8249])
    columns = xyz * np.linalg.solve(xyz, white)
    tags = {b"wtpt": xyz_tag(white), b"rXYZ": xyz_tag(columns[:, 0]), b"gXYZ": xyz_tag(columns[:, 1])}
    tags |= {b"bXYZ": xyz_tag(columns[:, 2])}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv" + bytes(4) + struct.pack(">IH2x", 1, int(gamma * 256)))
    tags |= {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"x\0\0\0",
    }
    start = 128 + 4 + 12 * len(tags)
    table, body = b"", b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    header += bytes(28) + struct.pack(">3i", *(round(value * 65536) for value in white))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz_tag(values):
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


WIDE = profile_of([(0.73, 0.27), (0.12, 0.82), (0.16, 0.02)], 2.2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_are_those_of_the_profile(kind):
    colors = pixels((200, 100, 100), (128, 128, 128), (90, 140, 90))
    found = imaging.read_image(encode(colors, kind, icc_profile=WIDE, lossless=True)).astype(int)[0]
    # A wide gamut's colours are more vivid than the same numbers in sRGB, and its greys are grey.
    assert found[0, 0] > 220 and found[0, 1] < 95 and np.ptp(found[1]) <= 3 and found[2, 0] < 70
    transparent = np.dstack([colors, np.full(colors.shape[:2], 255, np.uint8)])
    transparent[0, 1, 3] = 0
    found_rgba = imaging.read_with_alpha(encode(transparent, kind, icc_profile=WIDE, lossless=True, exact=True))
    np.testing.assert_array_equal(found_rgba[0, [0, 2], :3], found[[0, 2]])
    assert found_rgba[0, :, 3].tolist() == [255, 0, 255]


def test_pixels_with_the_profile_of_srgb_or_a_broken_one_stay_as_they_are():
    image = random_image(9, 9, 3)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, WIDE[:100], WIDE[:300], b"nonsense"):
        np.testing.assert_array_equal(imaging.read_image(encode(image, icc_profile=profile)), image)
    # A profile of RGB says nothing of grey.
    expect(encode(pixels(0, 100, 255), icc_profile=WIDE), BLACK, (100,) * 3, WHITE)


def test_find_and_load_images(tmp_path):
    names = ["b.png", "a.JPG", "deep/er/c.gif", "deep/d.tiff"]
    others = [".hidden.png", ".cache/e.png", "notes.txt", "f.png.part", "palette.npy"]
    for name in names + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {"JPG": "JPEG", "part": "PNG", "txt": "PNG", "npy": "PNG"}.get(name.split(".")[-1])
        path.write_bytes(encode(photograph(24, 36), kind or name.split(".")[-1]))
    (tmp_path / "folder.png").mkdir()
    with pytest.warns(
        SkippedWarning, match="skipped 3 of 7 files, which .*: f.png.part, notes.txt, palette.npy$"
    ) as caught:
        found = imaging.find_images(tmp_path)
    assert len(caught) == 1
    for name in ("notes.txt", "f.png.part", "palette.npy"):
        (tmp_path / name).unlink()
    assert [path.relative_to(tmp_path).as_posix() for path in found] == sorted(names)
    assert imaging.find_images(str(tmp_path)) == found
    paths, images = read_pictures([str(tmp_path)], 8, pytest.fail)
    assert paths == list(map(str, found)) and images.shape == (4, 8, 8, 3) and images.dtype == np.uint8
    for image, path in zip(images, found, strict=True):
        np.testing.assert_array_equal(image, resize_and_crop(imaging.read_image(path), 8))


def test_find_takes_a_file_whatever_its_name(tmp_path):
    (tmp_path / "notes.txt").write_bytes(encode(photograph(4, 4)))
    assert imaging.find_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_find_refuses(tmp_path):
    one_line_error(imaging.find_images, tmp_path / "none", match="got nothing: check the path")
    one_line_error(imaging.find_images, "", match="got an empty one")
    (tmp_path / "notes.txt").write_text("")
    with pytest.warns(SkippedWarning, match="1 of 1 files, .*notes.txt"):
        one_line_error(imaging.find_images, tmp_path, match="got none: put")


def test_linked_folders_are_searched_but_not_in_circles(tmp_path):
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "far/deep/a.png").write_bytes(encode(photograph(4, 4)))
    (tmp_path / "pictures/own").mkdir(parents=True)
    for link, target in (("cat", "far"), ("own/up", "pictures"), ("own/self", "pictures/own")):
        (tmp_path / "pictures" / link).symlink_to(tmp_path / target, target_is_directory=True)
    (tmp_path / "far/back").symlink_to(tmp_path / "pictures", target_is_directory=True)
    assert imaging.find_images(tmp_path / "pictures") == [tmp_path / "pictures/cat/deep/a.png"]


def test_what_is_passed_over_is_counted_and_named(tmp_path, monkeypatch):
    for name in ("1.HEIC", "b.png", "Thumbs.db", "closed/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(photograph(4, 4)))
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    look = os.listdir

    def refuse(folder):
        if folder == tmp_path / "closed":
            raise PermissionError(13, "Permission denied")
        return look(folder)

    # The administrator, who may run the tests, can read every folder.
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.warns(SkippedWarning) as caught:
        paths, pictures = read_pictures([str(tmp_path), str(tmp_path / "none")], 4, pytest.fail)
    assert paths == [str(tmp_path / "b.png")] and len(pictures) == 1
    folders, files, unread = (str(one.message) for one in caught)
    assert folders.endswith("skipped 1 of 2 folders, which cannot be read: closed (Permission denied)")
    assert "skipped 2 of 4 files, which are no images by their names: 1.HEIC, pipe.png" in files
    assert "skipped 2 of 3 pictures, which cannot be read: " in unread and "gone.png" in unread and "none" in unread


def test_a_bad_picture_does_not_end_the_others(tmp_path):
    (tmp_path / "good.png").write_bytes(encode(photograph(4, 4)))
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    with pytest.warns(SkippedWarning, match="skipped 1 of 2 pictures, which cannot be read: .*bad.png"):
        paths, _ = read_pictures([str(tmp_path)], 4, pytest.fail)
    assert paths == [str(tmp_path / "good.png")]
    one_line_error(read_pictures, [str(tmp_path / "bad.png")], 4, pytest.fail, match="bad.png: expected an image file")
    both = [str(tmp_path / "bad.png"), str(tmp_path / "none.png")]
    one_line_error(read_pictures, both, 4, pytest.fail, match="expected images, got 2 that cannot be read, the first: ")


def test_grey_equals_pillow():
    images = random_image(3, 50, 50, 3)
    expected = np.stack([np.array(Image.fromarray(image).convert("L")) for image in images])
    np.testing.assert_array_equal(imaging.to_grey(images), expected)
    assert (imaging.to_grey(np.full((1, 2, 2, 3), 255, np.uint8)) == 255).all()
    one_line_error(imaging.to_grey, images[0], match=r"got \(50, 50, 3\)")
