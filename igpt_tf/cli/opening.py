"""Opening the model, the palette and the images that the options name."""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING, Any

from igpt_tf.cli.backends import load_backend, silenced
from igpt_tf.cli.console import doing, remark, warn
from igpt_tf.cli.parser import SHAPE_OPTIONS
from igpt_tf.errors import Notice, UsageError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from igpt_tf.config import ImageGPTConfig
    from igpt_tf.data.labelled import LabelledTokens
    from igpt_tf.data.sources.open import Source
    from igpt_tf.data.store.store import TokenStore
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.sampling.network import Network
    from igpt_tf.weights.presets import Preset

# Why BERT models are refused where pictures are drawn, and where they are scored.
CANNOT_DRAW, NO_LIKELIHOOD = "cannot draw pixels one after another", "gives images no likelihood"


def open_model(options: argparse.Namespace) -> Preset:
    """Open the preset that the options name, before Keras is loaded; what was typed of its shape must be true."""
    preset = open_named_preset(options.model)
    check_shape(preset.config, bert=options.bert or None, **{name: getattr(options, name) for name in SHAPE_OPTIONS})
    if options.clf and preset.n_class is None:
        raise UsageError(f"--clf: expected a trained classification head in {preset.source}, got none: leave it out")
    return preset


def open_named_preset(name: str) -> Preset:
    """`open_preset`, which prints in a line each what it remarks, such as the checkpoint that it chose."""
    from igpt_tf.weights.presets import open_preset

    # OpenAI's checkpoints are read by TensorFlow.
    with silenced(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        preset = open_preset(name)
    for one in caught:
        if issubclass(one.category, Notice):
            warn(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return preset


def refuse_bert(preset: Preset, why: str) -> None:
    """A `UserError` for a BERT model, which for the reason `why` cannot do what is asked."""
    if preset.config.bert:
        raise UserError(f"{preset.source}: expected an autoregressive model, got a BERT model, which {why}")


def load_model(options: argparse.Namespace, preset: Preset, with_head: bool = False) -> tuple[Any, int]:
    """An `ImageGPT`, or a classifier, on the devices of the options, and how many images they compute at once."""
    load_backend(options.backend, threads=getattr(options, "threads", None))
    from igpt_tf.backend.devices import choose_devices, device_scope
    from igpt_tf.model import ImageGPT, ImageGPTClassifier

    devices = choose_devices(options.n_gpu)
    with device_scope(devices), doing("loading the model"):
        dtype = getattr(options, "dtype", "float32")
        model = (ImageGPTClassifier if with_head else ImageGPT).from_preset(preset, dtype=dtype)
    return model, options.n_sub_batch * len(devices)


def load_networks(options: argparse.Namespace, preset: Preset) -> tuple[Sequence[Network], int]:
    """What draws with a model on the devices of the options, and how many images are drawn at once.

    On a processor that is a network that needs no Keras, unless --backend names one or there is no Numba.
    """
    from igpt_tf.sampling.devices import has_gpu_driver, has_gpus, why_not_native

    if has_gpu_driver():
        # The backend that is installed, with its threads, before it is asked for GPUs.
        load_backend(options.backend, threads=options.threads)
    if options.backend is None and (options.n_gpu or 1) == 1 and not has_gpus():
        why = why_not_native()
        if why is None:
            from igpt_tf.sampling.native.network import NativeNetwork

            network = NativeNetwork(preset.config, preset.read, preset.start_classes, options.dtype, options.threads)
            return [network], options.n_sub_batch
        remark(f"drawing with Keras, which takes longer: {why}")
    if options.dtype == "int8":
        raise UsageError("--dtype: expected float32 or bfloat16 with Keras, got int8")
    model, batch_size = load_model(options, preset)
    from igpt_tf.sampling.keras_network import keras_networks

    return keras_networks(model), batch_size


def check_shape(config: ImageGPTConfig, **typed: int | bool | None) -> None:
    """Refuse a shape that the user typed and that is not the one of the weights.

    Args:
        config: the shape of the weights.
        typed: what the user typed, under the names of the config's fields; None: not typed.

    Raises:
        UsageError: if anything typed is something else in `config`.
    """
    wrong = {name: value for name, value in typed.items() if value not in (None, getattr(config, name))}
    if wrong:
        # A flag like --bert has no value.
        flags = ", ".join(f"--{name}" if value is True else f"--{name} {value}" for name, value in wrong.items())
        found = ", ".join(f"{name} {str(getattr(config, name)).lower()}" for name in wrong)
        names = ", ".join(f"--{name}" for name in wrong)
        raise UsageError(
            f"expected {found}, as the checkpoint says, got {flags}: leave out {names}, or give another checkpoint"
        )


def open_palette(options: argparse.Namespace, preset: Preset) -> Palette:
    """The palette that `resolve_palette` finds for pictures, which need one."""
    from igpt_tf.weights.presets import load_palette

    palette = resolve_palette(options, preset)
    return load_palette(preset) if palette is None else palette


def load_named_palette(name: Path) -> Palette:
    """The palette in a .npy file, or that of the model of a name or path."""
    from igpt_tf.pictures.palette import Palette

    if name.suffix.lower() == ".npy" or name.is_file():
        return Palette.load(name)
    from igpt_tf.weights.presets import load_palette, open_preset

    try:
        preset = open_preset(name)
    except UserError as error:
        raise UserError(
            f"{name}: expected a palette .npy, or a model with a palette, got neither", "palette"
        ) from error
    return load_palette(preset)


def resolve_palette(options: argparse.Namespace, preset: Preset | None, *data: TokenStore | Source) -> Palette | None:
    """The palette of a model and its images: the first that there is of three.

    1. the one that --palette (--color_cluster_path) names, a file or a model;
    2. the one that lies beside the weights of `preset`;
    3. the data's own: that of the first token store among them.

    Returns:
        The palette; None if there is none and all data are tokens, or there is no preset.

    Raises:
        UserError: if it has another number of colours than the model, or images have no palette.
    """
    from igpt_tf.data.store.store import TokenStore
    from igpt_tf.weights.presets import load_palette

    stores = [one for one in data if isinstance(one, TokenStore)]
    if options.palette is not None:
        source, palette = options.palette, load_named_palette(options.palette)
        if preset is not None and (own := preset.palette()) is not None and own != palette and len(own) == len(palette):
            warn(f"{source}: not the palette of {preset.source}: its colours are right only if the model knows them")
    elif preset is not None and (beside := preset.palette()) is not None:
        return beside
    elif stores:
        source, palette = stores[0].name, stores[0].palette
    else:
        # The preset's own error says where a palette was looked for.
        return None if preset is None or all(one.are_tokens for one in data) else load_palette(preset)
    if preset is not None and len(palette) != preset.config.n_vocab:
        raise UserError(
            f"{source}: expected a palette of {preset.config.n_vocab} colours for {preset.source}, "
            f"got {len(palette)}: use the palette that the model was trained with"
        )
    return palette


def warn_of_same_images(trained: LabelledTokens, tested: LabelledTokens) -> None:
    """Warn if the test images are the training images."""
    from igpt_tf.data.tokens import fingerprint

    if fingerprint(trained.tokens) == fingerprint(tested.tokens):
        warn(f"{tested.name}: the test images are the training images; this accuracy says nothing about new images")
