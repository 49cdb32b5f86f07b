"""How fast is the sampler, against Hugging Face's `generate` with its cache, and against what memory allows?

    python -m benchmarks.sampling --size s --batch_size 8 1 32 --repeats 1
    python -m benchmarks.sampling --size l --dtype bfloat16 --sides native --repeats 1
    KERAS_BACKEND=jax python -m benchmarks.sampling --batch_size 1 16 64 256 --dtype bfloat16 --sides keras theirs

Whole images with random weights: speed does not depend on them. `native` is what draws on processors, `keras` what
draws on GPUs. `roofline_share` is how long the bytes that every step reads, weights and filled cache, take at the
memory bandwidth measured in the same run, over the time taken; the bandwidth is that of the fastest of several ways to
read an array. `peak_mb` is the memory of the process at its peak over what it held before there was a model; the first
batch size of the first side alone has it, because what ran before would count too. The naive side runs the whole
network for every pixel, as the original does, and is timed over one pixel of each image, because all cost the same.
Hugging Face's is timed after a first call, of a few tokens on a CPU. On a GPU, its model is also tried with a static
cache and `torch.compile`; where the class refuses, the row says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks.theirs import new_theirs, timed
from igpt_tf.config import SIZES, ImageGPTConfig
from igpt_tf.sampling import Sampler
from igpt_tf.sampling.devices import has_gpus
from igpt_tf.sampling.native.network import NativeNetwork
from igpt_tf.sampling.native.team import count_cores
from igpt_tf.sampling.native.weights import STORAGES
from igpt_tf.weights.names import shape_table

# That a first call of Hugging Face's `generate` draws on a CPU.
WARM_UP_TOKENS = 8


def resident_mb() -> float:
    """Of this process now, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def forget_peak() -> None:
    """Count the peak of this process' memory from here on, on Linux."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_resident_mb() -> float:
    """Of this process at its peak, on Linux."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def report(**row) -> None:
    print(json.dumps({"benchmark": "sampling", **row}), flush=True)


