"""How long does a checkpoint hold training up?

    python -m benchmarks.checkpoints --size s

The variables are copied while training waits, and written while it goes on: `seconds_held_up` is the first,
`seconds_written` the second, which would be the time to wait if the same thread wrote. Medians, on the folder's disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from benchmarks.shapes import SHAPES
from benchmarks.theirs import timed
from igpt_tf.training.checkpoint import RunCheckpoint, RunFolder
from igpt_tf.training.optimizer import new_optimizer
from igpt_tf.training.pretrain import new_model
from igpt_tf.training.settings import PretrainSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SHAPES), default="s")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default that of temporary files")
    options = parser.parse_args()
    model = new_model(SHAPES[options.size])
    model.compile(new_optimizer(PretrainSettings(), n_steps=1000, warmup=0), keras.losses.MeanSquaredError())
    held_up, written = [], []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        checkpoint = RunCheckpoint(RunFolder(Path(folder)), {"batch_size": 1}, 1, writes=True)
        checkpoint.set_model(model)
        with checkpoint:
            checkpoint.restore(model)
            for number in range(options.repeats):
                checkpoint.on_epoch_begin(number)
                held_up.append(timed(lambda number=number: checkpoint.on_epoch_end(number, {"loss": 1.0})))
                written.append(timed(checkpoint.on_train_end))
        megabytes = max(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
    row = {"size": options.size, "megabytes": round(megabytes, 1)}
    row |= {"seconds_held_up": round(statistics.median(held_up), 3)}
    row |= {"seconds_written": round(statistics.median(written), 3)}
    print(json.dumps({"benchmark": "checkpoints", **row}), flush=True)


if __name__ == "__main__":
    main()
