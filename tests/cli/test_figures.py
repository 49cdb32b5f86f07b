"""What `complete`, `sample` and `palette` write, how large and where: never over what they read."""

import functools
import json
import os

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

import igpt_tf as igpt
from examples import TINY, photograph, randomise, write_preset
from examples import run as run_line
from igpt_tf.cli import pictures as figures
from igpt_tf.config import ImageGPTConfig
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.pictures import decoding
from igpt_tf.pictures.imaging import read_image
from igpt_tf.sampling.sampler import Drawn

SMALL = ImageGPTConfig(n_px=8, n_vocab=TINY.n_vocab, n_embd=8, n_head=2, n_layer=1)


@pytest.fixture(scope="module")
def preset(tmp_path_factory, palette):
    return write_preset(tmp_path_factory.mktemp("small"), SMALL, palette)


@pytest.fixture(scope="module")
def of_classes(tmp_path_factory, palette):
    """A preset of a model of two classes."""
    folder = tmp_path_factory.mktemp("classes")
    config = ImageGPTConfig(n_px=8, n_vocab=TINY.n_vocab, n_embd=8, n_head=2, n_layer=1, n_start=3)
    randomise(ImageGPT(config, ("cat", "dog"))).save_to_preset(folder, palette)
    return folder


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs a command line with random tokens where a model would draw, as nothing is compiled."""

    def random(n, seed):
        return np.random.default_rng(seed).integers(0, SMALL.n_vocab, (n, SMALL.n_tokens))

    def complete_batches(sampler, tokens, known, controls, *, seed, **how):
        yield np.arange(len(tokens)), np.where(known, tokens, random(len(tokens), seed))

    def sample_rows(sampler, numbers, controls, *, classes, seed, batch_size):
        drawn = np.stack([random(1, [seed, number])[0] for number in numbers])
        yield Drawn(np.array(numbers), SMALL.n_px, drawn)

    monkeypatch.setattr(igpt.Sampler, "complete_batches", complete_batches)
    monkeypatch.setattr(igpt.Sampler, "sample_rows", sample_rows)
    return functools.partial(run_line, capsys)


@pytest.fixture
def complete(run, preset):
    """Runs `complete` twice for each picture."""
    return lambda *line: run("complete", "--model", preset, "--n", 2, *line)


@pytest.fixture
def photo(tmp_path):
    """A photograph of 120 x 80 pixels: 20 columns on either side are cropped, and 10 pixels are one of the model's."""
    path = tmp_path / "cat.png"
    Image.fromarray(photograph(80, 120)).save(path)
    return path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def aliases(folder, photo):
    """Other spellings of a picture's path."""
    (folder / "sub").mkdir()
    (folder / "link.png").symlink_to(photo)
    os.link(photo, folder / "hard.png")
    (folder / "linked").symlink_to(folder)
    return [
        folder / "sub" / ".." / photo.name,
        folder / "link.png",
        folder / "hard.png",
        folder / "linked" / photo.name,
    ]


def refused(found, *words):
    code, printed, err = found
    assert code in (1, 2) and printed == ""
    assert len([line for line in err.splitlines() if "skipped" not in line]) == 1
    assert all(str(word) in err for word in words), err


def test_an_input_is_never_written_to(complete, photo, tmp_path):
    spellings = [photo, *aliases(tmp_path, photo)]
    before = contents(tmp_path)
    for path in spellings:
        refused(complete(photo, "--out", tmp_path / "out", "--grid", path), path, "got one that is read")
        refused(complete(path, "--out", tmp_path / "out", "--grid", photo), photo, "got one that is read")
    refused(complete(spellings[1], "--mask", photo, "--out", tmp_path / "out", "--grid", photo), "one that is read")
    assert contents(tmp_path) == before


def test_completions_never_replace_other_pictures_that_are_completed(complete, photo, tmp_path):
    folder = tmp_path / "D"
    folder.mkdir()
    for name in ("a", "a_1"):
        (folder / f"{name}.png").write_bytes(photo.read_bytes())
    before = contents(tmp_path)
    refused(complete(folder, "--out", folder), folder / "a_1.png")
    film = folder / "film.gif"
    Image.open(photo).save(film)
    refused(complete(film, "--out", tmp_path / "out", "--gif", film), film)
    refused(complete(folder, "--out", tmp_path / "out", "--gif", folder / "film.gif", "--grid", tmp_path), ".png file")
    film.unlink()
    assert contents(tmp_path) == before


