"""Refiners: transformers that predict the finer codes of an image given its coarser ones."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from igpt_tf.backend.devices import count_devices
from igpt_tf.config import check_values
from igpt_tf.errors import UserError, naming
from igpt_tf.latent.model_folder import arrays_of, assign_arrays
from igpt_tf.latent.refiner_config import RefinerConfig, check_codes
from igpt_tf.latent.refiner_network import RefinerNetwork
from igpt_tf.model.initializers import InitialNormal, placeholder_weights
from igpt_tf.model.layers import Block, quick_gelu, rms_norm
from igpt_tf.weights.arrays import CONFIG_FILE, read_fields, write_arrays

KIND = "refiner"


class CodeEmbedding(keras.layers.Layer):
    """Vectors of codes and of their positions.

    Args:
        n_tokens: positions of a grid.
        n_vocab: codes V.
        in_dim: width of the codes' own vectors, which are projected where it is not `hidden_dim`.
        hidden_dim: width D.
    """

    def __init__(self, n_tokens: int, n_vocab: int, in_dim: int, hidden_dim: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.n_tokens, self.n_vocab = n_tokens, n_vocab
        self.in_dim, self.hidden_dim = in_dim, hidden_dim

    def build(self, input_shape) -> None:
        """Create the tables, of which vectors have the sizes of Image GPT's."""

        def table(name, shape, stddev):
            # Keras' inferred type knows an initializer's name only.
            return self.add_weight(shape=shape, initializer=cast("Any", InitialNormal(stddev=stddev)), name=name)

        self.wpe = table("wpe", (self.n_tokens, self.hidden_dim), 0.01)
        self.wte = table("wte", (self.n_vocab, self.in_dim), 0.02)
        self.proj = None
        if self.in_dim != self.hidden_dim:
            self.proj = table("proj", (self.in_dim, self.hidden_dim), self.in_dim**-0.5)

    def table(self):
        """The vectors of all codes, (V, D)."""
        table = ops.cast(self.wte, self.compute_dtype)
        return table if self.proj is None else ops.matmul(table, ops.cast(self.proj, table.dtype))

    def positions(self):
        """The vectors of all positions, (T, D)."""
        return ops.cast(self.wpe, self.compute_dtype)

    def call(self, codes):
        """(B, T) codes to their vectors (B, T, D), without the positions'."""
        return ops.take(self.table(), codes, axis=0)


