"""The README's Python is run as it stands, and its commands exist."""

import re
from pathlib import Path

import numpy as np
import pytest

from igpt_tf.cli.main import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.slow
def test_python_examples_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = {"photos": rng.integers(0, 256, (2, 32, 32, 3), np.uint8), "labels": np.array([0, 1])}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block.replace("n=16", "n=2").replace("n_particles=32", "n_particles=2"), names)
    assert names["images"].shape == (2, 32, 32, 3)
    assert names["nats"].shape == (2, 1024)
    assert (tmp_path / "my-model" / "palette.npy").exists()


def test_commands_exist():
    assert set(re.findall(r"python run\.py (\w+)", README)) <= set(COMMANDS)
