"""Features on disk, under a key that names all they depend on, and used only where they are seen to be whole."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from igpt_tf.config import check_tokens
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.probing.features import check_layers, feature_parts, write_features
from igpt_tf.storage.files import atomic_write

if TYPE_CHECKING:
    from igpt_tf.data.store.store import TokenStore
    from igpt_tf.model.layers import Block

# Another whenever the same request would have other features or another file.
FORMAT = 1
CHUNK_ROWS = 4096
CHUNK_BYTES = 1 << 22


class FeatureCache:
    """A folder of features.

    `KEY.npy` holds the features of one request, (len(layers), N, D) float32; `KEY.json`, written after it, vouches for
    it with its length and checksum. The key is a digest of every weight, every token and the request, so nothing stale
    can be found under it; what is cut short, altered or written by another process meanwhile is made anew.

    Args:
        folder: created if needed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def extract(
        self,
        model: ImageGPT | ImageGPTClassifier,
        tokens: TokenStore | np.ndarray,
        layers: Sequence[int] | None = None,
        *,
        norm: str = "block",
        batch_size: int = 8,
        mask_seed: int | None = None,
        mask_probability: float = 0.15,
        progress: bool = False,
    ) -> np.ndarray:
        """As `extract_features`, memory-mapped, and from the folder where they are there.

        Raises:
            UserError: as `extract_features`, and if the folder cannot be written.
        """
        model = image_gpt_of(model)
        layers = check_layers(model, layers)
        shape = (len(layers), len(tokens), model.config.n_embd)
        request = {
            "format": FORMAT,
            "weights": weights_digest(model),
            "tokens": tokens_digest(model, tokens),
            "model": model.config.to_dict(),
            "policy": model.dtype_policy.name,
            "layers": list(layers),
            "norm": norm,
            "masks": None if mask_seed is None else [mask_seed, mask_probability],
            "shape": list(shape),
        }
        path = self.folder / f"{_new_digest(json.dumps(request, sort_keys=True).encode()).hexdigest()}.npy"
        found = _open_whole(path, request)
        if found is not None:
            return found
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
        checksums = [0] * len(layers)
        write_features(path, shape, _summed(parts, checksums))
        written = {"bytes": path.stat().st_size, "crc32": checksums, "request": request}
        with atomic_write(path.with_suffix(".json")) as file:
            file.write(json.dumps(written, indent=1).encode())
        return np.load(path, mmap_mode="r", allow_pickle=False)


def weights_digest(model: ImageGPT) -> str:
    """A digest of all of a model's weights, one of which is in memory at a time."""
    digest = _new_digest()
    for variable in model.variables:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))
        # Keras numbers the models of a process in the first part of the path.
        digest.update(f"{variable.path.partition('/')[2]} {values.dtype} {values.shape}".encode())
        digest.update(values.view(np.uint8) if values.ndim else values.tobytes())
    for block in model.blocks:
        for layer in _projections(block):
            # How much an adapter counts is no variable.
            digest.update(f"{layer.lora_rank} {layer.lora_alpha}".encode())
    return digest.hexdigest()


def _projections(block: Block) -> tuple:
    attn, mlp = block.attn, block.mlp
    return attn.q_proj, attn.k_proj, attn.v_proj, attn.c_proj, mlp.c_fc, mlp.c_proj


def tokens_digest(model: ImageGPT, tokens: TokenStore | np.ndarray) -> str:
    """A digest of all tokens, whatever integers they are stored as; they must fit the model."""
    digest = _new_digest()
    for start in range(0, max(1, len(tokens)), CHUNK_ROWS):
        part = np.asarray(tokens[start : start + CHUNK_ROWS])
        check_tokens(model.config, part)
        digest.update(np.ascontiguousarray(part, "<i4"))
    return digest.hexdigest()


def _summed(parts: Iterator[np.ndarray], checksums: list[int]) -> Iterator[np.ndarray]:
    """The same parts, with the CRC-32 of each layer's bytes so far in `checksums`."""
    for part in parts:
        for layer, rows in enumerate(part):
            checksums[layer] = zlib.crc32(np.ascontiguousarray(rows, "<f4"), checksums[layer])
        yield part


def _open_whole(path: Path, request: dict) -> np.ndarray | None:
    """The features of a request, None where they are not there, not whole or not of this request."""
    try:
        written = json.loads(path.with_suffix(".json").read_bytes())
        features = np.load(path, mmap_mode="r", allow_pickle=False)
        good = written["request"] == request and written["bytes"] == path.stat().st_size
        good = good and (features.shape, features.dtype) == (tuple(request["shape"]), np.dtype("<f4"))
        if good and [_checksum(layer) for layer in features] == written["crc32"]:
            return features
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        pass
    return None


def _checksum(rows: np.ndarray) -> int:
    """CRC-32 of the bytes of (N, D), a part of which is in memory at a time."""
    data = memoryview(rows).cast("B")
    checksum = 0
    for start in range(0, len(data), CHUNK_BYTES):
        checksum = zlib.crc32(data[start : start + CHUNK_BYTES], checksum)
    return checksum


def _new_digest(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=16)
