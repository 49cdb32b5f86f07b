"""How long loading weights takes, and how much memory.

    python -m benchmarks.loading --size s --backend tensorflow

Writes a checkpoint of random weights as OpenAI's are (Adam slots, as many shards) into a temporary folder, about
12 bytes a parameter and 4 more for the preset made of it (s: 1.2 GB, m: 7.3 GB, l: 21.8 GB), and deletes it at the
end. Every row is measured in a fresh process that has loaded a tiny model before; the files are in the page cache,
as far as they fit. `extra_peak_over_weights` is the growth of the process at its peak, the model itself included, as a
multiple of the weights' bytes: 1 would be the model and nothing else. Linux only.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

MB = 1e6
TINY = {"n_px": 4, "n_vocab": 8, "n_embd": 8, "n_head": 2, "n_layer": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=("nano", "s", "m", "l"), default="s")
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    parser.add_argument("--folder", type=Path, help="where there is room for the temporary folder")
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        prefix, preset = Path(folder, "openai", "model.ckpt-1000000"), Path(folder, "preset")
        tiny = Path(folder, "tiny", "model.ckpt-1")
        in_fresh_process(write_checkpoints, options.size, prefix, tiny)
        for what, function, *paths in (
            ("from OpenAI's format", measure_load, tiny, prefix),
            ("saved as a preset folder", measure_save, tiny, prefix, preset),
            ("from a preset folder", measure_load, tiny, preset),
        ):
            row = in_fresh_process(function, *paths)
            what = {"benchmark": "loading", "what": f"igpt-{options.size} {what}", "backend": options.backend}
            print(json.dumps(what | row), flush=True)


def in_fresh_process(function: Callable, *args):
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *args).result()


def write_checkpoints(size: str, prefix: Path, tiny: Path) -> None:
    from igpt_tf.config import SIZES, ImageGPTConfig
    from igpt_tf.download.openai import SHARDS

    write_checkpoint(prefix, SIZES[size], SHARDS.get(size, 4))
    write_checkpoint(tiny, ImageGPTConfig(**TINY), 2)


def write_checkpoint(prefix: Path, config, n_shards: int) -> None:
    """Random weights in the layout of OpenAI's checkpoints, with one shard at a time in memory."""
    import tensorflow as tf

    from igpt_tf.weights.names import shape_table

    prefix.parent.mkdir()
    shapes = {f"model/{name}{slot}": s for name, s in shape_table(config).items() for slot in ("", "/Adam", "/Adam_1")}
    names = sorted(shapes)
    rng = np.random.default_rng(0)
    parts = []
    for share in [["global_step"], *(names[i :: n_shards - 1] for i in range(n_shards - 1))]:
        arrays = [rng.random(shapes[n], "float32") if n in shapes else np.int64(1_000_000) for n in share]
        parts.append(str(prefix.with_name(f"part-{len(parts)}")))
        tf.raw_ops.SaveV2(prefix=parts[-1], tensor_names=share, shape_and_slices=[""] * len(share), tensors=arrays)
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix))


def measure_load(tiny: Path, preset: Path) -> dict:
    from igpt_tf.model.image_gpt import ImageGPT

    ImageGPT.from_preset(tiny)
    return measure(lambda: ImageGPT.from_preset(preset))


def measure_save(tiny: Path, prefix: Path, preset: Path) -> dict:
    from igpt_tf.model.image_gpt import ImageGPT

    ImageGPT.from_preset(tiny).save_to_preset(preset)
    model = ImageGPT.from_preset(prefix)
    return measure(lambda: (model, model.save_to_preset(preset))[0])


def measure(function: Callable) -> dict:
    """Run a function that returns a model, and compare time and memory with the bytes of that model's weights."""
    # "5" sets the peak that the kernel keeps back to what is in use now.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = memory("VmRSS"), time.perf_counter()
    model = function()
    seconds = time.perf_counter() - start
    weights = 4 * model.count_params()
    peak, after = memory("VmHWM"), memory("VmRSS")
    return {
        "seconds": round(seconds, 2),
        "weights_mb": round(weights / MB, 1),
        "before_mb": round(before / MB, 1),
        "peak_mb": round(peak / MB, 1),
        "after_mb": round(after / MB, 1),
        "extra_peak_over_weights": round((peak - before) / weights, 3),
        "extra_after_over_weights": round((after - before) / weights, 3),
    }


def memory(field: str) -> int:
    """Bytes of this process as the kernel counts them: VmRSS now, VmHWM at the peak."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    main()
