"""The arrows between modules, and what an import may cost: rules that no other test would notice broken."""

import ast
from pathlib import Path

import pytest

import igpt_tf
from examples import run_python

PACKAGE = Path(igpt_tf.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
MOST_LINES = 330

# A room imports those of the lines above its own alone, in functions too.
ORDER = [
    {"errors"},
    {"config", "storage", "backend", "progress"},
    {"pictures", "download"},
    {"data", "weights"},
    {"model"},
    {"presets", "scoring"},
    {"sampling", "probing"},
    {"training"},
    {"latent"},
    {"studio"},
    {"cli"},
]
# What works on pictures and files knows nothing of the model.
MODEL_FREE = set().union(*ORDER[:4])


def top_module(path):
    """`sampling` for igpt_tf/sampling/drawing.py, `config` for igpt_tf/config.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports_of(tree):
    """Dotted names of what a module imports, also in functions; what type checkers alone see is left out."""
    names = set()
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif is_type_checking(node):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return names


def internal(names):
    """The modules of the package among them: `sampling` for `igpt_tf.sampling.sampler.sample`."""
    return {name.split(".")[1] for name in names if name.startswith("igpt_tf.")} - {"__version__"}


def calls_in(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def name_of(path):
    return str(path.relative_to(PACKAGE))


def files_that_import(*roots):
    """Files that import one of these anywhere, in functions too."""
    return {
        name_of(path) for path, tree in TREES.items() if any(name.split(".")[0] in roots for name in imports_of(tree))
    }


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_follow_the_arrows(path):
    module = top_module(path)
    if module == "__main__":
        return
    if module == "__init__":
        assert not internal(imports_of(TREES[path])), "public names are imported when they are first used"
        return
    ranks = {name: rank for rank, names in enumerate(ORDER) for name in names}
    assert module in ranks, f"a new module: give {module} its place in ORDER"
    for other in internal(imports_of(TREES[path])) - {module}:
        assert ranks[other] < ranks[module], f"{module} imports {other}"


def modules_imported(path):
    """Files of the package that a module imports, also in functions, and by the names that packages export."""
    found = set()
    for name in imports_of(TREES[path]):
        parts = name.split(".")
        for end in range(len(parts), 1, -1):
            place = PACKAGE.joinpath(*parts[1:end])
            if (file := place.with_suffix(".py")) in TREES or (file := place / "__init__.py") in TREES:
                found.add(file)
                break
    return found - {path, PACKAGE / "__init__.py"}


def test_no_module_imports_itself_by_way_of_others():
    arrows = {path: modules_imported(path) for path in FILES}
    # Whatever imports nothing that is left cannot be part of a circle.
    while free := [path for path, others in arrows.items() if not others & arrows.keys()]:
        for path in free:
            del arrows[path]
    assert not arrows, sorted(map(name_of, arrows))


def test_no_module_has_the_name_of_a_public_function():
    """Once imported, the module would hide the function, which the package finds only when it is first used."""
    names = {path.stem for path in FILES if path.parent == PACKAGE} | {p.name for p in PACKAGE.iterdir() if p.is_dir()}
    assert not names & set(igpt_tf.__all__)


@pytest.mark.parametrize("path", [path for path in FILES if top_module(path) in MODEL_FREE], ids=name_of)
def test_pictures_and_files_know_nothing_of_the_model(path):
    assert internal(imports_of(TREES[path])) <= MODEL_FREE


def test_sampling_loads_no_model():
    for path in (PACKAGE / "sampling").rglob("*.py"):
        assert not internal(imports_of(TREES[path])) & {"presets", "weights"}, name_of(path)


def test_only_the_backend_and_the_checkpoint_reader_import_tensorflow_or_jax():
    assert files_that_import("tensorflow", "jax", "jaxlib") == {
        "backend/devices.py",
        "backend/events.py",
        "backend/processes.py",
        "backend/replica.py",
        "weights/openai.py",
    }


def test_only_the_command_line_parses_arguments_and_prints():
    printing = {
        name_of(path)
        for path, tree in TREES.items()
        if any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls_in(tree))
    }
    assert {name for name in printing | files_that_import("argparse") if not name.startswith("cli/")} == set()


def test_nothing_that_is_read_can_run_code():
    assert not files_that_import("pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve")
    for path, tree in TREES.items():
        for call in calls_in(tree):
            if ast.unparse(call.func) in {"np.load", "numpy.load"}:
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                assert keywords.get("allow_pickle") == "False", f"{name_of(path)}, line {call.lineno}"
            if ast.unparse(call.func) == "torch.load":
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                assert keywords.get("weights_only") == "True", f"{name_of(path)}, line {call.lineno}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_package_alone_imports_neither_keras_nor_numpy():
    done = run_python("import sys, igpt_tf; print(*sorted({'keras', 'numpy', 'tensorflow'} & set(sys.modules)))")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


WITHOUT_TENSORFLOW = """
import importlib.abc
import sys


class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise ImportError(f"{name} is not to be imported here")


sys.meta_path.insert(0, Blocker())

import keras
import numpy as np

import igpt_tf as igpt

model = igpt.ImageGPT(igpt.ImageGPTConfig(n_px=4, n_vocab=5, n_embd=8, n_head=2, n_layer=1))
tokens = igpt.sample(model, 2)
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(tokens, tokens, verbose=0)
logits = np.asarray(model(tokens))
model.save_to_preset(sys.argv[1])
np.testing.assert_array_equal(np.asarray(igpt.ImageGPT.from_preset(sys.argv[1])(tokens)), logits)
assert logits.any() and logits.shape == (2, 16, 5)
print(*sorted(name for name in sys.modules if name.split(".")[0] == "tensorflow"))
"""


@pytest.mark.slow
def test_jax_needs_no_tensorflow(tmp_path):
    pytest.importorskip("jax")
    code = WITHOUT_TENSORFLOW.replace("sys.argv[1]", repr(str(tmp_path / "preset")))
    done = run_python(code, KERAS_BACKEND="jax")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
