"""The token store: how much memory reading it takes, and how many pictures a second go into it.

    python -m benchmarks.store

Writes a store of random tokens (--gigabytes, 4 by default) into a temporary folder, and --files JPEG files of 32 x 32
pixels; both are deleted at the end. Every row is measured in a fresh process. `over_the_model_mb` is how far the
process grows at its peak above what it held with a model of size --size, ready to train; "mapped" is the same reading
from a memory mapping that is kept, as `numpy.load(mmap_mode="r")` gives it. The files are in the page cache, as far as
they fit. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.loading import MB, in_fresh_process, memory

N_PX, N_COLORS = 32, 512
# Rows written at once.
BLOCK = 1 << 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=5000, help="batches that are read")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--pictures", type=Path, help="a folder of pictures instead of made ones")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of threads that decode")
    parser.add_argument("--size", choices=("nano", "s", "m"), default="s")
    parser.add_argument("--folder", type=Path, help="where there is room for the temporary folder")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        store = Path(folder, "store")
        in_fresh_process(write_store, store, int(options.gigabytes * 1e9 / (2 * N_PX**2)))
        for what, function in (("store", read_store), ("mapped", read_mapped)):
            row = in_fresh_process(measure_reading, function, store, options.size, options.batch, options.steps)
            print_row(f"reading, {what}", row)
        pictures = options.pictures or Path(folder, "pictures")
        if options.pictures is None:
            in_fresh_process(write_pictures, pictures, options.files)
        for workers in options.workers:
            row = in_fresh_process(measure_tokenize, pictures, Path(folder, f"store-{workers}"), workers)
            print_row(f"tokenize, {workers} workers", row)


def print_row(what: str, row: dict) -> None:
    print(json.dumps({"benchmark": "store", "what": what} | row), flush=True)


def write_store(folder: Path, count: int) -> None:
    """Random tokens, a block at a time; what `tokenize` would write of them."""
    from igpt_tf.data.store.writer import store_writer
    from igpt_tf.pictures.palette import Palette

    rng = np.random.default_rng(0)
    palette = Palette(rng.uniform(-1, 1, (N_COLORS, 3)))
    request = {"format": 1, "palette": palette.digest(), "n_px": N_PX}
    with store_writer(folder, request, with_labels=True) as writer:
        for start in range(0, count, BLOCK):
            n = min(BLOCK, count - start)
            tokens = rng.integers(0, N_COLORS, (n, N_PX**2), dtype=np.uint16)
            writer.append(n, tokens, rng.integers(0, 1000, n, dtype=np.int32), [])
        writer.finish(palette, {"name": "random", "classes": None})


def write_pictures(folder: Path, count: int) -> None:
    """JPEG files of colour gradients with some noise, in ten folders."""
    from PIL import Image

    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, N_PX)[:, None]
    weights = np.hstack([1 - ramp, ramp])
    for i in range(count):
        smooth = np.einsum("ya,abc,xb->yxc", weights, rng.integers(0, 256, (2, 2, 3)), weights)
        image = np.clip(smooth + rng.normal(0, 20, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / str(i % 10) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=90)


def read_store(folder: Path):
    from igpt_tf.data.store.store import TokenStore

    return TokenStore.open(folder)


def read_mapped(folder: Path):
    return np.load(folder / "tokens.npy", mmap_mode="r", allow_pickle=False)


def measure_reading(open_tokens, folder: Path, size: str, batch: int, steps: int) -> dict:
    """Read batches as training does, one pass after another in random order."""
    from igpt_tf.config import SIZES
    from igpt_tf.data.batches import TrainingBatches
    from igpt_tf.data.order import ExampleOrder
    from igpt_tf.model.image_gpt import ImageGPT
    from igpt_tf.training.preparation import TokenBatch

    model = ImageGPT(SIZES[size])
    Path("/proc/self/clear_refs").write_text("5")
    before, start = memory("VmRSS"), time.perf_counter()
    tokens = open_tokens(folder)
    opened = time.perf_counter()
    batches = TrainingBatches(ExampleOrder(len(tokens), batch), TokenBatch(tokens))
    for step in range(steps):
        assert batches[step][0].shape == (batch, N_PX**2)
    seconds = time.perf_counter() - opened
    return {
        "store_mb": round((folder / "tokens.npy").stat().st_size / MB, 1),
        "model": f"igpt-{size}, {model.count_params() / 1e6:.1f}M parameters",
        "open_seconds": round(opened - start, 2),
        "steps": steps,
        "batch": batch,
        "milliseconds_a_step": round(1000 * seconds / steps, 3),
        "model_mb": round(before / MB, 1),
        "over_the_model_mb": round((memory("VmHWM") - before) / MB, 1),
    }


def measure_tokenize(pictures: Path, folder: Path, workers: int) -> dict:
    from igpt_tf.data.sources.open import open_source
    from igpt_tf.data.store.store import tokenize
    from igpt_tf.pictures.palette import Palette

    palette = Palette(np.random.default_rng(0).uniform(-1, 1, (N_COLORS, 3)))
    start = time.perf_counter()
    store = tokenize(open_source(pictures), folder, palette, N_PX, workers=workers)
    seconds = time.perf_counter() - start
    return {"files": len(store), "seconds": round(seconds, 2), "files_a_second": round(len(store) / seconds)}


if __name__ == "__main__":
    main()
