"""Train a model on images of your own."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.options import SHAPE_OPTIONS, add_device_options, load_backend, non_negative, positive
from igpt_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from igpt_tf.config import ImageGPTConfig
    from igpt_tf.palette import Palette


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", required=True, help="a folder of pictures, or an .npy of tokens or images")
    parser.add_argument("--palette", "--color_cluster_path", type=Path, help="palette .npy, from: run.py palette")
    parser.add_argument("--out", type=Path, required=True, help="the preset folder; training/ in it keeps the state")
    parser.add_argument("--validation", help="images or tokens that are not trained on")
    parser.add_argument("--validation_images", type=positive, default=256, help="how many of them, drawn at random")
    shape = parser.add_argument_group("shape")
    shape.add_argument("--size", choices=("nano", "s", "m", "l", "xl"), default="nano", help="a size by name")
    for name in SHAPE_OPTIONS:
        shape.add_argument(f"--{name}", type=positive, help=f"{name}, if not that of the size")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the data; may be a fraction")
    parser.add_argument("--learning_rate", type=float, default=3e-3, help="peak; falls to 0 along a cosine")
    parser.add_argument("--warmup_steps", type=non_negative, default=200, help="steps of linear warm-up")
    parser.add_argument("--save_every", type=positive, help="steps between checkpoints (default: one pass)")
    parser.add_argument("--seed", type=non_negative, default=0, help="decides the weights and the order of the data")
    add_device_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> None:
    """Train, going on where an earlier run stopped, and write the preset."""
    from igpt_tf.palette import Palette

    palette = None if options.palette is None else Palette.load(options.palette)
    config = _config(options, palette)
    tokens, validation = _read_data(options, config, palette)
    load_backend()
    import keras

    from igpt_tf.backend import choose_devices, device_scope
    from igpt_tf.model import ImageGPT
    from igpt_tf.training.pretrain import PretrainSettings, pretrain

    devices = choose_devices(options.n_gpu)
    settings = PretrainSettings(
        epochs=options.epochs,
        batch_size=options.n_sub_batch * len(devices),
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup_steps,
        save_every=options.save_every,
        seed=options.seed,
    )
    keras.utils.set_random_seed(settings.seed)
    with device_scope(devices):
        model = ImageGPT(config)
    n_periods, period = settings.plan(len(tokens))
    bar = _progress_bar(n_periods, period)
    history = pretrain(model, tokens, settings, options.out / "training", validation, [bar])
    model.save_to_preset(options.out, palette)
    last = history[-1]
    if options.json:
        print(json.dumps({"preset": str(options.out), "steps": n_periods * period, **last}))
    else:
        losses = ", ".join(f"{name} {value:.4f}" for name, value in last.items())
        print(f"{options.out}: {losses} (nats per token)")


def _config(options: argparse.Namespace, palette: Palette | None) -> ImageGPTConfig:
    """The named size with what was typed beside it, and the palette's number of colours."""
    from igpt_tf.config import SIZES

    typed = {name: value for name in SHAPE_OPTIONS if (value := getattr(options, name)) is not None}
    if palette is not None and typed.setdefault("n_vocab", len(palette)) != len(palette):
        raise UsageError(f"--n_vocab {typed['n_vocab']} was given, but {options.palette} has {len(palette)} colours")
    try:
        return dataclasses.replace(SIZES[options.size], **typed)
    except UserError as error:
        raise UsageError(str(error)) from error


def _read_data(
    options: argparse.Namespace, config: ImageGPTConfig, palette: Palette | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Tokens to train on, and those to validate on or None."""
    import numpy as np

    from igpt_tf.data.sources import load_tokens

    tokens = load_tokens(options.data, config.n_px, palette, config.n_vocab)
    if options.validation is None:
        return tokens, None
    validation = load_tokens(options.validation, config.n_px, palette, config.n_vocab)
    chosen = np.random.default_rng(0).permutation(len(validation))[: options.validation_images]
    return tokens, validation[chosen]


def _progress_bar(n_periods: int, period: int) -> keras.callbacks.Callback:
    """A bar over all steps of a run of so many periods, on standard error, with the latest losses."""
    import keras
    from tqdm import tqdm

    class ProgressBar(keras.callbacks.Callback):
        def on_train_begin(self, logs=None) -> None:
            self.bar = tqdm(total=n_periods * period, unit="step")

        def on_epoch_begin(self, epoch, logs=None) -> None:
            self.bar.update(epoch * period - self.bar.n)

        def on_train_batch_end(self, batch, logs=None) -> None:
            self.bar.set_postfix(logs or {}, refresh=False)
            self.bar.update()

        def on_epoch_end(self, epoch, logs=None) -> None:
            self.bar.set_postfix(logs or {})

        def on_train_end(self, logs=None) -> None:
            self.bar.close()

    return ProgressBar()