def test_files_of_the_model_and_the_palette_are_inputs(run, complete, preset, photo, tmp_path):
    before = contents(preset)
    (preset / "shown.png").write_bytes(b"of the model")
    for line in (["sample"], ["complete", photo]):
        line = [*line, "--model", preset, "--n", 1, "--out", tmp_path / "out", "--grid", preset / "shown.png"]
        refused(run(*line), "shown.png")
    (preset / "shown.png").unlink()
    assert contents(preset) == before


def test_no_file_is_written_twice_and_none_over_a_folder(complete, photo, tmp_path):
    out = tmp_path / "out"
    refused(complete(photo, "--out", out, "--grid", out / "cat_1.png"), "cat_1.png", "one for two")
    (out / "cat_0.png").mkdir(parents=True)
    refused(complete(photo, "--out", out), "cat_0.png", "got a folder")


@pytest.mark.parametrize("data", ["{photo}", "{folder}", "{folder}/list.txt"])
def test_a_palette_is_written_over_no_picture(run, photo, tmp_path, data):
    (tmp_path / "list.txt").write_text("cat.png\n")
    notes = tmp_path / "notes.txt"
    notes.write_text("read by nothing\n")
    before = contents(tmp_path)
    data = data.format(photo=photo, folder=tmp_path)
    for out in {str(photo), data} - {str(tmp_path)}:
        refused(run("palette", "fit", "--data", data, "--n_colors", 2, "--out", out), out, "one that is read")
    refused(run("palette", "fit", "--data", data, "--n_colors", 2, "--out", tmp_path), "got a folder")
    refused(run("palette", "fit", "--data", data, "--n_colors", 2, "--out", notes), "expected the name of a .npy file")
    assert contents(tmp_path) == before


def test_a_store_is_written_over_none_of_its_data(run, palette, tmp_path):
    palette.save(tmp_path / "colours.npy")
    np.save(tmp_path / "tokens.npy", np.zeros((2, 64), "int32"))
    before = contents(tmp_path)
    line = ["tokenize", "--data", tmp_path / "tokens.npy", "--palette", tmp_path / "colours.npy", "--n_px", 8]
    refused(run(*line, "--out", tmp_path), "tokens.npy", "one that is read")
    assert contents(tmp_path) == before


def test_a_model_is_not_trained_over_the_weights_that_it_begins_with(run, preset, photo, tmp_path):
    before = contents(preset)
    line = ["--data", photo, "--epochs", 1, "--no_mixed_precision"]
    refused(run("pretrain", *line, "--init_from", preset, "--out", preset), "one that is read")
    (tmp_path / "link").symlink_to(preset)
    refused(run("pretrain", *line, "--init_from", preset, "--out", tmp_path / "link"), "one that is read")
    assert contents(preset) == before


def test_figures_are_named_after_the_picture_and_stay(complete, photo, tmp_path):
    out, jet = tmp_path / "out", tmp_path / "jet.png"
    jet.write_bytes(photo.read_bytes())
    assert complete(photo, "--out", out, "--gif")[0] == 0
    before = contents(out)
    assert {path.name for path in before} == {"cat_0.png", "cat_1.png", "cat_grid.png", "cat_drawing.gif"}
    code, _, err = complete(jet, "--out", out, "--gif")
    assert code == 0 and "replacing" not in err and before.items() <= contents(out).items()
    code, _, err = complete(photo, "--out", out, "--rows", 1)
    assert code == 0 and "replacing" in err and "cat_0.png" in err and "cat_grid.png" in err and "jet" not in err
    assert "kept from an earlier run" in err and "cat_drawing.gif" in err
    assert "cat_1.png" in complete(photo, "--out", out, "--n", 1)[2].split("stay")[0].splitlines()[-1]
    line = [photo, jet, "--out", out, "--gif", out / "film.gif", "--json"]
    result = json.loads(complete(*line)[1])
    assert result["gifs"] == [str(out / "cat_film.gif"), str(out / "jet_film.gif")]
    assert result["grid"] == str(out / "grid.png")
    assert "grid.png" in complete(jet, photo, "--out", out)[2]