@keras.saving.register_keras_serializable(package="igpt_tf")
class Refiner(keras.Model):
    """Predicts each finer code of an image from those before it, in raster order, and from all coarser ones.

    Reads {"coarse": (B, S), "tokens": (B, T)} integers and returns (B, T, V) float32 logits; those of position t depend
    on the coarser codes and on the tokens before t alone. An encoder reads the coarser codes, each given all others. A
    decoder attends to its output, and every position of it also reads the vector of the coarser code that covers it.
    `sample`, `complete` and `stream` draw from it, given coarser codes as `classes`.

    Args:
        config: the model's shape.
        codebooks: digests of the codebooks that the coarser and the finer codes come from; None: not known.
        kwargs: Keras' `dtype` and `name`.

    Raises:
        UserError: if codes of another shape are read.
    """

    def __init__(self, config: RefinerConfig, codebooks: tuple[str, str] | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.config = config
        # A tuple again where it comes from JSON.
        self.codebooks = cast("Any", None if codebooks is None else tuple(codebooks))
        width, dtype = config.hidden_dim, self.dtype_policy
        name = config.hidden_activation
        activation = quick_gelu if name == "quick_gelu" else keras.activations.get(name)
        block = partial(Block, width, config.self_attn_heads, activation=activation, dtype=dtype)
        embedding = partial(CodeEmbedding, in_dim=config.in_dim, hidden_dim=width, dtype=dtype)
        self.coarse = embedding(config.n_coarse, config.coarse_vocab, name="coarse")
        self.fine = embedding(config.n_tokens, config.n_vocab, name="fine")
        self.encoder = [
            block(config.num_enc_layers, causal=False, name=f"enc{i}") for i in range(config.num_enc_layers)
        ]
        self.ln_e = rms_norm("ln_e", dtype)
        self.decoder = [
            block(
                config.num_dec_layers,
                causal=True,
                window=config.window,
                n_cross_head=config.cross_attn_heads,
                name=f"dec{i}",
            )
            for i in range(config.num_dec_layers)
        ]
        self.ln_f = rms_norm("ln_f", dtype)
        rows = np.arange(config.height) * config.coarse_height // config.height
        columns = np.arange(config.width) * config.coarse_width // config.width
        # Which coarser code covers each finer one, (T,).
        self.cell_of = (rows[:, None] * config.coarse_width + columns).reshape(-1)
        self.build()

    def build(self, input_shape=None) -> None:
        """Create every variable."""
        width = self.config.hidden_dim
        for embedding in (self.coarse, self.fine):
            embedding.build((None, None))
        for layer in (*self.encoder, self.ln_e, *self.decoder, self.ln_f):
            layer.build((None, None, width))
        initializer = cast("Any", InitialNormal(stddev=0.02))
        self.sos = self.add_weight(shape=(width,), initializer=initializer, name="sos")
        self.wtet = self.add_weight(shape=(self.config.n_vocab, width), initializer="zeros", name="wtet")

    def call(self, inputs, training=None):
        """{"coarse": (B, S), "tokens": (B, T)} to float32 logits (B, T, V)."""
        codes: dict[str, Any] = {
            name: ops.cast(ops.convert_to_tensor(inputs[name]), "int32") for name in ("coarse", "tokens")
        }
        for name, most in (("coarse", self.config.n_coarse), ("tokens", self.config.n_tokens)):
            shape = tuple(codes[name].shape)
            if len(shape) != 2 or shape[1] != most:
                raise UserError(f"expected {name} of shape (B, {most}), got {shape}")
        cells, context = self.encode(codes["coarse"])
        x = self.embed(codes["tokens"], cells)
        for block in self.decoder:
            x = block(x, context)
        wtet = ops.cast(self.wtet, self.compute_dtype)
        return ops.cast(ops.matmul(self.ln_f(x), ops.transpose(wtet)), "float32")

    def encode(self, coarse):
        """Coarser codes (B, S) to what finer positions read, and what the decoder attends to, (B, S, D) each."""
        cells = self.coarse(coarse) + self.coarse.positions()
        x = cells
        for block in self.encoder:
            x = block(x)
        return cells, self.ln_e(x)

    def embed(self, tokens, cells):
        """What the decoder's first block reads, (B, T, D): the tokens (B, T) one position late behind `sos`."""
        x = self.fine(tokens)
        sos = ops.broadcast_to(ops.cast(self.sos, x.dtype), (ops.shape(x)[0], 1, self.config.hidden_dim))
        x = ops.concatenate([sos, x[:, :-1]], axis=1)
        length = x.shape[1]
        return x + self.fine.positions()[:length] + ops.take(cells, self.cell_of[:length], axis=1)

    def inputs_of(self, tokens: np.ndarray, start: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What the model reads of images: coarser codes and tokens.

        Args:
            tokens: (N, T) integers, the finer codes.
            start: what `starts` returned.

        Raises:
            UserError: if the codes do not fit the model, or there are no coarser ones.
        """
        coarse = self.starts(start, len(tokens))
        check_codes(self.config, coarse, tokens)
        check_values(tokens, self.config.n_vocab, "codebook")
        return {"coarse": coarse, "tokens": np.asarray(tokens, "int32")}

    def starts(self, classes: Any, n_images: int) -> np.ndarray:
        """The coarser codes of each image to draw, int32 (n_images, S).

        Args:
            classes: coarser codes (n_images, S), or (S,) for all images.
            n_images: N.

        Raises:
            UserError: if there are none, or they are others.
        """
        shape = n_images, self.config.n_coarse
        if np.shape(classes) not in (shape, shape[1:]):
            raise UserError(
                f"expected coarser codes of shape {shape} or {shape[1:]} to refine, got "
                f"{'none' if classes is None else np.shape(classes)}",
                "classes",
            )
        check_values(classes, self.config.coarse_vocab, "codebook")
        return np.broadcast_to(np.asarray(classes, "int32"), shape)

    def networks(self) -> list[RefinerNetwork]:
        """What draws from this model, on each of its devices."""
        return [RefinerNetwork(self, number) for number in range(count_devices(self))]

    def get_config(self) -> dict:
        """The constructor's arguments, for Keras' own `save`."""
        return {**super().get_config(), "config": self.config.to_dict(), "codebooks": self.codebooks}

    @classmethod
    def from_config(cls, config: dict) -> Refiner:
        """A model from `get_config`'s arguments."""
        return cls(**{**config, "config": RefinerConfig.from_dict(config["config"])})

    @classmethod
    def from_preset(cls, folder: str | Path, **kwargs) -> Refiner:
        """A refiner with the weights of a folder that `save_to_preset` wrote.

        Args:
            folder: the folder.
            kwargs: for the model: `dtype`, `name`.

        Raises:
            UserError: if there is no such preset, or it is incomplete, damaged or of another kind.
        """
        path = Path(folder).expanduser() / CONFIG_FILE
        fields = read_fields(path, "the refiner's shape")
        kind, codebooks = fields.pop("kind", None), fields.pop("codebooks", None)
        if kind != KIND:
            raise UserError(f"{path}: expected the preset of a refiner, got one of another kind")
        with naming(path), placeholder_weights():
            model = cls(RefinerConfig.from_dict(fields), codebooks, **kwargs)
        assign_arrays(model, path.parent)
        return model

    def save_to_preset(self, folder: str | Path, dtype: str = "float32") -> None:
        """Write `config.json` and `model.safetensors`.

        Args:
            folder: created if needed; a preset in it is replaced.
            dtype: of the weights in the file, "float32", or "float16" for half the bytes and a little rounding.

        Raises:
            UserError: if a weight is too large for the dtype, or the folder cannot be written.
            ValueError: if the dtype is another one.
        """
        write_arrays(folder, self.preset_fields(), arrays_of(self), dtype)

    def preset_fields(self) -> dict[str, Any]:
        """What a preset's `config.json` says of this model."""
        return {"kind": KIND, "codebooks": self.codebooks, **self.config.to_dict()}
