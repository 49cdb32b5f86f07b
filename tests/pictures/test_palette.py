"""The palette against a slow float64 twin, and against everything a user may hand it by mistake."""

import io
import pickle
import tracemalloc

import numpy as np
import pytest

from examples import one_line_error, random_image
from igpt_tf.errors import Notice, UserError
from igpt_tf.pictures import palette as palette_module
from igpt_tf.pictures.palette import Palette


def slow_quantize(images, colors):
    """Compare every pixel with every colour in float64; (N, H, W, C) -> (N, H * W)."""
    pixels = images.reshape(-1, 1, images.shape[-1]) / 127.5 - 1
    distances = np.concatenate(
        [np.square(block - colors.astype(np.float64)).sum(axis=-1) for block in np.array_split(pixels, 64)]
    )
    return distances.argmin(axis=1).reshape(len(images), -1)


def natural_images(n, n_px, seed=0):
    """Smooth gradients with a little noise: neighbouring pixels are close, as in photographs."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 256, (n, 2, 2, 3))
    ramp = np.linspace(0, 1, n_px)[:, None]
    weights = np.hstack([1 - ramp, ramp])
    smooth = np.einsum("ya,nabc,xb->nyxc", weights, corners, weights)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def rgb():
    return Palette(np.random.default_rng(1).uniform(-1, 1, (512, 3)).astype(np.float32))


@pytest.fixture(scope="module")
def grey():
    return Palette(np.linspace(-1, 1, 16, dtype=np.float32)[:, None])


COLORS = {
    "uniform": np.random.default_rng(2).uniform(-1, 1, (512, 3)),
    "few": np.random.default_rng(3).uniform(-1, 1, (3, 3)),
    "one": np.zeros((1, 3)),
    "crowded": np.random.default_rng(4).normal(0.1, 0.02, (512, 3)),
    "dark, as in photographs": np.clip(np.random.default_rng(5).normal(-0.7, 0.3, (512, 3)), -1, 1),
    "on the 8-bit grid": np.random.default_rng(6).integers(0, 256, (300, 3)) / 127.5 - 1,
    "corners": np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(8, 3),
}


@pytest.mark.parametrize("name", COLORS)
def test_quantize_equals_the_slow_twin(name):
    palette = Palette(COLORS[name].astype(np.float32))
    for images in (random_image(3, 32, 32, 3), natural_images(3, 32)):
        tokens = palette.quantize(images)
        assert tokens.dtype == np.int32
        np.testing.assert_array_equal(tokens, slow_quantize(images, palette.colors))


def test_quantize_with_very_many_colours_equals_the_slow_twin():
    """Half of them on the 8-bit grid and twice, so that there are ties of every kind."""
    grid = np.random.default_rng(8).integers(0, 32, (3000, 3)) * 8 / 127.5 - 1
    palette = Palette(np.concatenate([grid, COLORS["uniform"], grid]))
    images = np.concatenate([natural_images(1, 32), random_image(1, 32, 32, 3) // 4 * 4])
    np.testing.assert_array_equal(palette.quantize(images), slow_quantize(images, palette.colors))


def test_quantize_at_the_edges_of_the_cells(rgb):
    levels = np.array([0, 1, 15, 16, 17, 127, 128, 239, 240, 254, 255], np.uint8)
    images = np.stack(np.meshgrid(levels, levels, levels), -1)  # (11, 11, 11, 3)
    np.testing.assert_array_equal(rgb.quantize(images), slow_quantize(images, rgb.colors))


def test_grey_quantize_equals_the_slow_twin():
    images = random_image(3, 20, 20, 1)
    for colors in (np.linspace(-1, 1, 16)[:, None], np.random.default_rng(0).uniform(-1, 1, (40, 1))):
        palette = Palette(colors.astype(np.float32))
        expected = slow_quantize(images, palette.colors)
        np.testing.assert_array_equal(palette.quantize(images), expected)
        np.testing.assert_array_equal(palette.quantize(images[..., 0]), expected)


def test_what_was_met_before_changes_nothing():
    """The table of colours met fills up over the calls; every call must answer as a fresh palette would."""
    colors = COLORS["uniform"]
    used = Palette(colors)
    for seed in range(3):
        images = natural_images(5, 16, seed)
        np.testing.assert_array_equal(used.quantize(images), Palette(colors).quantize(images))


def test_a_repeated_colour_gives_the_lowest_index():
    colors = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    palette = Palette(np.concatenate([colors, colors[::-1], colors]))
    tokens = palette.quantize(random_image(2, 32, 32, 3))
    assert tokens.max() < 50
    np.testing.assert_array_equal(tokens, Palette(colors).quantize(random_image(2, 32, 32, 3)))
    assert not Palette(np.zeros((512, 3))).quantize(random_image(1, 16, 16, 3)).any()


def test_ties_go_to_the_lowest_index():
    white = np.full((1, 1, 1, 3), 255, np.uint8)
    tied = np.array([[0.5, 1, 1], [1, 0.5, 1], [1, 1, 0.5]])
    far = np.array([[-1, -1, -1], [0, 0, 0]])
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        assert Palette(np.concatenate([far, tied[order]])).quantize(white).item() == 2


@pytest.mark.parametrize("block_pixels", [1, 7, 50, 1000])
def test_blocks_of_any_size_agree(rgb, monkeypatch, block_pixels):
    images = random_image(5, 11, 11, 3)
    expected = slow_quantize(images, rgb.colors)
    monkeypatch.setattr(palette_module, "BLOCK_PIXELS", block_pixels)
    np.testing.assert_array_equal(Palette(rgb.colors).quantize(images), expected)
    single = Palette(rgb.colors).rmse(images)
    monkeypatch.undo()
    assert single == pytest.approx(rgb.rmse(images), rel=1e-9)


def test_tokens_run_row_by_row(rgb):
    image = random_image(1, 6, 6, 3)
    tokens = rgb.quantize(image)
    assert tokens.shape == (1, 36)
    np.testing.assert_array_equal(tokens.reshape(6, 6)[2, 3], rgb.quantize(image[:, 2:3, 3:4]).item())


def test_strided_and_reversed_arrays(rgb):
    images = random_image(4, 12, 12, 3)
    view = images[::2, ::-2, 1::2]
    np.testing.assert_array_equal(rgb.quantize(view), rgb.quantize(view.copy()))


def test_an_empty_batch(rgb, grey):
    tokens = rgb.quantize(np.zeros((0, 32, 32, 3), np.uint8))
    assert tokens.shape == (0, 1024) and tokens.dtype == np.int32
    assert grey.quantize(np.zeros((0, 28, 28), np.uint8)).shape == (0, 784)
    assert rgb.dequantize(tokens).shape == (0, 32, 32, 3)


@pytest.mark.parametrize("shape", [(3500, 64, 64, 3), (1, 3600, 3600, 3)], ids=["many", "huge"])
@pytest.mark.slow
def test_quantize_of_a_memory_mapped_file_takes_little_memory(tmp_path, shape):
    path = tmp_path / "images.npy"
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    # Noise is the worst case: every pixel of the first blocks is a colour not met before.
    noise = images.reshape(-1)[:3_000_000]
    noise[:] = random_image(noise.size)
    images.flush()
    images = np.load(path, mmap_mode="r")
    tracemalloc.start()
    palette = Palette(np.random.default_rng(0).uniform(-1, 1, (512, 3)))
    tokens = palette.quantize(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - tokens.nbytes < 200e6
    start = images.reshape(1, 1, -1, 3)[:, :, :64]
    np.testing.assert_array_equal(tokens.reshape(1, -1)[:, :64], slow_quantize(start, palette.colors))


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (np.zeros((1, 40, 50, 3), np.uint8), "expected square images, got 40 x 50 pixels"),
        (np.zeros((1, 4, 4, 3), np.float32), "dtype uint8 .* got float32"),
        (np.zeros((1, 4, 4, 3), np.int64), "dtype uint8 .* got int64"),
        (np.zeros((4, 4, 3), np.uint8), r"\(N, height, width, 3\), got \(4, 4, 3\): give one image as image\[None\]"),
        (np.zeros((1, 4, 4, 4), np.uint8), r"got \(1, 4, 4, 4\)"),
        (np.zeros((1, 3, 4, 4), np.uint8), r"got \(1, 3, 4, 4\)"),
        (np.zeros((1, 48), np.uint8), r"got \(1, 48\)"),
    ],
)
def test_quantize_refuses(rgb, images, match):
    one_line_error(rgb.quantize, images, match=match)


def test_a_grey_palette_refuses_colour(grey):
    one_line_error(
        grey.quantize, np.zeros((1, 4, 4, 3), np.uint8), match=r"grey images .*got \(1, 4, 4, 3\): imaging.to_grey"
    )


def test_dequantize_rounds_as_openai_does(rgb):
    tokens = np.arange(512).reshape(2, 256)
    expected = np.rint(127.5 * (rgb.colors[tokens] + 1.0)).reshape(2, 16, 16, 3).astype(np.uint8)
    images = rgb.dequantize(tokens)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(rgb.dequantize(tokens.reshape(2, 8, 32)).reshape(images.shape), expected)


def test_quantize_undoes_dequantize():
    levels = np.random.default_rng(0).permutation(1 << 12)[:512]
    colors = np.stack([levels >> 8, levels >> 4 & 15, levels & 15], -1) * 17 / 127.5 - 1
    palette = Palette(colors)
    tokens = np.random.default_rng(1).integers(0, 512, (3, 64))
    for integer in (np.uint16, np.int32, np.int64):
        np.testing.assert_array_equal(palette.quantize(palette.dequantize(tokens.astype(integer))), tokens)


def test_dequantize_grey_keeps_one_channel(grey):
    images = grey.dequantize([[0, 15, 7, 8]])
    assert images.shape == (1, 2, 2, 1)
    assert images.ravel().tolist() == [0, 255, 119, 136]


def test_colours_a_hair_out_of_range_are_clipped():
    palette = Palette([[-1.0005, 1.0005, 0]])
    assert palette.dequantize([[0]]).ravel().tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    ("tokens", "match"),
    [
        ([[0, 1, 2]], "got 3, which is no square"),
        ([[0, 1, 2, 512]], "from 0 to 511, got 512"),
        ([[0, 1, 2, -1]], "from 0 to 511, got -1"),
        ([[0.0, 1.0, 2.0, 3.0]], "integer tokens, got dtype float64"),
        ([0, 1, 2, 3], r"got \(4,\): give one image as tokens\[None\]"),
    ],
)
def test_dequantize_refuses(rgb, tokens, match):
    one_line_error(rgb.dequantize, tokens, match=match)


@pytest.mark.parametrize(
    ("colors", "match"),
    [
        (random_image(512, 3), r"in \[-1, 1\], got uint8 .* / 127.5 - 1"),
        (np.full((4, 3), 255.0), "from 255 to 255"),
        (np.full((4, 3), -1.01), "from -1.01"),
        (np.full((4, 3), np.nan), "finite"),
        (np.full((4, 3), np.inf), "finite"),
        (np.zeros((3, 512)), r"got \(3, 512\)"),
        (np.zeros((0, 3)), r"got \(0, 3\)"),
        (np.zeros(3), r"got \(3,\)"),
        (np.zeros((4, 3), complex), "dtype complex128"),
        (np.array([["a", "b", "c"]]), "dtype <U1"),
    ],
)
def test_colours_that_are_refused(colors, match):
    one_line_error(Palette, colors, match=match)


def test_palette_is_a_value():
    colors = np.random.default_rng(0).uniform(-1, 1, (8, 3)).astype(np.float32)
    palette = Palette(colors)
    assert len(palette) == 8 and palette.n_channels == 3 and repr(palette) == "Palette(8 RGB colours)"
    assert palette == Palette(colors.tolist()) and hash(palette) == hash(Palette(colors))
    assert palette != Palette(colors[::-1]) and palette != Palette(colors[:, :1]) and palette != "palette"
    with pytest.raises(ValueError, match="read-only"):
        palette.colors[0] = 0
    colors[:] = 0
    assert palette.colors.any()


def test_pickling_sends_the_colours_alone(rgb):
    rgb.quantize(random_image(1, 8, 8, 3))
    data = pickle.dumps(rgb)
    assert len(data) < 20_000
    assert pickle.loads(data) == rgb


def test_save_and_load_are_exact(tmp_path, rgb, grey):
    for palette in (rgb, grey):
        path = tmp_path / "new" / "palette.npy"
        palette.save(path)
        assert np.load(path, allow_pickle=False).dtype == np.float32
        assert Palette.load(str(path)) == palette
        assert [p.name for p in path.parent.iterdir()] == ["palette.npy"]


def test_save_where_nothing_can_be_written(tmp_path, rgb):
    (tmp_path / "file").write_bytes(b"")
    one_line_error(rgb.save, tmp_path / "file" / "palette.npy", match="cannot write")


def npy(array, **kwargs):
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()


HUGE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }".ljust(117) + b"\n"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>404</html>", "a web page: get it again"),
        (b"  \n<?xml version='1.0'?><Error/>", "a web page"),
        (b"PK\x03\x04rest", "another kind of file"),
        (npy(np.zeros((512, 3), np.float32))[:-1], "a damaged one"),
        (npy(np.zeros((512, 3), np.float32))[:20], "a damaged one"),
        (b"\x93NUMPY\x01\x00\x76\x00" + HUGE, "a damaged one"),
        (npy(np.zeros((512, 4), np.float32)), r"got \(512, 4\)"),
        (npy(np.zeros((512, 3), np.uint8)), "got uint8"),
    ],
)
def test_files_that_are_refused(tmp_path, data, match):
    path = tmp_path / "kmeans_centers.npy"
    path.write_bytes(data)
    one_line_error(Palette.load, path, match=match)
    with pytest.raises(UserError, match=r"kmeans_centers\.npy"):
        Palette.load(path)


def test_load_of_nothing_and_of_a_folder(tmp_path):
    one_line_error(Palette.load, tmp_path / "none.npy", match="none.npy: .*got nothing")
    one_line_error(Palette.load, tmp_path, match="cannot be read")


class Trap:
    """Touches a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("wrap", [lambda trap: npy(np.array([[trap]], dtype=object), allow_pickle=True), pickle.dumps])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, wrap):
    sprung = tmp_path / "sprung"
    path = tmp_path / "palette.npy"
    path.write_bytes(wrap(Trap(sprung)))
    one_line_error(Palette.load, path, match="Python objects|another kind of file")
    assert not sprung.exists()