def test_a_film_has_the_name_that_it_is_given(complete, photo, tmp_path):
    result = json.loads(complete(photo, "--out", tmp_path / "out", "--gif", tmp_path / "film.gif", "--json")[1])
    assert result["gif"] == str(tmp_path / "film.gif") and (tmp_path / "film.gif").exists()
    assert not list((tmp_path / "out").glob("*.gif"))
    code, printed, _ = complete("--out", tmp_path / "out", "--gif", photo)
    assert code == 0 and str(tmp_path / "out" / "cat_drawing.gif") in printed
    refused(complete("--gif", tmp_path / "film.gif"), "expected pictures")
    code, _, err = complete(photo, "--out", tmp_path / "out", "--gif", tmp_path / "missing.png")
    assert code == 0 and "missing.png" in err


def test_old_figures_never_lie_beside_new_pictures(run, preset, tmp_path):
    line = ["sample", "--model", preset, "--out", tmp_path, "--n", 2]
    assert run(*line, "--gif")[0] == 0
    old = {name: (tmp_path / name).read_bytes() for name in ("grid.png", "drawing.gif")}
    # More pictures of the same series: the film shows them too.
    code, printed, _ = run(*line[:-1], 3)
    assert code == 0 and "drawing.gif" in printed and (tmp_path / "drawing.gif").read_bytes() != old["drawing.gif"]
    code, printed, err = run(*line, "--seed", 1, "--overwrite")
    assert code == 0 and "replacing" in err and "drawing.gif" in err and "sample_0.png" in err
    assert not (tmp_path / "drawing.gif").exists() and "drawing.gif" not in printed
    assert (tmp_path / "grid.png").read_bytes() != old["grid.png"]


