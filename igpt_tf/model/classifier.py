"""Image GPT with a linear head on the mean of its last features."""

# Keras' inferred types allow None where it never returns it.
# pyright: reportOperatorIssue=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from igpt_tf.errors import UserError
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.model.objectives import autoregressive_loss, masked_loss
from igpt_tf.weights.folder import write_preset
from igpt_tf.weights.names import HEAD, float_array, named_arrays
from igpt_tf.weights.presets import Preset, open_preset

if TYPE_CHECKING:
    from igpt_tf.pictures.palette import Palette


class ClassifierHead(keras.layers.Layer):
    """Mean over positions, then a zero-initialised linear map without bias; the original's scope `clf`."""

    def __init__(self, n_class: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.n_class = n_class

    def build(self, input_shape) -> None:
        """Create `wclf` (n_class, n_embd)."""
        self.wclf = self.add_weight(shape=(self.n_class, input_shape[-1]), initializer="zeros", name="wclf")

    def call(self, features):
        """(B, T, D) to float32 logits (B, n_class)."""
        pooled = ops.mean(ops.cast(features, "float32"), axis=1)
        return ops.matmul(pooled, ops.transpose(ops.cast(self.wclf, "float32")))

    def quantize(self, *args, **kwargs) -> None:
        """Nothing, without Keras' warning: the head stays as it is."""


@keras.saving.register_keras_serializable(package="igpt_tf")
class ImageGPTClassifier(keras.Model):
    """Class logits (B, C) from tokens (B, T); paper, section 2.2 (fine-tuning).

    Plain Keras: compile with a sparse categorical cross-entropy on logits and `fit(tokens, labels)`. While
    it trains, the generative loss of the same tokens is added, as the paper found best.

    Args:
        image_gpt: the model whose features are classified; it is trained too.
        n_class: number of classes C, at least 2.
        generative_weight: weight of the generative loss in nats per token; 0 leaves it out. BERT models have one
            where their inputs come with a mask, in nats per masked token, and none where all tokens are seen.
        classes: names of the classes, kept in presets; None: they have none.

    Raises:
        UserError: for fewer than two classes, or another number of names.
    """

    def __init__(
        self,
        image_gpt: ImageGPT,
        n_class: int,
        generative_weight: float = 1.0,
        classes: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        if n_class < 2:
            raise UserError(f"expected at least 2 classes, got n_class={n_class}")
        if classes is not None and len(classes) != n_class:
            raise UserError(f"expected the names of {n_class} classes, got {len(classes)}")
        super().__init__(**kwargs)
        self.image_gpt = image_gpt
        self.n_class = n_class
        self.generative_weight = generative_weight
        self.classes = None if classes is None else tuple(classes)
        self.clf = ClassifierHead(n_class, name="clf", dtype=self.dtype_policy)
        self.build()

    def build(self, input_shape=None) -> None:
        """Create the head; the rest is there already."""
        self.clf.build((None, None, self.image_gpt.config.n_embd))

    def call(self, inputs, training=False):
        """Tokens (B, T), or {"tokens", "mask"} for BERT, to float32 class logits (B, C)."""
        features = self.image_gpt.features(inputs)
        if training and self.generative_weight:
            tokens, mask = (inputs["tokens"], inputs.get("mask")) if isinstance(inputs, dict) else (inputs, None)
            if mask is not None or not self.image_gpt.config.bert:
                logits = self.image_gpt.logits(features)
                loss = autoregressive_loss(tokens, logits) if mask is None else masked_loss(tokens, logits, mask)
                self.add_loss(self.generative_weight * loss)
        return self.clf(features)

    def compute_output_spec(self, inputs, training=None) -> keras.KerasTensor:
        """What `call` makes of symbolic inputs, of any length."""
        logits = self.image_gpt.compute_output_spec(inputs)
        return keras.KerasTensor((logits.shape[0], self.n_class), "float32")

    def outputs(self, inputs) -> tuple:
        """The logits of both kinds from one pass: of the tokens (B, T, V) and of the classes (B, C)."""
        features = self.image_gpt.features(inputs)
        return self.image_gpt.logits(features), self.clf(features)

    def export(
        self, filepath: str | Path, format: str = "tf_saved_model", verbose=None, input_signature=None, **kwargs
    ):
        """Keras' export; arguments as in `ImageGPT.export`."""
        input_signature = input_signature or self.image_gpt.input_signature()
        super().export(str(filepath), format, verbose, input_signature, **kwargs)

    def get_config(self) -> dict:
        """The constructor's arguments, for Keras' own `save`."""
        return {
            **super().get_config(),
            "image_gpt": keras.saving.serialize_keras_object(self.image_gpt),
            "n_class": self.n_class,
            "generative_weight": self.generative_weight,
            "classes": self.classes,
        }

    @classmethod
    def from_config(cls, config: dict) -> ImageGPTClassifier:
        """A classifier from `get_config`'s arguments."""
        return cls(**{**config, "image_gpt": keras.saving.deserialize_keras_object(config["image_gpt"])})

    @classmethod
    def from_preset(cls, preset: str | Path | Preset, n_class: int | None = None, **kwargs) -> ImageGPTClassifier:
        """A classifier with a preset's weights.

        Args:
            preset: a name or path as `weights.presets.open_preset` takes it, or what that returned.
            n_class: number of classes; a preset without a trained head of this many classes, or with other class
                names than `classes`, gets a new, zero-initialised head. None: the number of the preset's head.
            kwargs: for the classifier: `generative_weight`, `classes`, `dtype`, `name`.

        Raises:
            UserError: as `open_preset`, and if the preset has no trained head and `n_class` is not given.
        """
        opened = open_preset(preset)
        n_class = opened.n_class if n_class is None else n_class
        if n_class is None:
            raise UserError(f"{opened.source} has no trained classification head: give n_class to begin a new one")
        if kwargs.get("classes") is None:
            kwargs["classes"] = opened.classes if n_class == opened.n_class else None
        wanted = kwargs["classes"] and tuple(kwargs["classes"])
        classifier = cls(ImageGPT.from_preset(opened, dtype=kwargs.get("dtype")), n_class, **kwargs)
        if n_class == opened.n_class and opened.classes in (None, wanted):
            opened.assign({HEAD: classifier.clf.wclf})
        return classifier

    def save_to_preset(self, folder: str | Path, palette: Palette | None = None, dtype: str = "float32") -> None:
        """Write a preset folder with the head in it; arguments and errors as in `ImageGPT.save_to_preset`."""
        arrays = {**named_arrays(self.image_gpt), HEAD: float_array(HEAD, self.clf.wclf)}
        write_preset(folder, self.preset_fields(), arrays, palette, dtype)

    def preset_fields(self) -> dict[str, Any]:
        """What a preset's `config.json` says of this model."""
        names = {} if self.classes is None else {"classes": list(self.classes)}
        return {**self.image_gpt.preset_fields(), "n_class": self.n_class, **names}
