"""The README's Python is run as it stands; the commands and options that README and guides name exist."""

import re
from pathlib import Path

import numpy as np
import pytest

import igpt_tf as igpt
from igpt_tf.cli.main import COMMANDS, PARTS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.slow
def test_python_examples_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # A smaller model of the same name, which the working directory has.
    config = igpt.ImageGPTConfig(n_layer=1, n_embd=16, n_head=2)
    igpt.ImageGPT(config).save_to_preset("nano-cifar10", igpt.load_palette("nano-cifar10"))
    rng = np.random.default_rng(0)
    names = {"photos": rng.integers(0, 256, (2, 32, 32, 3), np.uint8), "labels": np.array([0, 1])}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block.replace("n=16", "n=2").replace("n_particles=32", "n_particles=2"), names)
    assert names["images"].shape == (2, 32, 32, 3)
    assert names["nats"].shape == (2, 1024)
    assert (tmp_path / "my-model" / "palette.npy").exists()


@pytest.mark.slow
def test_the_guide_to_keras_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = igpt.ImageGPTConfig(n_px=28, n_vocab=16, n_layer=1, n_embd=16, n_head=2)
    igpt.ImageGPT(config).save_to_preset("nano-mnist", igpt.load_palette("nano-mnist"))
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/guides/keras.md").read_text(), re.DOTALL):
        exec(block, names)
    assert (tmp_path / "saved-model").is_dir() and (tmp_path / "small.keras").is_file()


def help_of(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page, capsys):
    text = page.read_text().replace("\\\n", " ")
    for command, line in re.findall(r"python run\.py ([a-z]+)([^\n`#]*)", text):
        assert command in COMMANDS
        if command in PARTS:
            command = f"{command} {line.split()[0]}"
        options = re.findall(r"--\w+", line)
        assert set(options) <= set(re.findall(r"--\w+", help_of(command, capsys))), f"{command}{line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_that_are_named_exist(page):
    for path in re.findall(r"`([a-z_]\w*/[\w/]+\.py)`", page.read_text()):
        # Capitals stand for a name that the reader chooses.
        assert (ROOT / path).exists() or (ROOT / "igpt_tf" / path).exists() or re.search("[A-Z]{3}", path), path


def test_every_public_name_is_on_the_api_page():
    page = (ROOT / "docs" / "api.md").read_text()
    documented = set(re.findall(r"^::: .*\.(\w+)$", page, re.MULTILINE))
    # Modules stand for all that is public in them.
    modules = {
        "region": {"known_rows", "known_outside_box", "known_by_mask"},
        "images": {"load_images", "save_images", "grid", "save_gif"},
        "errors": {"UserError"},
    }
    assert set(modules) <= documented
    assert set(igpt.__all__) - {"__version__", "SIZES"} <= documented.union(*modules.values())


def test_the_tree_names_what_is_there():
    tree = re.search(r"```\n(run\.py.*?)```", README, re.DOTALL)[1]
    named = re.findall(r"^(?:  )?(\w[\w.]*/?)", tree, re.MULTILINE)
    here = {
        f"{path.name}/" if path.is_dir() else path.name for path in [*ROOT.iterdir(), *(ROOT / "igpt_tf").iterdir()]
    }
    assert set(named) <= here
    rooms = {f"{path.name}/" for path in (ROOT / "igpt_tf").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(named)
