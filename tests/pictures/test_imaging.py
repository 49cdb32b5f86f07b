"""Image files of every kind, made here with Pillow, against the colours that an eye would see in them."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from examples import one_line_error, photograph, random_image
from igpt_tf.errors import UserError
from igpt_tf.pictures import imaging
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


def png_16_bit_rgb(image):
    """Return a (height, width, 3) uint16 array as PNG bytes, which Pillow cannot write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


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
    exif[0x0112] = orientation
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


def test_a_decompression_bomb_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    # Pillow warns above the limit and raises above twice the limit.
    for side in (40, 100):
        path.write_bytes(encode(np.zeros((side, side, 3), np.uint8)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one_line_error(imaging.read_image, path, match="bomb.png: .*at most 1,000 pixels, got a larger one")


def test_a_text_bomb_is_one_line():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    one_line_error(imaging.read_image, encode(photograph(4, 4), pnginfo=info), match="cannot be decoded")


def test_find_and_load_images(tmp_path):
    names = ["b.png", "a.JPG", "deep/er/c.gif", "deep/d.tiff"]
    others = [".hidden.png", ".cache/e.png", "notes.txt", "f.png.part", "palette.npy"]
    for name in names + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {"JPG": "JPEG", "part": "PNG", "txt": "PNG", "npy": "PNG"}.get(name.split(".")[-1])
        path.write_bytes(encode(photograph(24, 36), kind or name.split(".")[-1]))
    (tmp_path / "folder.png").mkdir()
    found = imaging.find_images(tmp_path)
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
    (tmp_path / "notes.txt").write_text("")
    one_line_error(imaging.find_images, tmp_path, match="got none: put")


def test_load_names_the_bad_file(tmp_path):
    (tmp_path / "good.png").write_bytes(encode(photograph(4, 4)))
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    one_line_error(read_pictures, [str(tmp_path)], 4, pytest.fail, match="bad.png")


def test_grey_equals_pillow():
    images = random_image(3, 50, 50, 3)
    expected = np.stack([np.array(Image.fromarray(image).convert("L")) for image in images])
    np.testing.assert_array_equal(imaging.to_grey(images), expected)
    assert (imaging.to_grey(np.full((1, 2, 2, 3), 255, np.uint8)) == 255).all()
    one_line_error(imaging.to_grey, images[0], match=r"got \(50, 50, 3\)")
