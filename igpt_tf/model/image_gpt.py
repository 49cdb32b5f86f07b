"""Image GPT: palette tokens in, logits over the palette out."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np
from keras import ops

from igpt_tf.config import ImageGPTConfig, check_tokens, start_numbers
from igpt_tf.errors import UserError
from igpt_tf.model.initializers import InitialNormal, placeholder_weights
from igpt_tf.model.layers import Block, rms_norm
from igpt_tf.weights.folder import write_preset
from igpt_tf.weights.names import named_array, named_arrays, named_variables
from igpt_tf.weights.presets import Preset, open_preset

if TYPE_CHECKING:
    from igpt_tf.pictures.palette import Palette


class EmbeddingTable(keras.layers.Layer):
    """A row of the summary: a variable that belongs to the model itself."""

    def __init__(self, table: keras.Variable) -> None:
        super().__init__(name=table.name)
        self.table = table
        self.built = True


@keras.saving.register_keras_serializable(package="igpt_tf")
class ImageGPT(keras.Model):
    """The transformer of "Generative Pretraining from Pixels" (Chen et al., 2020); the original's `model`.

    An autoregressive model reads (B, T) integer tokens and returns (B, T, V) float32 logits, those of
    position t depend only on the tokens before t: `model.fit(tokens, tokens)` with a sparse categorical
    cross-entropy is the paper's objective. A BERT model reads {"tokens": (B, T), "mask": (B, T)}, mask 1
    where a token is seen and 0 where it is to be predicted; without a mask everything is seen. A model with several
    start embeddings reads {"tokens": (B, T), "start": (B,)}: which of them each image begins with, from 0; without
    them every image begins with the first one, which belongs to no class.

    Args:
        config: the model's shape; None: that of `ImageGPTConfig()`.
        classes: names of the classes that the start embeddings from the second on stand for; None: they have none.
        kwargs: fields of the config that differ from it, such as `n_px=16`, and Keras' `dtype` and `name`.

    Raises:
        UserError: if there are more tokens per image than n_px * n_px (fewer are the first ones of an image), or
            another number of names than `n_start` - 1.
    """

    def __init__(self, config: ImageGPTConfig | None = None, classes: Sequence[str] | None = None, **kwargs) -> None:
        names = {field.name for field in dataclasses.fields(ImageGPTConfig)}
        fields = {name: kwargs.pop(name) for name in names.intersection(kwargs)}
        config = dataclasses.replace(config or ImageGPTConfig(), **fields)
        super().__init__(**kwargs)
        self.config = config
        self._with_tables = False
        self.classes = None if classes is None else tuple(classes)
        if self.classes is not None and len(self.classes) != config.n_start - 1:
            raise UserError(f"expected the names of {config.n_start - 1} classes, got {len(self.classes)}")
        self.blocks = [
            Block(config.n_embd, config.n_head, config.n_layer, not config.bert, name=f"h{i}", dtype=self.dtype_policy)
            for i in range(config.n_layer)
        ]
        self.ln_f = rms_norm("ln_f", self.dtype_policy)
        self.build()

    def build(self, input_shape=None) -> None:
        """Create every variable, under the original's names and with its initial distributions."""
        config = self.config
        width = config.n_embd

        def embedding(name, shape, stddev):
            return self.add_weight(shape=shape, initializer=InitialNormal(stddev=stddev), name=name)

        self.wpe = embedding("wpe", (config.n_tokens, width), 0.01)
        self.wte = embedding("wte", (config.n_vocab, width), 0.02)
        starts = (width,) if config.n_start == 1 else (config.n_start, width)
        self.sos = None if config.bert else embedding("sos", starts, 0.02)
        for block in self.blocks:
            block.build((None, None, width))
        self.ln_f.build((None, None, width))
        self.wtet = self.add_weight(shape=(config.n_vocab, width), initializer="zeros", name="wtet")

    def call(self, inputs, training=None):
        """Tokens (B, T), or {"tokens"} with "mask" (BERT) or "start", to float32 logits (B, T, V)."""
        return self.logits(self.features(inputs))

    def compute_output_spec(self, inputs, training=None) -> keras.KerasTensor:
        """What `call` makes of symbolic inputs, of any length."""
        shape = (inputs["tokens"] if isinstance(inputs, dict) else inputs).shape
        self._check_shape(shape)
        return keras.KerasTensor((*shape, self.config.n_vocab), "float32")

    def features(self, inputs):
        """Tokens to the output of `ln_f`, (B, T, D): what the logits and the classifier read."""
        x = self.embed(inputs)
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x)

    def logits(self, features):
        """(B, T, D) output of `ln_f` to float32 logits (B, T, V)."""
        wtet = ops.cast(self.wtet, features.dtype)
        return ops.cast(ops.matmul(features, ops.transpose(wtet)), "float32")

    def hidden_states(self, inputs) -> list:
        """The embedding, then each block's output before any norm: a list of L + 1 arrays (B, T, D)."""
        states = [self.embed(inputs)]
        for block in self.blocks:
            states.append(block(states[-1]))
        return states

    def embed(self, inputs):
        """What the first block reads, (B, T, D): the tokens one position late behind `sos`, or masked for BERT."""
        tokens, mask, start = self._read(inputs)
        x = self._cast(ops.take(self.wte, tokens, axis=0))
        if self.config.bert:
            if mask is not None:
                x = x * ops.expand_dims(ops.cast(mask, x.dtype), -1)
        else:
            sos = self._cast(self.sos)
            if self.config.n_start > 1:
                sos = sos[0] if start is None else ops.take(sos, start, axis=0)[:, None]  # (D,) or (B, 1, D)
            sos = ops.broadcast_to(sos, (ops.shape(x)[0], 1, self.config.n_embd))
            x = ops.concatenate([sos, x[:, :-1]], axis=1)
        return x + self._cast(self.wpe)[: ops.shape(x)[1]]

    def prefill(self, inputs) -> list[tuple]:
        """Run a known prefix (B, P) in one pass and return every layer's keys and values, (B, H, P, E)."""
        x = self.embed(inputs)
        caches = []
        for block in self.blocks:
            x, cache = block.prefill(x)
            caches.append(cache)
        return caches

    @property
    def is_quantised(self) -> bool:
        """Whether `quantize` has replaced weights."""
        layers = (layer for block in self.blocks for part in (block.attn, block.mlp) for layer in vars(part).values())
        return any(getattr(layer, "quantization_mode", None) is not None for layer in layers)

    def read_weight(self, name: str) -> np.ndarray:
        """The weights of one of OpenAI's names without `model/`, float32; LoRA's are merged into them."""
        return named_array(self, name)

    def inputs_of(self, tokens: np.ndarray, start: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What the model reads of images: tokens (N, T) and, where there are several, the start embeddings (N,).

        Args:
            tokens: (N, T) integers.
            start: what `starts` returned; None: images of no class.

        Raises:
            UserError: if the tokens do not fit the model.
        """
        check_tokens(self.config, tokens)
        inputs = {"tokens": np.asarray(tokens, "int32")}
        return inputs if start is None or self.config.n_start == 1 else {**inputs, "start": start}

    def starts(self, classes: int | str | Sequence[int | str] | np.ndarray | None, n_images: int) -> np.ndarray:
        """The start embedding of each image, int32 (n_images,): that of its class.

        Args:
            classes: numbers or names of the images' classes, or one for all; None: of no class.
            n_images: N.

        Raises:
            UserError: if the model has no such class, or there is another number of them.
        """
        return start_numbers(self.config.n_start, self.classes, classes, n_images)

    def _read(self, inputs):
        """Tokens, and the mask and the start embeddings where there are any."""
        tokens, mask, start = inputs, None, None
        if isinstance(inputs, dict):
            tokens, mask, start = inputs["tokens"], inputs.get("mask"), inputs.get("start")
        if start is not None and self.config.n_start == 1:
            raise UserError("expected tokens without start, got some: the model has a single start embedding")
        if mask is not None and not self.config.bert:
            raise UserError("expected tokens without a mask, got a mask: masks are for BERT models")
        tokens = cast("Any", ops.cast(ops.convert_to_tensor(tokens), "int32"))
        self._check_shape(tokens.shape)
        return tokens, mask, start

    def _check_shape(self, shape: Sequence[int | None]) -> None:
        """Refuse tokens of more than an image."""
        if len(shape) != 2 or (shape[1] or 0) > self.config.n_tokens:
            raise UserError(
                f"expected tokens of shape (B, {self.config.n_tokens}) for images of {self.config.n_px} pixels, "
                f"got {tuple(shape)}"
            )

    def _cast(self, values):
        return ops.cast(values, self.compute_dtype)

    def summary(self, *args, **kwargs) -> None:
        """Keras' summary, with a row for each embedding, which belongs to no layer; arguments as in Keras."""
        self._with_tables = True
        try:
            super().summary(*args, **kwargs)
        finally:
            self._with_tables = False

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The blocks and the last norm; while a summary is printed, the embeddings too."""
        tables = [self.wte, self.wpe, self.sos, self.wtet] if self._with_tables else []
        return [*(EmbeddingTable(table) for table in tables if table is not None), *super().layers]

    def export(
        self, filepath: str | Path, format: str = "tf_saved_model", verbose=None, input_signature=None, **kwargs
    ):
        """Keras' export, of a model that has not been called too.

        Args:
            filepath: the folder, or the file of another format.
            format: as in Keras.
            verbose: as in Keras.
            input_signature: as in Keras; None: tokens (B, T), with a mask for BERT models.
            kwargs: as in Keras.
        """
        super().export(str(filepath), format, verbose, input_signature or self.input_signature(), **kwargs)

    def input_signature(self) -> list:
        """What `export` takes for the model's inputs."""
        shape = (None, self.config.n_tokens)
        tokens = keras.InputSpec(shape=shape, dtype="int32")
        mask = keras.InputSpec(shape=shape, dtype="float32")
        return [{"tokens": tokens, "mask": mask} if self.config.bert else tokens]

    def get_config(self) -> dict:
        """The constructor's arguments, for Keras' own `save`."""
        mode = self.blocks[0].mlp.c_fc.quantization_mode
        quantised = {} if mode is None else {"quantization": mode}
        return {**super().get_config(), "config": self.config.to_dict(), "classes": self.classes, **quantised}

    @classmethod
    def from_config(cls, config: dict) -> ImageGPT:
        """A model from what `get_config` returned."""
        fields = {**config, "config": ImageGPTConfig.from_dict(config["config"])}
        mode = fields.pop("quantization", None)
        model = cls(**fields)
        if mode is not None:
            model.quantize(mode)
        return model

    @classmethod
    def from_preset(cls, preset: str | Path | Preset, **kwargs) -> ImageGPT:
        """A model with the weights of a preset; a classifier's head is left aside.

        Args:
            preset: a name or path as `weights.presets.open_preset` takes it, or what that returned.
            kwargs: for the model: `dtype`, `name`.

        Raises:
            UserError: if there is no such preset, or it is incomplete, damaged or of another kind.
        """
        opened = open_preset(preset)
        with placeholder_weights():
            model = cls(opened.config, opened.start_classes, **kwargs)
        opened.assign(named_variables(model))
        return model

    def save_to_preset(self, folder: str | Path, palette: Palette | None = None, dtype: str = "float32") -> None:
        """Write the preset folder that `from_preset` reads; LoRA adapters are merged into the weights.

        Args:
            folder: created if needed; a preset in it is replaced, its palette too.
            palette: of `n_vocab` colours; without it the preset turns no pictures into tokens.
            dtype: of the weights in the file, "float32", or "float16" for half the bytes and a little rounding.

        Raises:
            UserError: if the palette is of another size, the model is quantised, a weight is too large for the dtype,
                or the folder cannot be written.
            ValueError: if the dtype is another one.
        """
        write_preset(folder, self.preset_fields(), named_arrays(self), palette, dtype)

    def preset_fields(self) -> dict[str, Any]:
        """What a preset's `config.json` says of this model."""
        names = {} if self.classes is None else {"start_classes": list(self.classes)}
        return {**self.config.to_dict(), **names}


def image_gpt_of(model: keras.Model) -> ImageGPT:
    """The `ImageGPT` in a classifier, or the model itself.

    A function, because Keras' `save` walks through properties and would follow one that returns its model for ever.
    """
    return cast("ImageGPT", getattr(model, "image_gpt", model))
