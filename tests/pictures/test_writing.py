"""Grids, PNG files and GIFs hold every pixel, and a failure leaves the file that was there."""

import errno

import numpy as np
import pytest
from PIL import Image

from examples import one_line_error, photograph, random_image
from igpt_tf.pictures import writing
from igpt_tf.pictures.imaging import read_image


def test_grid_puts_every_pixel_in_its_place():
    a, b, c = random_image(3, 2, 4, 3)
    canvas = writing.grid([[a, None, b], [c]], pad=1, scale=2)
    assert canvas.shape == (1 + 2 * (2 * 2 + 1), 1 + 3 * (2 * 4 + 1), 3) and canvas.dtype == np.uint8
    expected = np.full_like(canvas, 255)
    for (i, j), image in {(0, 0): a, (0, 2): b, (1, 0): c}.items():
        for y in range(4):
            for x in range(8):
                expected[1 + i * 5 + y, 1 + j * 9 + x] = image[y // 2, x // 2]
    np.testing.assert_array_equal(canvas, expected)


def test_grid_defaults_and_grey():
    grey = random_image(3, 3, 1)
    canvas = writing.grid([[grey]])
    assert canvas.shape == (7, 7, 3)
    np.testing.assert_array_equal(canvas[2:5, 2:5], grey.repeat(3, axis=2))
    assert writing.grid([[grey, grey]], pad=0).shape == (3, 6, 3)


@pytest.mark.parametrize(
    ("rows", "options", "match"),
    [
        ([], {}, "got no image"),
        ([[None], []], {}, "got no image"),
        ([[np.zeros((2, 2, 3), np.uint8), np.zeros((4, 3, 3), np.uint8)]], {"scale": 3}, "got 2 x 2 and 4 x 3"),
        ([[np.zeros((2, 2, 3))]], {}, r"got \(2, 2, 3\) float64"),
        ([[np.zeros((2, 2, 3), np.uint8)]], {"scale": 0}, "scale=0"),
    ],
)
def test_grid_refuses(rows, options, match):
    one_line_error(writing.grid, rows, match=match, **options)


def test_write_png(tmp_path):
    image = random_image(5, 6, 3)
    path = tmp_path / "new" / "image.png"
    for array in (image, image[:, ::-1], image[..., :1], image[..., 0]):
        writing.write_png(path, array)
        expected = array if array.ndim == 3 else array[..., None]
        np.testing.assert_array_equal(read_image(path), np.broadcast_to(expected, image.shape))
    assert [p.name for p in path.parent.iterdir()] == ["image.png"]
    with Image.open(path) as opened:
        assert opened.format == "PNG"
    one_line_error(writing.write_png, path, image / 255, match="float64")


def test_write_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    one_line_error(writing.write_png, tmp_path / "file" / "image.png", photograph(4, 4), match="cannot write")
    one_line_error(writing.write_gif, tmp_path / "file" / "image.gif", [photograph(4, 4)], match="cannot write")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "image.gif"
    writing.write_gif(path, [photograph(4, 4)])
    before = path.read_bytes()

    def save(self, file, *args, **kwargs):
        file.write(b"GIF89a")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    one_line_error(writing.write_gif, path, [photograph(8, 8)], match="No space left")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def read_gif(path):
    """Return the frames, their durations in milliseconds, and how often the GIF loops (0: for ever)."""
    frames, durations = [], []
    with Image.open(path) as opened:
        loop = opened.info.get("loop")
        for i in range(opened.n_frames):
            opened.seek(i)
            frames.append(np.array(opened.convert("RGB")))
            durations.append(opened.info["duration"])
    return np.stack(frames), durations, loop


@pytest.mark.parametrize("n_colors", [1, 2, 17, 255, 256])
def test_a_gif_of_few_colours_is_exact(tmp_path, n_colors):
    rng = np.random.default_rng(n_colors)
    colors = random_image(n_colors, 3, seed=1)
    # Frames that share most of their pixels, as when an image fills up row by row.
    first, last = colors[rng.integers(n_colors, size=(2, 12, 15))]
    frames = [first.copy() for _ in range(4)]
    for i, frame in enumerate(frames):
        frame[: 4 * i] = last[: 4 * i]
        frame[0, 0] = colors[i % n_colors]
    path = tmp_path / "new" / "film.gif"
    writing.write_gif(path, frames, duration_ms=80, hold_ms=1500, scale=3)
    shown, durations, loop = read_gif(path)
    if n_colors > 1:
        np.testing.assert_array_equal(shown, np.stack(frames).repeat(3, axis=1).repeat(3, axis=2))
        assert durations == [80, 80, 80, 1500] and loop == 0
    else:
        # Equal frames become one that stays as long as all of them.
        np.testing.assert_array_equal(shown[0], np.broadcast_to(colors[0], (36, 45, 3)))
        assert sum(durations) == 3 * 80 + 1500


def test_a_gif_of_many_colours_is_close(tmp_path):
    y, x = np.mgrid[:64, :64] * 4
    frames = [np.stack([x, y, np.full_like(x, 100 * i)], -1).astype(np.uint8) for i in range(2)]
    writing.write_gif(tmp_path / "film.gif", frames)
    shown, _, _ = read_gif(tmp_path / "film.gif")
    assert np.abs(shown.astype(int) - np.stack(frames)).mean() < 10


def test_a_gif_of_grey_frames(tmp_path):
    frames = random_image(2, 6, 6, 1)
    writing.write_gif(tmp_path / "film.gif", list(frames))
    np.testing.assert_array_equal(read_gif(tmp_path / "film.gif")[0], frames.repeat(3, axis=3))


def test_gif_refuses(tmp_path):
    one_line_error(writing.write_gif, tmp_path / "film.gif", [], match="got no frame")
    frames = [photograph(4, 4), photograph(6, 4)]
    one_line_error(writing.write_gif, tmp_path / "film.gif", frames, match="got 4 x 4 and 6 x 4")
    assert not list(tmp_path.iterdir())
