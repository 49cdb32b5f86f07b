"""How fast is a step of training, against Hugging Face's implementation (torch) doing the same?

    python -m benchmarks.training --size s --batch_size 2 --repeats 5
    python -m benchmarks.training --size flagship --batch_size 16 --repeats 5
    KERAS_BACKEND=jax python -m benchmarks.training --size s --batch_size 64 --repeats 20

A step is forward, backward and Adam over one batch, up to the loss as a Python number. The sides take turns, so that
what else the machine does meets all alike; medians. `matmul_share` is the step's arithmetic (6 operations a weight and
token, and the attention's products below the diagonal) over what a large matrix product reaches on the same device in
the same precision, measured in the same run. The last row is our float32 step fed as `pretrain` feeds it, from tokens
on disk with flips and crops: how long it waits for a batch, and how long reading a batch takes. Their class has no
fused attention to choose; autocast to bfloat16 and `torch.compile` are tried on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import ops

import igpt_tf as igpt
from benchmarks.shapes import SHAPES
from benchmarks.theirs import new_theirs, timed
from igpt_tf.backend.devices import jit_compile, list_gpus
from igpt_tf.data.augment import Augmentation
from igpt_tf.data.batches import TrainingBatches
from igpt_tf.data.order import ExampleOrder
from igpt_tf.data.store.rows import FileTokens
from igpt_tf.training.optimizer import new_optimizer
from igpt_tf.training.preparation import TokenBatch
from igpt_tf.training.pretrain import new_model
from igpt_tf.training.settings import PretrainSettings

# Images of the token file that the pipeline reads.
N_IMAGES = 50_000


def report(**row) -> None:
    print(json.dumps({"benchmark": "training", **row}), flush=True)


def our_step(config: igpt.ImageGPTConfig, policy: str) -> Callable[[np.ndarray], float]:
    model = new_model(config, mixed_precision=policy != "float32")
    model.compile(
        new_optimizer(PretrainSettings(learning_rate=1e-3), n_steps=1_000_000, warmup=0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile(),
    )
    return lambda tokens: float(model.train_on_batch(tokens, tokens))


def their_step(config: igpt.ImageGPTConfig, *, bfloat16: bool, compiled: bool) -> Callable[[np.ndarray], float]:
    import torch

    model, device = new_theirs(config, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, use_cache=False)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    run = torch.compile(model) if compiled else model

    def step(tokens: np.ndarray) -> float:
        inputs = torch.tensor(tokens, dtype=torch.long, device=device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            loss = run(input_ids=inputs, labels=inputs).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def pipeline(config: igpt.ImageGPTConfig, batch_size: int, step: Callable[[np.ndarray], float], repeats: int) -> dict:
    """How long reading and augmenting a batch takes, beside the step that it is for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokens.npy")
        rng = np.random.default_rng(0)
        np.save(path, rng.integers(0, config.n_vocab, (N_IMAGES, config.n_tokens), dtype=np.uint16))
        prepare = TokenBatch(FileTokens(path), augment=Augmentation(("flip", "crop"), config.n_px))
        batches = TrainingBatches(ExampleOrder(N_IMAGES, batch_size), prepare)
        step(batches[0][0])
        reading = [timed(lambda i=i: batches[i]) for i in range(1, repeats + 1)]
        steps = [timed(lambda i=i: step(batches[i][0])) for i in range(1, repeats + 1)]
    return {
        "milliseconds_reading": round(1000 * statistics.median(reading), 3),
        "reading_share": round(sum(reading) / sum(steps), 5),
    }


def matmul_rate(dtype: str, width: int) -> float:
    """Operations a second of a square matrix product."""
    square = ops.cast(ops.ones((width, width)), dtype)
    # A number has to come back, or the product is only promised.
    seconds = [timed(lambda: float(ops.matmul(square, square)[0, 0])) for _ in range(8)]
    return 2 * width**3 / statistics.median(seconds[3:])


def operations(config: igpt.ImageGPTConfig, batch_size: int) -> float:
    """Of one step: what cannot be left out."""
    width, length = config.n_embd, config.n_tokens
    weights = 12 * config.n_layer * width**2 + config.n_vocab * width
    attention = config.n_layer * length * width  # two products over half of all pairs, 2 operations each
    return 3 * batch_size * length * (2 * weights + 2 * attention)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=sorted(SHAPES), default="s")
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without_theirs", action="store_true", help="our side alone")
    options = parser.parse_args()
    config = SHAPES[options.size]
    shape = {"size": options.size, "batch_size": options.batch_size, "backend": keras.backend.backend()}
    tokens = np.random.default_rng(0).integers(0, config.n_vocab, (options.batch_size, config.n_tokens)).astype("int32")

    ours = {"float32": "float32", "mixed bfloat16": "mixed_bfloat16"}
    sides = {f"ours, {name}": our_step(config, policy) for name, policy in ours.items()}
    if not options.without_theirs:
        sides["theirs, float32"] = their_step(config, bfloat16=False, compiled=False)
        if list_gpus():
            sides["theirs, mixed bfloat16"] = their_step(config, bfloat16=True, compiled=False)
            sides["theirs, mixed bfloat16, compiled"] = their_step(config, bfloat16=True, compiled=True)
    seconds = {what: [] for what in sides}
    for what, step in sides.items():
        report(what=f"{what}: first step", **shape, seconds=round(timed(lambda step=step: step(tokens)), 2))
    for _ in range(options.repeats):
        for what, step in sides.items():
            seconds[what].append(timed(lambda step=step: step(tokens)))

    width = 16384 if list_gpus() else 2048
    rates = {name: matmul_rate(name.split()[-1], width) for name in ours}
    medians = {what: statistics.median(times) for what, times in seconds.items()}
    fastest_of_theirs = min((s for what, s in medians.items() if what.startswith("theirs")), default=None)
    for what, median in medians.items():
        row = {"seconds": round(median, 4), "tokens_per_second": round(tokens.size / median)}
        if what.startswith("ours"):
            rate = rates[what.removeprefix("ours, ")]
            row["matmul_gflops"] = round(rate / 1e9)
            row["matmul_share"] = round(operations(config, options.batch_size) / median / rate, 3)
            row["times_as_fast_as_theirs"] = fastest_of_theirs and round(fastest_of_theirs / median, 2)
        report(what=what, **shape, **row)
    fed = pipeline(config, options.batch_size, sides["ours, float32"], options.repeats)
    report(what="ours, float32, fed from disk", **shape, **fed)


if __name__ == "__main__":
    main()
