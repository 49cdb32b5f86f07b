"""Machine code is kept where that is possible; where it is not, drawing takes longer and nothing else."""

import os
import stat

import pytest

from examples import run_python

DRAW = """
import sys
import numpy as np
from igpt_tf.config import ImageGPTConfig
from igpt_tf.sampling import Sampler
from igpt_tf.sampling.native.network import NativeNetwork
from igpt_tf.weights.names import shape_table

config = ImageGPTConfig(n_px=4, n_vocab=8, n_embd=16, n_head=2, n_layer=1)
rng = np.random.default_rng(0)
arrays = {name: rng.normal(size=shape).astype("float32") for name, shape in shape_table(config).items()}
print(Sampler([NativeNetwork(config, arrays.get)]).sample(2, seed=1).tolist())
print(*sorted({"keras", "tensorflow", "jax"} & set(sys.modules)))
"""


def draw(folder, **environment):
    done = run_python(DRAW, NUMBA_CACHE_DIR="", XDG_CACHE_HOME=str(folder), **environment)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    drawn, loaded = done.stdout.splitlines()
    assert not loaded
    return drawn


@pytest.mark.slow
def test_machine_code_is_kept_and_what_is_damaged_is_made_anew(tmp_path):
    expected = draw(tmp_path)
    kept = sorted(path for path in tmp_path.glob("igpt/kernels-*/**/*") if path.is_file())
    assert kept
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert draw(tmp_path) == expected
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert draw(tmp_path) == expected


@pytest.mark.slow
def test_each_kind_of_processor_has_a_folder_of_its_own(tmp_path):
    """Machines of a cluster share a home: what one compiles may have instructions that another lacks."""
    expected = draw(tmp_path)
    assert draw(tmp_path, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == expected
    assert len(list(tmp_path.glob("igpt/kernels-*"))) == 2


SWAPPED = """
import numpy as np
from igpt_tf.sampling.native import elementwise

found = []
for dtype in ("float32", "float64"):
    numbers = np.arange(5, dtype=dtype)
    elementwise.scale_by(numbers, numbers)
    found.append(numbers.tolist())
assert found == [[0.0, 1.0, 4.0, 9.0, 16.0]] * 2
"""


@pytest.mark.slow
def test_machine_code_of_other_types_is_not_run(tmp_path):
    """As two processes may leave it that keep code of two types at once."""
    how = {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path)}
    assert run_python(SWAPPED, **how).returncode == 0
    first, second = tmp_path.glob("igpt/kernels-*/**/elementwise.scale_by-*.nbc")
    first.write_bytes(second.read_bytes())
    done = run_python(SWAPPED, **how)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path):
    expected = draw(tmp_path)
    (tmp_path / "file").write_text("no folder")
    assert draw(tmp_path / "file") == expected
    if os.getuid():  # root writes anywhere
        locked = tmp_path / "locked"
        locked.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        assert draw(locked) == expected


@pytest.mark.slow
def test_a_full_disk_costs_time_alone(tmp_path):
    expected = draw(tmp_path)
    full = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    full += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
    done = run_python(full + DRAW, NUMBA_CACHE_DIR="", XDG_CACHE_HOME=str(tmp_path / "full"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == expected
