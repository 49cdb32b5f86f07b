"""What is installed: one list of dependencies in two places, and every public name importable."""

import re
import tomllib
from pathlib import Path

import igpt_tf as igpt

ROOT = Path(__file__).parents[1]


def test_requirements_are_those_of_the_package():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    needed = {re.sub(r"\s*#.*", "", line) for line in lines if not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert needed == {*project["dependencies"], *project["optional-dependencies"]["tensorflow"]}


def test_everything_that_is_packed_is_there():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for path in build["force-include"]:
        assert (ROOT / path / "model.safetensors").is_file(), path


def test_every_public_name_is_there():
    for name in igpt.__all__:
        assert getattr(igpt, name) is not None
    assert set(igpt.__all__) <= set(dir(igpt))
