"""Features on disk, under a name that depends on everything that determines them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from igpt_tf.config import check_tokens
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.probing.features import FeatureSettings, extract_with
from igpt_tf.storage.digests import Digest, digest
from igpt_tf.storage.records import RecordError, read_record, write_record

if TYPE_CHECKING:
    from igpt_tf.data.tokens import Tokens

# To be raised when the same request has other features or another file.
FORMAT = 2
CHUNK_ROWS = 4096


class FeatureCache:
    """A folder of features.

    `KEY.npy` holds the features of one request, float32 (len(layers), N, D). `KEY.json` is written after it and
    records its size, so that an unfinished or truncated file is never used. The key is a digest of the request and of
    every weight and token.

    Args:
        folder: created if needed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def extract(self, model: ImageGPT, tokens: Tokens, settings: FeatureSettings) -> np.ndarray:
        """The features float32 (len(layers), N, D), memory-mapped; they are computed if the folder lacks them.

        Args:
            model: the model that reads the images.
            tokens: integers (N, T), in memory or on disk.
            settings: which features.

        Raises:
            UserError: if the tokens or settings do not fit the model, or the folder cannot be written.
        """
        masks = None if settings.mask_seed is None else [settings.mask_seed, settings.mask_probability]
        request = {
            "format": FORMAT,
            "weights": weights_digest(model),
            "tokens": tokens_digest(model, tokens),
            "model": model.config.to_dict(),
            "policy": model.dtype_policy.name,
            "layers": list(settings.layers),
            "norm": settings.norm,
            "masks": masks,
            "images": len(tokens),
        }
        path = self.folder / f"{digest(json.dumps(request, sort_keys=True))}.npy"
        if not _is_whole(path, request):
            extract_with(model, tokens, settings, path)
            write_record(path.with_suffix(".json"), {"bytes": path.stat().st_size, "request": request})
        return np.load(path, mmap_mode="r", allow_pickle=False)


def weights_digest(model: ImageGPT) -> str:
    """A digest of all of a model's weights; one variable is in memory at a time."""
    found = Digest()
    for variable in model.variables:
        values = np.asarray(keras.ops.convert_to_numpy(variable.value))
        # The first part of the path is the model's name, in which Keras numbers the models of a process.
        found.add(f"{variable.path.partition('/')[2]} {values.dtype} {values.shape}")
        found.add(values)
    for block in model.blocks:
        attn, mlp = block.attn, block.mlp
        for layer in (attn.q_proj, attn.k_proj, attn.v_proj, attn.c_proj, mlp.c_fc, mlp.c_proj):
            # The scale of a LoRA adapter is no variable.
            found.add(f"{layer.lora_rank} {layer.lora_alpha}")
    return str(found)


def tokens_digest(model: ImageGPT, tokens: Tokens) -> str:
    """A digest of all tokens, whatever their integer type; a `UserError` if they do not fit the model."""
    found = Digest()
    for start in range(0, max(1, len(tokens)), CHUNK_ROWS):
        part = np.asarray(tokens[start : start + CHUNK_ROWS])
        check_tokens(model.config, part)
        found.add(part.astype("<i4"))
    return str(found)


def _is_whole(path: Path, request: dict) -> bool:
    """Whether the features of a request lie at a path, with the recorded size."""
    try:
        record = read_record(path.with_suffix(".json"), {"bytes": int, "request": dict})
        return record is not None and record["request"] == request and record["bytes"] == path.stat().st_size
    except (RecordError, OSError):
        return False
