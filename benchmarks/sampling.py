"""How fast is the sampler, against Hugging Face's `generate` with its cache, and against what memory allows?

    python -m benchmarks.sampling --size s --batch_size 1 8 --repeats 1
    KERAS_BACKEND=jax python -m benchmarks.sampling --size s --batch_size 1 16 64 256 --dtype bfloat16 --repeats 5

Whole images with random weights: speed does not depend on them. `roofline_share` is how long the bytes that every step
reads, weights and filled cache, take at the memory bandwidth measured in the same run, over the time taken. `peak_mb`
is the memory of the process at its peak over what it held before there was a model; the first batch size alone has it,
because what ran before would count too. The naive side runs the whole network for every pixel, as the original does,
and is timed over one pixel of each image, because all cost the same. Hugging Face's is timed after a first call, of a
few tokens on a CPU. On a GPU, its model is also tried with a static cache and `torch.compile`; where the class refuses,
the row says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import threading
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import igpt_tf as igpt
from benchmarks.theirs import new_theirs, timed
from igpt_tf.backend.devices import list_gpus

# That a first call of Hugging Face's `generate` draws on a CPU.
WARM_UP_TOKENS = 8


def resident_mb() -> float:
    """Of this process now, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak_resident_mb() -> float:
    """Of this process at its peak, on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def report(**row) -> None:
    print(json.dumps({"benchmark": "sampling", "backend": keras.backend.backend(), **row}), flush=True)


def bandwidth() -> float:
    """Bytes a second that the device's memory gives when it is only read."""
    if list_gpus():
        array = keras.ops.ones((1 << 30,), "float32")
        total = keras.ops.convert_to_numpy
        seconds = [timed(lambda: total(keras.ops.sum(array))) for _ in range(6)]
        return 4 * (1 << 30) / min(seconds[1:])
    parts = np.array_split(np.ones(1 << 26, "float32"), os.cpu_count())

    def read_all() -> None:
        threads = [threading.Thread(target=part.sum) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return sum(part.nbytes for part in parts) / min(timed(read_all) for _ in range(20))


def bytes_read(config: igpt.ImageGPTConfig, batch_size: int, width: int) -> float:
    """By all steps of a batch of whole images: every matrix once a step, and the part of the cache that is filled."""
    weights = config.n_layer * 12 * config.n_embd**2 + config.n_vocab * config.n_embd
    cache = config.n_layer * 2 * batch_size * config.n_embd * config.n_tokens / 2
    return config.n_tokens * (weights + cache) * width


def ours(
    model: igpt.ImageGPT, batch_size: int, repeats: int, shape: dict, rate: float, before_mb: float | None
) -> None:
    """Times our sampler; `before_mb` is what the process held before the model, None where others ran since."""

    def draw() -> None:
        igpt.sample(model, batch_size, batch_size=batch_size)

    first = timed(draw)
    seconds = statistics.median(timed(draw) for _ in range(repeats))
    n_tokens = batch_size * model.config.n_tokens
    n_embd_layers = model.config.n_embd * model.config.n_layer
    width = 2 if model.compute_dtype == "bfloat16" else 4
    report(
        what="ours",
        **shape,
        first_call_seconds=round(first, 2),
        seconds=round(seconds, 2),
        tokens_per_second=round(n_tokens / seconds, 1),
        images_per_second=round(batch_size / seconds, 3),
        roofline_share=round(bytes_read(model.config, batch_size, width) / rate / seconds, 3),
        **({} if before_mb is None else {"peak_mb": round(peak_resident_mb() - before_mb)}),
        weights_and_cache_mb=round((4 * model.count_params() + 2 * width * n_tokens * n_embd_layers) / 1e6),
    )


def naive(model: igpt.ImageGPT, batch_size: int, repeats: int, shape: dict) -> None:
    tokens = np.zeros((batch_size, model.config.n_tokens), "int32")
    model.predict_on_batch(tokens)
    pixel = statistics.median(timed(lambda: np.asarray(model.predict_on_batch(tokens))[:, -1]) for _ in range(repeats))
    report(
        what="naive, one pixel of each image", **shape, seconds=round(pixel, 3), tokens_per_second=batch_size / pixel
    )


def theirs(config: igpt.ImageGPTConfig, batch_size: int, repeats: int, shape: dict, dtype: str) -> None:
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
            report(what=f"theirs{name}", **shape, refused=str(error).splitlines()[0][:200])
            continue
        report(
            what=f"theirs{name}",
            **shape,
            seconds=round(seconds, 2),
            tokens_per_second=round(batch_size * config.n_tokens / seconds, 1),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(igpt.SIZES), default="s")
    parser.add_argument("--batch_size", type=int, nargs="+", default=[8])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=("ours", "theirs", "naive"), default=["ours", "theirs"])
    options = parser.parse_args()
    config = igpt.SIZES[options.size]
    rate = bandwidth()
    before_mb = resident_mb()
    model = igpt.ImageGPT(config, dtype=options.dtype if options.dtype == "float32" else "mixed_bfloat16")
    report(what="memory bandwidth", gb_per_second=round(rate / 1e9, 1))
    for i, batch_size in enumerate(options.batch_size):
        shape = {"size": options.size, "batch_size": batch_size, "tokens": config.n_tokens, "dtype": options.dtype}
        if "ours" in options.sides:
            ours(model, batch_size, options.repeats, shape, rate, None if i else before_mb)
        if "theirs" in options.sides:
            theirs(config, batch_size, options.repeats, shape, options.dtype)
        if "naive" in options.sides:
            naive(model, batch_size, options.repeats, shape)


if __name__ == "__main__":
    main()
