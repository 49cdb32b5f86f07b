"""The notebooks run from top to bottom, with fewer images than they show, and have their pictures in them."""

import json
from pathlib import Path

import keras
import matplotlib.pyplot
import pytest

import igpt_tf as igpt

EXAMPLES = Path(__file__).parents[1] / "examples"


def code_of(name):
    notebook = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(name, **settings):
    """Execute all cells, after the first one with other settings; return what is defined then."""
    names = {}
    for number, cell in enumerate(code_of(name)):
        exec("".join(cell["source"]), names)
        if number == 0:
            assert set(settings) <= set(names)
            names.update(settings)
    return names


@pytest.fixture
def workplace(monkeypatch, tmp_path):
    """A working directory with the photographs and a smaller `nano-cifar10`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(EXAMPLES / "photos")
    config = igpt.ImageGPTConfig(n_layer=1, n_embd=16, n_head=2)
    igpt.ImageGPT(config).save_to_preset("nano-cifar10", igpt.load_palette("nano-cifar10"))
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda: matplotlib.pyplot.close("all"))
    return tmp_path


@pytest.mark.slow
def test_the_tour(workplace):
    names = run("tour.ipynb", N_PHOTOS=1, N_PARTICLES=2, N_TRAIN=60, N_TEST=8, EPOCHS=1)
    assert names["filled"].shape == (1, 1024) and names["answers"].shape == (8,)
    assert len(names["result"].results) == 3


@pytest.mark.slow
def test_complete_your_photo(workplace, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    names = run("complete_your_photo.ipynb", MODEL="nano-cifar10", PICTURES=2, FOLDER=str(EXAMPLES.parent))
    assert names["drawn"].shape == (2, 1024)
    assert (workplace / "completions" / "image_1.png").exists()


@pytest.mark.parametrize("name", ["tour.ipynb"])
def test_pictures_are_in_the_notebook(name):
    shown = [output for cell in code_of(name) for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(shown) >= 5
    assert (EXAMPLES / name).stat().st_size < 1_500_000
