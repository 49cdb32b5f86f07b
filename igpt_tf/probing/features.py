"""Features of images: the mean over positions of each layer's normalised states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from igpt_tf.backend.devices import scope_of
from igpt_tf.backend.replica import kept_with
from igpt_tf.config import check_tokens
from igpt_tf.errors import UsageError, UserError
from igpt_tf.model.bert import draw_mask
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.probing.defaults import NORMS
from igpt_tf.progress import BATCHES_A_CHUNK, ProgressBar
from igpt_tf.scoring.predict import compiled, predict_padded, whole_batch
from igpt_tf.storage.files import atomic_write

if TYPE_CHECKING:
    from igpt_tf.data.tokens import Tokens


class SideBySide:
    """Concatenated features (N, sum of D) of several layers; only the rows asked for are read."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = parts
        self.shape = (len(parts[0]), sum(part.shape[1] for part in parts))

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The features (n, sum of D) of these rows."""
        return np.concatenate([part[rows] for part in self.parts], axis=1)


# Features (N, D) in memory, memory-mapped, or of several layers side by side: they have a length, a shape and `[rows]`.
Features = np.ndarray | SideBySide


@dataclass(frozen=True)
class FeatureSettings:
    """Which features are extracted, and how: the arguments of `extract_features`, with numbers of all layers."""

    layers: tuple[int, ...]
    norm: str = "block"
    mask_seed: int | None = None
    mask_probability: float = 0.15
    batch_size: int = 8
    progress: bool = False


def extract_features(
    model: ImageGPT | ImageGPTClassifier,
    tokens: Tokens,
    layers: Sequence[int] | None = None,
    *,
    norm: str = "block",
    batch_size: int = 8,
    mask_seed: int | None = None,
    mask_probability: float = 0.15,
    out: str | Path | np.ndarray | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Features of images in several layers, from one pass: tokens (N, T) to float32 (len(layers), N, D).

    Args:
        model: the model that reads the images; for a classifier, its `image_gpt`.
        tokens: integers (N, T), in memory or on disk.
        layers: numbers of layers, from 0, the embedding, to L, the last block's output; None: all.
        norm: applied to the states before their mean over positions. "block": the norm that reads them, `ln_1` of the
            next block or, after the last one, `ln_f` (the paper); "ln_2": the next block's second norm; "ln_f": the
            last norm for all layers; "none".
        batch_size: images per batch, over all devices.
        mask_seed: for BERT models, determines the masks; None shows all tokens.
        mask_probability: for BERT models, the probability that a token is masked.
        out: path of an .npy file to write, or an array of the result's shape to fill; None: a new array.
        progress: show a progress bar on standard error.

    Returns:
        The features, memory-mapped if they were written to a file.

    Raises:
        UserError: if a layer or the norm does not exist, the tokens or masks do not fit the model, or `out` cannot be
            written.

    Source: section 2.3 of the paper.
    """
    model = image_gpt_of(model)
    settings = FeatureSettings(check_layers(model, layers), norm, mask_seed, mask_probability, batch_size, progress)
    return extract_with(model, tokens, settings, out)


def extract_with(
    model: ImageGPT, tokens: Tokens, settings: FeatureSettings, out: str | Path | np.ndarray | None = None
) -> np.ndarray:
    """`extract_features` with its settings in one object."""
    shape = (len(settings.layers), len(tokens), model.config.n_embd)
    parts = _feature_parts(model, tokens, settings)
    if isinstance(out, str | Path):
        _write_features(out, shape, parts)
        return np.load(out, mmap_mode="r", allow_pickle=False)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape:
        raise UserError(f"expected `out` of shape {shape}, got {out.shape}")
    done = 0
    for part in parts:
        out[:, done : done + part.shape[1]] = part
        done += part.shape[1]
    return out