def test_fit_finds_the_clusters():
    rng = np.random.default_rng(0)
    centers = np.array([[30, 30, 30], [200, 40, 40], [40, 200, 40], [220, 220, 220]])
    images = np.clip(centers[rng.integers(0, 4, (50, 16, 16))] + rng.normal(0, 3, (50, 16, 16, 3)), 0, 255)
    images = images.astype(np.uint8)
    palette = Palette.fit(images, 4)
    # From dark to bright, and within a level of the truth.
    np.testing.assert_allclose(127.5 * (palette.colors + 1), centers, atol=1)
    assert palette.rmse(images) < 4
    assert palette == Palette.fit(images, 4)


def test_fit_draws_by_seed_from_a_memory_mapped_file(tmp_path):
    np.save(tmp_path / "images.npy", natural_images(100, 32))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    first, again, other = (Palette.fit(images, 64, seed=seed, max_pixels=2000) for seed in (1, 1, 2))
    assert first == again and first != other
    assert len(first) == 64
    luma = first.colors @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) >= -1e-6).all()
    # 64 colours for the whole gamut; a palette of random colours is about twice as far off.
    assert first.rmse(images) < 0.75 * Palette(np.random.default_rng(0).uniform(-1, 1, (64, 3))).rmse(images)


def test_fit_grey():
    images = np.where(random_image(20, 28, 28) < 200, 0, random_image(20, 28, 28, seed=1)).astype(np.uint8)
    palette = Palette.fit(images, 16)
    assert palette.colors.shape == (16, 1)
    assert (np.diff(palette.colors[:, 0]) > 0).all()
    assert palette == Palette.fit(images[..., None], 16)
    assert palette.rmse(images) < 10