def bandwidth() -> float:
    """Bytes a second that the device's memory gives when it is only read, in the fastest of several ways."""
    if has_gpus():
        import keras

        array = keras.ops.ones((1 << 30,), "float32")
        total = keras.ops.convert_to_numpy
        seconds = [timed(lambda: total(keras.ops.sum(array))) for _ in range(6)]
        return 4 * (1 << 30) / min(seconds[1:])
    from igpt_tf.sampling.native.kernels import multiply
    from igpt_tf.sampling.native.vectors import TILE

    n_threads, n_in, tiles = count_cores(), 1024, 1 << 12
    array, nothing = np.ones(tiles * n_in * TILE, "float32"), np.zeros(0, "float32")
    x, out = np.ones(n_in, "float32"), np.zeros(tiles * TILE, "float32")

    def total(thread: int) -> None:
        np.array_split(array, n_threads)[thread].sum()

    def product(thread: int) -> None:
        first, end = tiles * thread // n_threads, tiles * (thread + 1) // n_threads
        multiply(out, out.size, x, n_in, 1, array, 0, nothing, 0, n_in, first, end)

    def on_all_cores(way: Callable[[int], None]) -> None:
        threads = [threading.Thread(target=way, args=[thread]) for thread in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return array.nbytes / min(timed(lambda way=way: on_all_cores(way)) for way in (total, product) for _ in range(10))


def bytes_read(config: ImageGPTConfig, batch_size: int, width: int) -> float:
    """By all steps of a batch of whole images: every matrix once a step, and the part of the cache that is filled."""
    weights = config.n_layer * 12 * config.n_embd**2 + config.n_vocab * config.n_embd
    cache = config.n_layer * 2 * batch_size * config.n_embd * config.n_tokens / 2
    return config.n_tokens * (weights + cache) * width


def ours(
    sampler: Sampler,
    config: ImageGPTConfig,
    batch_size: int,
    repeats: int,
    shape: dict,
    rate: float,
    before_mb: float | None,
) -> None:
    """Times our sampler; `before_mb` is what the process held before the model, None where others ran since."""

    def draw() -> None:
        sampler.sample(batch_size, batch_size=batch_size)

    first = timed(draw)
    seconds = statistics.median(timed(draw) for _ in range(repeats))
    n_tokens, width = batch_size * config.n_tokens, np.dtype(STORAGES[shape["dtype"]]).itemsize
    n_weights = sum(int(np.prod(of)) for of in shape_table(config).values())
    report(
        **shape,
        first_call_seconds=round(first, 2),
        seconds=round(seconds, 2),
        tokens_per_second=round(n_tokens / seconds, 1),
        images_per_second=round(batch_size / seconds, 3),
        roofline_share=round(bytes_read(config, batch_size, width) / rate / seconds, 3),
        **({} if before_mb is None else {"peak_mb": round(peak_resident_mb() - before_mb)}),
        weights_and_cache_mb=round(width * (n_weights + 2 * n_tokens * config.n_embd * config.n_layer) / 1e6),
    )


def native_network(config: ImageGPTConfig, dtype: str) -> NativeNetwork:
    """The compiled network with random weights, which are made one array at a time."""
    shapes = shape_table(config)

    def read(name: str) -> np.ndarray:
        values = np.random.default_rng(len(name)).standard_normal(shapes[name], "float32")
        return 1 + values / 10 if name.endswith("/g") else values / 50

    return NativeNetwork(config, read, storage=dtype)


def keras_model(config: ImageGPTConfig, dtype: str) -> Any:
    import igpt_tf as igpt

    return igpt.ImageGPT(config, dtype=dtype if dtype == "float32" else "mixed_bfloat16")


def naive(model: Any, batch_size: int, repeats: int, shape: dict) -> None:
    tokens = np.zeros((batch_size, model.config.n_tokens), "int32")
    model.predict_on_batch(tokens)
    pixel = statistics.median(timed(lambda: np.asarray(model.predict_on_batch(tokens))[:, -1]) for _ in range(repeats))
    report(
        **{**shape, "side": "naive, one pixel of each image"},
        seconds=round(pixel, 3),
        tokens_per_second=batch_size / pixel,
    )


def theirs(config: ImageGPTConfig, batch_size: int, repeats: int, shape: dict, dtype: str) -> None:
    import torch

    torch.set_num_threads(os.cpu_count())
    model, device = new_theirs(config)
    model.to(getattr(torch, dtype)).eval()
    start = torch.full((batch_size, 1), config.n_vocab, device=device)
    ways = {"": {}}
    if device == "cuda":
        ways |= {", static cache": {"cache_implementation": "static"}}
        ways |= {", static cache, compiled": {"cache_implementation": "static", "compile": True}}
    for name, options in ways.items():
        options = dict(options)
        if options.pop("compile", False):
            model.forward = torch.compile(model.forward)

        def draw(n_tokens: int = config.n_tokens, options: dict = options) -> None:
            length = n_tokens + 1
            made = model.generate(start, min_length=length, max_length=length, do_sample=True, top_k=0, **options)
            assert made.shape == (batch_size, length)

        try:
            # What is compiled, and a static cache, fit one length alone.
            draw(config.n_tokens if device == "cuda" else WARM_UP_TOKENS)
            seconds = statistics.median(timed(draw) for _ in range(repeats))
        except Exception as error:
            report(**{**shape, "side": f"theirs{name}"}, refused=str(error).splitlines()[0][:200])
            continue
        report(
            **{**shape, "side": f"theirs{name}"},
            seconds=round(seconds, 2),
            tokens_per_second=round(batch_size * config.n_tokens / seconds, 1),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="s")
    parser.add_argument("--batch_size", type=int, nargs="+", default=[8])
    parser.add_argument("--dtype", choices=tuple(STORAGES), default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    sides = ("native", "keras", "theirs", "naive")
    parser.add_argument("--sides", nargs="+", choices=sides, default=["native", "theirs"])
    options = parser.parse_args()
    config, rate = SIZES[options.size], bandwidth()
    report(what="memory bandwidth", gb_per_second=round(rate / 1e9, 1))
    forget_peak()
    before_mb: float | None = resident_mb()
    shape = {"size": options.size, "tokens": config.n_tokens, "dtype": options.dtype}
    for side in options.sides:
        model = keras_model(config, options.dtype) if side in ("keras", "naive") else None
        sampler = None
        if side == "native":
            sampler = Sampler([native_network(config, options.dtype)])
        elif side == "keras":
            from igpt_tf.sampling.keras_network import keras_networks

            sampler = Sampler(keras_networks(model))
        for batch_size in options.batch_size:
            row = {"side": side, **shape, "batch_size": batch_size}
            if sampler is not None:
                ours(sampler, config, batch_size, options.repeats, row, rate, before_mb)
                before_mb = None
            elif side == "theirs":
                theirs(config, batch_size, options.repeats, row, options.dtype)
            else:
                naive(model, batch_size, options.repeats, row)


if __name__ == "__main__":
    main()
