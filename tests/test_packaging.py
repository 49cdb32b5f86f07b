"""What is installed: one list of dependencies in two places, and every public name importable."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import igpt_tf as igpt

ROOT = Path(__file__).parents[1]


def test_requirements_are_those_of_the_package():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    needed = {re.sub(r"\s*#.*", "", line) for line in lines if not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert needed == {*project["dependencies"], *extras["tensorflow"], *extras["studio"]}


def test_every_import_is_a_dependency():
    """Nothing is left to what another package happens to bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = ("tensorflow", "jax", "torch", "hf-hub", "hf-datasets", "tfds", "studio")
    extras = [line for name in names for line in project["optional-dependencies"][name]]
    needed = {re.match(r"[\w-]+", line)[0] for line in [*project["dependencies"], *extras]}
    imported = set()
    for path in (ROOT / "igpt_tf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    called = {
        "sklearn": "scikit-learn",
        "PIL": "pillow",
        "google_crc32c": "google-crc32c",
        "jaxlib": "jax",
        "tensorflow_datasets": "tensorflow-datasets",
    }
    foreign = imported - set(sys.stdlib_module_names) - {"igpt_tf"}
    # What another of them needs and does not declare.
    assert {called.get(name, name) for name in foreign} == needed - {"importlib_resources"}


def test_everything_that_is_packed_is_there():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for path in build["force-include"]:
        assert any((ROOT / path / name).is_file() for name in ("model.safetensors", "cascade.json", "cat.jpg")), path


def test_every_public_name_is_there():
    for name in igpt.__all__:
        assert getattr(igpt, name) is not None
    assert set(igpt.__all__) <= set(dir(igpt))