def check_layers(model: ImageGPT, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The numbers of the layers, all if None, or a `UsageError` if the model has no such layer."""
    last = model.config.n_layer
    if layers is None:
        return tuple(range(last + 1))
    layers = tuple(int(layer) for layer in layers)
    wrong = [layer for layer in layers if not 0 <= layer <= last]
    if wrong or not layers:
        raise UsageError(f"expected layers from 0 to {last}, got {', '.join(map(str, wrong)) or 'none'}")
    return layers


def _feature_parts(model: ImageGPT, tokens: Tokens, settings: FeatureSettings) -> Iterator[np.ndarray]:
    """Yield the features (len(layers), n, D) of n images after the other, in order."""
    if settings.norm not in NORMS:
        raise UsageError(f"expected `norm` as one of {', '.join(NORMS)}, got {settings.norm!r}")
    if settings.mask_seed is not None and not model.config.bert:
        raise UsageError(f"expected no `mask_seed`, as this model is autoregressive, got {settings.mask_seed}")
    batch_size = whole_batch(model, settings.batch_size, max(1, len(tokens)))
    chunk = BATCHES_A_CHUNK * batch_size
    # The extractor returns each layer once, in ascending order.
    extracted = tuple(sorted(set(settings.layers)))
    places = [extracted.index(layer) for layer in settings.layers]
    with ProgressBar(
        total=len(tokens), unit="image", first="compiling", desc="features", shown=settings.progress
    ) as bar:
        for start in range(0, max(1, len(tokens)), chunk):
            part = np.asarray(tokens[start : start + chunk])
            check_tokens(model.config, part)
            inputs = {"tokens": part.astype("int32", copy=False)}
            if settings.mask_seed is not None:
                n_images, n_tokens = part.shape
                inputs["mask"] = draw_mask(settings.mask_seed, start, n_images, n_tokens, settings.mask_probability)
            # The scope ends before each yield, so that the caller does not run inside it.
            with scope_of(model):
                means = predict_padded(_extractor(model, extracted, settings.norm), inputs, batch_size)
            yield means.swapaxes(0, 1)[places]  # (n, layers, D) -> (layers, n, D)
            bar.update(len(part))


def _write_features(path: str | Path, shape: tuple[int, int, int], parts: Iterator[np.ndarray]) -> None:
    """Write parts (len(layers), n, D) of features of this shape to an .npy file, completely or not at all.

    The file is written, not memory-mapped: a full disk kills a process that writes to a memory map.
    """
    n_layers, n_images, width = shape
    heading = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with atomic_write(path) as file:
        np.lib.format.write_array_header_1_0(file, heading)
        start, done = file.tell(), 0
        for part in parts:
            for layer in range(n_layers):
                file.seek(start + 4 * width * (layer * n_images + done))
                file.write(np.ascontiguousarray(part[layer], "<f4").data)
            done += part.shape[1]


class _Extractor(keras.Model):
    """Wraps a model so that Keras' `predict` returns the means (B, len(layers), D) of some layers' states."""

    def __init__(self, model: ImageGPT, layers: tuple[int, ...], norm: str) -> None:
        super().__init__(name="extractor")
        self.wrapped = model
        self.extracted = layers
        self.norm = norm

    def call(self, inputs):
        """Tokens (B, T), or tokens and mask, to means (B, len(layers), D)."""
        x = self.wrapped.embed(inputs)
        means = []
        # A layer's mean is taken as soon as its states are known, so that they need not stay in memory.
        for layer in range(self.extracted[-1] + 1):
            if layer:
                x = self.wrapped.blocks[layer - 1](x)
            if layer in self.extracted:
                means.append(ops.mean(ops.cast(self._normalised(layer, x), "float32"), axis=1))  # (B, T, D) -> (B, D)
        return ops.stack(means, axis=1)

    def _normalised(self, layer: int, x):
        if self.norm == "none":
            return x
        if self.norm == "ln_f" or layer == len(self.wrapped.blocks):
            return self.wrapped.ln_f(x)
        block = self.wrapped.blocks[layer]
        return (block.ln_1 if self.norm == "block" else block.ln_2)(x)


def _extractor(model: ImageGPT, layers: tuple[int, ...], norm: str) -> keras.Model:
    """The model's compiled extractor of these layers, made once."""
    return kept_with(model, f"_igpt_extractor_{norm}_{layers}", lambda: compiled(_Extractor(model, layers, norm)))