def test_fit_with_as_many_colours_as_there_are_is_exact():
    images = np.array([0, 9, 200], np.uint8)[random_image(2, 8, 8) % 3]
    palette = Palette.fit(images, 3)
    assert palette.rmse(images) == 0
    assert palette.dequantize([[0, 1, 2, 0]]).ravel().tolist() == [0, 9, 200, 0]


def test_fit_of_very_many_colours():
    """Each of 3,000 colours stands for few of 30,000; a grid of as many would leave an error of about 5."""
    images = random_image(30, 32, 32, 3)
    palette = Palette.fit(images, 3000)
    assert palette.colors.shape == (3000, 3) and palette == Palette.fit(images, 3000)
    assert palette.rmse(images) < 5


def test_fit_refuses():
    images = np.array([0, 9, 200], np.uint8)[random_image(2, 8, 8) % 3]
    one_line_error(Palette.fit, images, 4, match="at least 4 distinct colours, got 3")
    one_line_error(Palette.fit, images, 0, match="n_colors=0")
    one_line_error(Palette.fit, images, 65_537, match="1 to 65536 colours, because tokens have 16 bits")
    one_line_error(Palette.fit, images / 255, 2, match="dtype uint8")
    one_line_error(Palette.fit, random_image(8, 8, 3), 2, match=r"one image as image\[None\]")
    one_line_error(Palette.fit, random_image(1, 8, 8, 4), 2, match=r"got \(1, 8, 8, 4\)")
    one_line_error(Palette.fit, np.zeros((0, 8, 8, 3), np.uint8), 2, match="got 0")


