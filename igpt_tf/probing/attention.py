"""Where a model looks: the attention of each head, pixel by pixel."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from igpt_tf.backend.devices import scope_of
from igpt_tf.backend.replica import kept_with
from igpt_tf.errors import UsageError, whole_number
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.model.layers import attention_weights, hidden_bias
from igpt_tf.scoring.predict import compiled, predict_padded, whole_batch


def attention_maps(
    model: ImageGPT | ImageGPTClassifier,
    tokens: np.ndarray,
    layer: int,
    positions: Sequence[int] | np.ndarray | None = None,
    *,
    batch_size: int = 8,
    progress: bool = False,
) -> np.ndarray:
    """How much each position takes from every position in a layer: tokens (N, T) to float32 (N, H, P, T).

    Row p sums to 1. An autoregressive model reads an image one position late: position t predicts pixel t, and what it
    takes from position s comes from pixel s - 1, or, for s = 0, from the start embedding. In a BERT model, position s
    is pixel s.

    Args:
        model: the model that reads the images; for a classifier, its `image_gpt`.
        tokens: (N, T) integers.
        layer: number of a block, from 1 to L, as in `extract_features`.
        positions: (P,) those that look, from 0 to T - 1; None: all.
        batch_size: images per batch, over all devices.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if the tokens do not fit the model, or it has no such layer or position.
    """
    model = image_gpt_of(model)
    inputs = model.inputs_of(tokens)
    n_images, n_tokens = inputs["tokens"].shape
    layer, last = whole_number("layer", layer), model.config.n_layer
    if not 1 <= layer <= last:
        raise UsageError(f"expected `layer` from 1 to {last}, got {layer}")
    looking = np.arange(n_tokens) if positions is None else np.asarray(positions, "int32").reshape(-1)
    wrong = looking[(looking < 0) | (looking >= n_tokens)]
    if len(wrong) or not len(looking):
        raise UsageError(f"expected `positions` from 0 to {n_tokens - 1}, got {wrong[0] if len(wrong) else 'none'}")
    inputs["positions"] = np.tile(looking.astype("int32"), (n_images, 1))
    with scope_of(model):
        attending = kept_with(model, f"_igpt_attending_{layer}", lambda: compiled(_Attending(model, layer)))
        return predict_padded(attending, inputs, whole_batch(model, batch_size, n_images), progress)


class _Attending(keras.Model):
    """Wraps a model so that Keras' `predict` returns the attention (B, H, P, T) of some positions in a layer."""

    def __init__(self, model: ImageGPT, layer: int) -> None:
        super().__init__(name="attending")
        self.wrapped = model
        self.layer = layer

    def call(self, inputs):
        """{"tokens": (B, T), "positions": (B, P)} to (B, H, P, T)."""
        *before, block = self.wrapped.blocks[: self.layer]
        x = self.wrapped.embed({"tokens": inputs["tokens"]})
        for one in before:
            x = one(x)
        x = block.ln_1(x)
        positions = inputs["positions"][:, None, :, None]  # (B, 1, P, 1)
        queries = ops.take_along_axis(block.attn.queries(x), positions, axis=2)  # (B, H, T, E) to (B, H, P, E)
        keys, _ = block.attn.keys_values(x)
        bias = None
        if block.attn.causal:
            hidden = ops.arange(keys.shape[2]) > positions  # (B, 1, P, T)
            bias = ops.where(hidden, hidden_bias(queries.dtype), 0.0)
        return ops.cast(attention_weights(queries, keys, bias), "float32")


def over_pixels(model: ImageGPT, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Attention (..., T) to positions as attention to pixels (..., n_px, n_px), and to the start embedding (...).

    The latter is None for BERT models, which have none.
    """
    config, start = model.config, None
    if not config.bert:
        start = maps[..., 0]
        # The last pixel is never read.
        maps = np.concatenate([maps[..., 1:], np.zeros_like(maps[..., :1])], axis=-1)
    return maps.reshape(*maps.shape[:-1], config.n_px, config.n_px), start
