"""What a model's layers know of an image: the mean over positions of each layer's normalised states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from igpt_tf.backend.devices import count_devices, jit_compile, scope_of
from igpt_tf.backend.replica import kept_with
from igpt_tf.config import check_tokens
from igpt_tf.errors import UsageError, UserError
from igpt_tf.model.bert import draw_mask
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.probing.defaults import NORMS
from igpt_tf.scoring.predict import predict_padded
from igpt_tf.storage.files import atomic_write

if TYPE_CHECKING:
    from igpt_tf.data.store.store import TokenStore

# Images between two updates of the progress bar, in batches.
BATCHES_A_CHUNK = 8


def extract_features(
    model: ImageGPT | ImageGPTClassifier,
    tokens: TokenStore | np.ndarray,
    layers: Sequence[int] | None = None,
    *,
    norm: str = "block",
    batch_size: int = 8,
    mask_seed: int | None = None,
    mask_probability: float = 0.15,
    out: str | Path | np.ndarray | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Features of images in all layers from one pass: tokens (N, T) to float32 (len(layers), N, D).

    Args:
        model: what reads the images; of a classifier, the model in it.
        tokens: (N, T) integers; may lie on disk.
        layers: numbers from 0, the embedding, to L, the last block's output; None: all of them.
        norm: what the states of layer l go through before the mean over positions is taken: "block", the norm by
            which they are read, `ln_1` of the next block and `ln_f` for the last layer, as in the paper; "ln_2" of the
            next block instead; "ln_f", whatever the layer; or "none".
        batch_size: images at a time, over all devices.
        mask_seed: for BERT models: decides what is hidden; None shows all.
        mask_probability: likewise: of a token to be hidden.
        out: where the features go instead of memory: an .npy file to write, or an array of the result's shape, such as
            a memory map.
        progress: show a bar on standard error.

    Returns:
        The features; of a file, memory-mapped.

    Raises:
        UserError: if there is no such layer or norm, tokens or masks do not fit the model, or `out` cannot be written.

    Source: section 2.3 of the paper.
    """
    model = image_gpt_of(model)
    layers = check_layers(model, layers)
    parts = feature_parts(
        model,
        tokens,
        layers,
        norm=norm,
        batch_size=batch_size,
        mask_seed=mask_seed,
        mask_probability=mask_probability,
        progress=progress,
    )
    shape = (len(layers), len(tokens), model.config.n_embd)
    if isinstance(out, str | Path):
        write_features(out, shape, parts)
        return np.load(out, mmap_mode="r", allow_pickle=False)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape:
        raise UserError(f"expected an array of shape {shape} for the features, found {out.shape}")
    done = 0
    for part in parts:
        out[:, done : done + part.shape[1]] = part
        done += part.shape[1]
    return out


def check_layers(model: ImageGPT, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The layers that are meant, or a `UsageError` where there is no such layer."""
    last = model.config.n_layer
    if layers is None:
        return tuple(range(last + 1))
    layers = tuple(int(layer) for layer in layers)
    wrong = [layer for layer in layers if not 0 <= layer <= last]
    if wrong or not layers:
        raise UsageError(f"expected layers from 0 to {last}, found {', '.join(map(str, wrong)) or 'none'}")
    return layers


def feature_parts(
    model: ImageGPT,
    tokens: TokenStore | np.ndarray,
    layers: tuple[int, ...],
    *,
    norm: str = "block",
    batch_size: int = 8,
    mask_seed: int | None = None,
    mask_probability: float = 0.15,
    progress: bool = False,
) -> Iterator[np.ndarray]:
    """Features of a few images after the other, each part (len(layers), n, D); arguments as in `extract_features`."""
    if norm not in NORMS:
        raise UsageError(f"expected a norm of {', '.join(NORMS)}, found {norm!r}")
    if batch_size < 1:
        raise UserError(f"expected a batch size of at least 1, got {batch_size}")
    if mask_seed is not None and not model.config.bert:
        raise UsageError("masks are for BERT models, this one is autoregressive: leave mask_seed out")
    n_devices = count_devices(model)
    batch_size = -(-min(batch_size, max(1, len(tokens))) // n_devices) * n_devices
    chunk = BATCHES_A_CHUNK * batch_size
    # The extractor knows each layer once, in order.
    known = tuple(sorted(set(layers)))
    columns = [known.index(layer) for layer in layers]
    with tqdm(total=len(tokens), unit="image", desc="features", disable=not progress, leave=False) as bar:
        for start in range(0, max(1, len(tokens)), chunk):
            part = np.asarray(tokens[start : start + chunk])
            check_tokens(model.config, part)
            inputs = {"tokens": part.astype("int32", copy=False)}
            if mask_seed is not None:
                inputs["mask"] = draw_mask(mask_seed, start, *part.shape, mask_probability)
            # Not around the loop: between two parts, whoever reads them may do as they like.
            with scope_of(model):
                means = predict_padded(_extractor(model, known, norm), inputs, batch_size)
            yield means.swapaxes(0, 1)[columns]
            bar.update(len(part))


def write_features(path: str | Path, shape: tuple[int, int, int], parts: Iterator[np.ndarray]) -> None:
    """Write parts (len(layers), n, D) of features of this shape to an .npy file, whole or not at all.

    Written and not mapped, because a full disk ends a process that writes to a mapping.

    Raises:
        UserError: if the file cannot be written.
    """
    n_layers, n_images, width = shape
    heading = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with atomic_write(path) as file:
        np.lib.format.write_array_header_1_0(file, heading)
        start, done = file.tell(), 0
        for part in parts:
            for layer in range(n_layers):
                file.seek(start + 4 * width * (layer * n_images + done))
                file.write(np.ascontiguousarray(part[layer], "<f4"))
            done += part.shape[1]


class _Extractor(keras.Model):
    """Wraps a model so that Keras' `predict` returns the means (B, len(layers), D) of some layers."""

    def __init__(self, model: ImageGPT, layers: tuple[int, ...], norm: str) -> None:
        super().__init__(name="extractor")
        self.read = model
        self.layers_read = layers
        self.norm = norm

    def call(self, inputs):
        # A layer's mean is taken as soon as its states are there, so that they need not be kept.
        x = self.read.embed(inputs)
        means = []
        for layer in range(self.layers_read[-1] + 1):
            if layer:
                x = self.read.blocks[layer - 1](x)
            if layer in self.layers_read:
                means.append(ops.mean(ops.cast(self._normalised(layer, x), "float32"), axis=1))
        return ops.stack(means, axis=1)

    def _normalised(self, layer: int, x):
        if self.norm == "none":
            return x
        if self.norm == "ln_f" or layer == len(self.read.blocks):
            return self.read.ln_f(x)
        block = self.read.blocks[layer]
        return (block.ln_1 if self.norm == "block" else block.ln_2)(x)


def _extractor(model: ImageGPT, layers: tuple[int, ...], norm: str) -> _Extractor:
    """The model's extractor of these layers, with what it has compiled."""

    def make() -> _Extractor:
        extractor = _Extractor(model, layers, norm)
        extractor.compile(jit_compile=jit_compile())
        return extractor

    return kept_with(model, f"_igpt_extractor_{norm}_{layers}", make)