def test_rmse_is_in_8_bit_levels():
    palette = Palette([[-1.0, -1, -1], [1, 1, 1]])
    images = np.array([3, 251], np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=3)
    assert palette.rmse(images) == pytest.approx(np.sqrt((3**2 + 4**2) / 2))
    one_line_error(palette.rmse, images[:0], match="at least one pixel")


def test_palettes_in_another_range_are_recognised(tmp_path):
    colors = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    path = tmp_path / "colors.npy"
    np.save(path, (colors + 1) / 2)
    match = (
        r"colors.npy: expected palette colours in \[-1, 1\], got .* as if in \[0, 1\]: turn them into 2 \* colours - 1"
    )
    one_line_error(Palette.load, path, match=match)
    np.save(path, 127.5 * (colors + 1))
    one_line_error(Palette.load, path, match="turn 8-bit colours into colours / 127.5 - 1")
    np.save(path, colors)
    np.testing.assert_allclose(Palette.load(path).colors, colors, atol=1e-6)


def test_palettes_of_bright_colours_are_asked_about(tmp_path):
    bright = Palette(np.random.default_rng(0).uniform(0.2, 1, (50, 3)))
    bright.save(tmp_path / "colors.npy")
    with pytest.warns(Notice, match="brighter than a mid grey, which is 0: if they are in"):
        assert Palette.load(tmp_path / "colors.npy") == bright
    assert Palette.load(tmp_path / "colors.npy", ours=True) == bright