def test_completions_are_large_unless_pixels_are_asked_for(complete, photo, tmp_path):
    for words, side in (([], 128), (["--scale", 3], 24), (["--size", 40], 40), (["--pixels"], 8)):
        code, _, err = complete(photo, "--out", tmp_path / "out", *words)
        assert code == 0, err
        picture = imageio.imread(tmp_path / "out" / "cat_1.png")
        assert picture.shape == (side, side, 3)
        small = picture[:: side // 8, :: side // 8]
        np.testing.assert_array_equal(picture, small.repeat(side // 8, axis=0).repeat(side // 8, axis=1))
    assert "cropped" in err and "cat.png (120 x 80) by 20 columns on the left and 20 on the right" in err


def test_a_tall_photograph_loses_rows(complete, tmp_path):
    Image.fromarray(photograph(17, 10)).save(tmp_path / "tall.png")
    assert "3 rows on the top and 4 on the bottom" in complete(tmp_path / "tall.png", "--out", tmp_path / "out")[2]
    Image.fromarray(photograph(10, 10)).save(tmp_path / "square.png")
    assert "cropped" not in complete(tmp_path / "square.png", "--out", tmp_path / "out")[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", 100000], "--scale: expected at most 1182"),
        (["--size", 8000000], "--size: expected at most 9456"),
        (["--size", 50], "--size: expected a multiple of the model's 8 pixels, got 50: give 48 or 56"),
        (["--size", 5], "give 8"),
        (["--size", 64, "--scale", 2], "expected --scale or --size, got both"),
        (["--scale", 0], "at least 1"),
        (["--rows", "200px"], "expected 0 to 80 as cat.png has, got 200px"),
        (["--rows", "81"], "expected 0 to 8 as the model has, or 0 to 80 as cat.png has, got 81"),
        (["--rows", "100%"], "--rows: expected fewer"),
        (["--rows", "101%"], "--rows: expected 0 to 100% as cat.png has, got 101%"),
        (["--rows", "half"], "such as 600px or 50%"),
        (["--rows=-5%"], "such as 600px or 50%"),
        (["--rows", "1.5"], "such as 600px or 50%"),
        (["--box", "10,10,200,10"], "cat.png's 120 x 80"),
        (["--box", "0,0,10,200%"], "cat.png's 120 x 80"),
        (["--box", "1px,2%,3,4"], "x,y,width,height"),
        (["--box", "1.5,2,3,4"], "x,y,width,height"),
        (["--box", "0,0,15,80px"], "central square 20,0,80,80 of cat.png"),
    ],
)
def test_a_mistake_gets_one_line(complete, photo, tmp_path, words, message):
    refused(complete(photo, "--out", tmp_path / "out", *words), message)


@pytest.mark.parametrize(
    ("words", "model_box", "unit"),
    [
        (["--box", "1,2,3,4"], (1, 2, 3, 4), ""),
        (["--box", "30,20,30,40"], (1, 2, 3, 4), "pixels of cat.png (120 x 80)"),
        (["--box", "35px,25px,25px,35px"], (1, 2, 3, 4), "pixels of cat.png (120 x 80)"),
        (["--box", "1,2,3,4px"], None, "central square"),
        (["--box", "25%,25%,25%,50%"], (1, 2, 3, 4), "per cents of cat.png (120 x 80)"),
        (["--box", "25,25,25,50 %"], None, "x,y,width,height"),
        (["--box", "25,25,25,50%"], (1, 2, 3, 4), "per cents of cat.png (120 x 80)"),
        (["--box", "0,20,60,40"], (0, 2, 4, 4), "pixels of cat.png (120 x 80)"),
        (["--rows", "50%"], (0, 4, 8, 4), "per cents of cat.png (120 x 80); 4 of the model's 8 rows are given"),
        (["--rows", "25px"], (0, 2, 8, 6), "pixels of cat.png"),
        (["--rows", "25"], (0, 2, 8, 6), "pixels of cat.png"),
        (["--rows", "5"], (0, 5, 8, 3), ""),
        (["--rows", "0%"], (0, 0, 8, 8), "per cents"),
    ],
)
def test_regions_in_measures_of_the_photograph(complete, photo, tmp_path, words, model_box, unit):
    out = tmp_path / "out"
    code, _, err = complete(photo, "--out", out, *words, "--scale", 1, "--paste")
    assert unit in err
    if model_box is None:
        assert code == 2
        return
    assert code == 0 and ("--box: " in err or "--rows: " in err) == bool(unit)
    x, y, width, height = model_box
    grid = imageio.imread(out / "cat_grid.png")
    given = grid[2:10, 2:10]
    drawn = (given == 220).all(-1)
    assert drawn[y : y + height, x : x + width].all() and drawn.sum() == width * height
    # What is pasted changes nothing outside the region.
    before, after = read_image(photo), read_image(out / "cat_0_pasted.png")
    changed = (before != after).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert after.shape == before.shape and changed.any()
    assert rows[0] >= 10 * y and rows[-1] < 10 * (y + height)
    assert columns[0] >= 20 + 10 * x and columns[-1] < 20 + 10 * (x + width)
    if words[1].startswith("35px"):
        assert columns[0] >= 35 and rows[0] >= 25


@pytest.mark.parametrize("words", [["--box", "30,20,30,40px"], ["--box", "25%,25%,25%,50%"]])
def test_measures_are_the_files_where_it_is_read_smaller(complete, tmp_path, monkeypatch, words):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.rot90(photograph(80, 120))).save(tmp_path / "cat.jpg", exif=turned, quality=95)
    monkeypatch.setattr(decoding, "WHOLE_PIXELS", 80 * 120 >> 2)
    out = tmp_path / "out"
    code, _, err = complete(tmp_path / "cat.jpg", "--out", out, *words, "--scale", 1, "--paste")
    assert code == 0 and "of cat.jpg (120 x 80)" in err
    drawn = (imageio.imread(out / "cat_grid.png")[2:10, 2:10] == 220).all(-1)
    assert drawn[2:6, 1:4].all() and drawn.sum() == 12
    before, after = read_image(tmp_path / "cat.jpg"), read_image(out / "cat_0_pasted.png")
    changed = (before != after).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert after.shape == before.shape == (40, 60, 3) and changed.any()
    assert rows[0] >= 10 and rows[-1] < 30 and columns[0] >= 15 and columns[-1] < 30


def test_each_photograph_has_its_own_box(complete, photo, tmp_path):
    Image.fromarray(photograph(160, 160)).save(tmp_path / "dog.png")
    code, _, err = complete(photo, tmp_path / "dog.png", "--box", "40,40,40,40", "--scale", 1, "--out", tmp_path / "o")
    assert code == 0 and "2,4,4,4 of" in err and "2,2,2,2 of" in err
    grid = imageio.imread(tmp_path / "o" / "grid.png")
    assert [int((grid[top : top + 8, 2:10] == 220).all(-1).sum()) for top in (2, 12)] == [16, 4]


def test_names_stand_below_pictures_where_there_is_room(complete, photo, tmp_path):
    grids = []
    for words in ([], ["--no_names"], ["--scale", 4], ["--scale", 4, "--no_names"]):
        assert complete(photo, "--out", tmp_path / "out", *words)[0] == 0
        grids.append(imageio.imread(tmp_path / "out" / "cat_grid.png"))
    named, plain, small, small_plain = grids
    assert plain.shape == (132, 4 * 130 + 2, 3) and named.shape[1:] == plain.shape[1:]
    np.testing.assert_array_equal(named[:130], plain[:130])
    strip = named[130:]
    # Every cell has letters, and there is white between the names.
    for left in range(2, 4 * 130, 130):
        assert (strip[:, left : left + 128] < 128).any()
        assert (strip[:, left + 128 : left + 130] == 255).all()
    np.testing.assert_array_equal(small, small_plain)


def test_a_large_grid_is_enlarged_less(complete, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "MOST_PIXELS", 4 * 64 * 5**2)
    code, _, err = complete(photo, "--out", tmp_path / "out", "--scale", 9)
    assert code == 0 and "grid of 4 pictures is enlarged 5 times, not 9" in err
    assert imageio.imread(tmp_path / "out" / "cat_grid.png").shape == (44, 4 * 42 + 2, 3)
    assert imageio.imread(tmp_path / "out" / "cat_0.png").shape == (72, 72, 3)


def test_a_series_keeps_the_size_of_its_pictures(run, preset, tmp_path):
    line = ["sample", "--model", preset, "--out", tmp_path / "a", "--n"]

    def sides(folder, n):
        return [imageio.imread(tmp_path / folder / f"sample_{i}.png").shape[0] for i in range(n)]

    assert run(*line, 1)[0] == 0 and sides("a", 1) == [8]
    # As a version before this one recorded it.
    record = json.loads((tmp_path / "a" / "sample.json").read_text())
    del record["scale"]
    (tmp_path / "a" / "sample.json").write_text(json.dumps(record))
    code, _, err = run(*line, 2, "--scale", 4)
    assert code == 0 and "pictures stay enlarged 1 times" in err and sides("a", 2) == [8, 8]
    assert run(*line, 2, "--scale", 4, "--overwrite")[0] == 0 and sides("a", 2) == [32, 32]
    grid = (tmp_path / "a" / "grid.png").read_bytes()
    assert run(*line, 3)[0] == 0 and sides("a", 3) == [32] * 3
    small = ["sample", "--model", preset, "--out", tmp_path / "b", "--n", 2, "--scale", 4, "--pixels"]
    assert run(*small)[0] == 0 and sides("b", 2) == [8, 8]
    assert (tmp_path / "b" / "grid.png").read_bytes() == grid


def test_a_grid_has_a_row_for_each_class_and_its_name(run, of_classes, tmp_path):
    line = ["sample", "--model", of_classes, "--n", 5, "--class_name", "dog", "cat", "--scale", 8, "--pixels"]
    code, _, err = run(*line, "--out", tmp_path, "--gif")
    assert code == 0, err
    grid = imageio.imread(tmp_path / "grid.png")
    margin = grid.shape[1] - (3 * 66 + 2)
    assert grid.shape[0] == 2 * 66 + 2 and margin > 0
    for row, numbers in enumerate(([0, 2, 4], [1, 3])):
        assert (grid[row * 66 + 2 : row * 66 + 66, :margin] < 128).any()
        for column, number in enumerate(numbers):
            top, left = 2 + row * 66, margin + 2 + column * 66
            picture = imageio.imread(tmp_path / f"sample_{number}.png")
            np.testing.assert_array_equal(grid[top : top + 64 : 8, left : left + 64 : 8], picture)
    assert imageio.imread(tmp_path / "drawing.gif", index=0).shape[:2] == (8 * 22, 8 * 32)
    code, _, err = run(*line, "--out", tmp_path / "one", "--class_name", "all", "--n", 1)
    assert code == 0, err
