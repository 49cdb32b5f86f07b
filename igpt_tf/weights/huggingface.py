"""Hugging Face's folders: `config.json`, `model.safetensors` or `pytorch_model.bin`, `preprocessor_config.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError, listed, naming
from igpt_tf.pictures.palette import Palette
from igpt_tf.storage.files import atomic_write
from igpt_tf.storage.tensors import write_tensors
from igpt_tf.weights.arrays import CONFIG_FILE, WEIGHTS_FILE, read_fields
from igpt_tf.weights.huggingface_files import open_tensors
from igpt_tf.weights.names import HEAD, HF_HEAD, Shape, huggingface_table, shape_table

PALETTE_FILES = ("preprocessor_config.json", "processor_config.json")
# What their config may say, and the one value that is Image GPT's; it is also what it means where it says nothing.
_ONLY: dict[str, Any] = {
    "model_type": "imagegpt",
    "activation_function": "quick_gelu",
    "layer_norm_epsilon": 1e-5,
    "add_cross_attention": False,
    "tie_word_embeddings": False,
}
_BIASES = ("attn.c_attn.bias", "attn.c_proj.bias", "mlp.c_fc.bias", "mlp.c_proj.bias")

Reader = Callable[[str], np.ndarray]


class HuggingFaceFolder:
    """The arrays of an `ImageGPTModel`, with or without a head, under OpenAI's names without `model/`.

    Args:
        folder: what `save_pretrained` wrote, or a copy of the hub's files.

    Attributes:
        config: the model's shape.
        n_class: classes of the head, None where there is none.
        classes: their names, None where they have none.
        has_logits: whether the output matrix is there; without it, it is read as zeros.

    Raises:
        UserError: if a file is missing or damaged, or says something that Image GPT is not.
    """

    def __init__(self, folder: Path) -> None:
        fields = read_fields(folder / CONFIG_FILE, "the model's shape")
        with naming(folder / CONFIG_FILE):
            self.config = _config(fields)
        self._found = open_tensors(folder)
        self.has_logits = "lm_head.weight" in self._found
        self.n_class = self._found[HF_HEAD][0][0] if HF_HEAD in self._found else None
        self.classes = _classes(fields, self.n_class)
        self._table = huggingface_table(self.config, self.n_class is not None)
        self._tensors = {name: tensor for tensor, names in self._table.items() for name in names}
        self._last: tuple[str, np.ndarray] | None = None
        # What the scores are multiplied by, beside 1 / sqrt(head size), can as well be said by the queries.
        self._scale = 1.0 if fields.get("scale_attn_weights", True) else self.config.head_size**0.5
        self._by_layer = bool(fields.get("scale_attn_by_inverse_layer_idx"))
        with naming(folder):
            self._check()

    def read(self, name: str) -> np.ndarray:
        """The array of an OpenAI name."""
        tensor = self._tensors[name]
        if name == "wtet" and not self.has_logits:
            return np.zeros(shape_table(self.config)[name], "float32")
        # Several arrays lie in one tensor, and are read one after the other.
        if self._last is None or self._last[0] != tensor:
            self._last = tensor, self._found[tensor][1]()
        array = _part(name, self._last[1], self.config)
        scale = (
            self._scale / (1 + int(name[1:].partition("/")[0]) if self._by_layer else 1) if "q_proj" in name else 1.0
        )
        return array if scale == 1.0 else array * np.float32(scale)

    def _check(self) -> None:
        """Hold the tensors against the config, and biases, which OpenAI's graph lacks, against zero."""
        shapes = {name: shape for name, (shape, _) in self._found.items()}
        biases = {name: shape for name, shape in _bias_shapes(self.config).items() if name in shapes}
        wanted = {tensor: _tensor_shape(names, self.config, self.n_class) for tensor, names in self._table.items()}
        if not self.has_logits:
            del wanted["lm_head.weight"]
        wanted |= biases
        for name, shape in wanted.items():
            if shapes.get(name) != shape:
                raise UserError(
                    f"expected {name} {shape} as {CONFIG_FILE} says, got {shapes.get(name, 'none')}: copy both files "
                    "again from the same model"
                )
        if strange := sorted(shapes.keys() - wanted):
            raise UserError(f"expected the weights of an Image GPT alone, got {listed(strange)} too")
        for name in biases:
            if np.any(self._found[name][1]()):
                raise UserError(f"expected biases of zero, as Image GPT has none, got others in {name}")


def is_huggingface(path: Path) -> bool:
    """Whether a path is a folder whose `config.json` has the form of Hugging Face's."""
    try:
        fields = json.loads((path / CONFIG_FILE).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and ("model_type" in fields or "architectures" in fields)


def read_palette(path: Path) -> Palette | None:
    """The palette in a processor's file, grey if its colours are; None if there is none in it."""
    fields = read_fields(path, "an image processor")
    clusters = cast("dict[str, Any]", fields.get("image_processor", fields)).get("clusters")
    if clusters is None:
        return None
    try:
        colors = np.array(clusters, "float32")
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: expected clusters as a list of colours, got something else ({error})") from error
    with naming(path):
        is_grey = colors.ndim == 2 and (colors == colors[:, :1]).all()
        return Palette(colors[:, :1] if is_grey else colors)


def write_huggingface(
    folder: Path,
    config: ImageGPTConfig,
    read: Reader,
    palette: Palette | None,
    n_class: int | None = None,
    classes: tuple[str, ...] | None = None,
) -> None:
    """Write a folder that `transformers` loads, each file whole or not at all.

    Args:
        folder: created if needed.
        config: the model's shape, with one start embedding.
        read: OpenAI's name without `model/` to the array.
        palette: for the processor; None: none is written.
        n_class: number of classes of the head; None: there is none.
        classes: their names; None: they have none.

    Raises:
        UserError: for a BERT model, which the format cannot hold, or if the folder cannot be written.
    """
    if config.bert:
        raise UserError(
            "expected an autoregressive model, got a BERT model: Hugging Face's Image GPT has a causal mask"
        )
    table = huggingface_table(config, n_class is not None)
    tensors = [
        (name, "float32", _tensor_shape(names, config, n_class), partial(_joined, names, read))
        for name, names in table.items()
    ]
    tensors += [
        (name, "float32", shape, partial(np.zeros, shape, "f4")) for name, shape in _bias_shapes(config).items()
    ]
    fields: dict[str, Any] = {
        "architectures": ["ImageGPTForImageClassification" if n_class else "ImageGPTForCausalImageModeling"],
        **_ONLY,
        "vocab_size": config.n_vocab + 1,
        "n_positions": config.n_tokens,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": None,
        "bos_token_id": config.n_vocab,
        "dtype": "float32",
    }
    if n_class is not None:
        names = classes or tuple(f"LABEL_{i}" for i in range(n_class))
        fields["id2label"] = dict(enumerate(names))
        fields["label2id"] = {name: i for i, name in enumerate(names)}
    write_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"})
    _write_json(folder / CONFIG_FILE, fields)
    if palette is not None:
        processor = {
            "image_processor_type": "ImageGPTImageProcessor",
            "clusters": np.broadcast_to(palette.colors, (len(palette), 3)).tolist(),
            "do_color_quantize": True,
            "do_normalize": True,
            "do_resize": True,
            "resample": 2,
            "size": {"height": config.n_px, "width": config.n_px},
        }
        _write_json(folder / PALETTE_FILES[0], processor)


def _config(fields: Mapping[str, Any]) -> ImageGPTConfig:
    for name, value in _ONLY.items():
        if (found := fields.get(name, value)) != value:
            raise UserError(f"expected {name} {json.dumps(value)}, as Image GPT has it, got {json.dumps(found)}")
    names = ("n_positions", "vocab_size", "n_embd", "n_head", "n_layer")
    # Those of a size that its file leaves out.
    defaults = {"n_positions": 1024, "vocab_size": 513, "n_embd": 512, "n_head": 8, "n_layer": 24}
    sizes = {name: fields.get(name, defaults[name]) for name in names}
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise UserError(f"expected {name} as a positive integer, got {value!r}")
    n_px = math.isqrt(sizes["n_positions"])
    if n_px**2 != sizes["n_positions"]:
        raise UserError(f"expected a square number of n_positions, got {sizes['n_positions']}")
    config = ImageGPTConfig(n_px, sizes["vocab_size"] - 1, sizes["n_embd"], sizes["n_head"], sizes["n_layer"])
    if fields.get("n_inner") not in (None, 4 * config.n_embd):
        raise UserError(f"expected n_inner null or {4 * config.n_embd}, four times n_embd, got {fields['n_inner']}")
    return config


def _classes(fields: Mapping[str, Any], n_class: int | None) -> tuple[str, ...] | None:
    """The names of the classes; None where they are only numbered."""
    labels = cast("dict[str, object]", fields.get("id2label") or {})
    if n_class is None or set(labels) != {str(i) for i in range(n_class)}:
        return None
    names = tuple(str(labels[str(i)]) for i in range(n_class))
    return None if names == tuple(f"LABEL_{i}" for i in range(n_class)) else names


def _tensor_shape(names: list[str], config: ImageGPTConfig, n_class: int | None) -> Shape:
    width = config.n_embd
    if names == [HEAD]:
        return (n_class or 0, width)
    if names == ["wte", "sos"]:
        return (config.n_vocab + 1, width)
    return (width, width * len(names)) if "/attn/" in names[0] else shape_table(config)[names[0]]


def _bias_shapes(config: ImageGPTConfig) -> dict[str, Shape]:
    widths = dict(zip(_BIASES, (3, 1, 4, 1), strict=True))
    blocks = range(config.n_layer)
    return {f"transformer.h.{i}.{name}": (n * config.n_embd,) for i in blocks for name, n in widths.items()}


def _part(name: str, tensor: np.ndarray, config: ImageGPTConfig) -> np.ndarray:
    """OpenAI's array in a tensor."""
    kind = name.rpartition("/")[2]
    if name in ("wte", "sos"):
        return tensor[-1] if name == "sos" else tensor[:-1]  # the start of a sequence is one more colour
    heads = (config.n_head, config.head_size, config.n_embd)
    if kind in ("q_proj", "k_proj", "v_proj"):
        i = "qkv".index(kind[0])
        return tensor[:, i * config.n_embd : (i + 1) * config.n_embd].T.reshape(heads)  # (D, H E) to (H, E, D)
    return tensor.reshape(heads) if kind == "c_proj" else tensor  # (H E, D) to (H, E, D)


def _joined(names: list[str], read: Reader) -> np.ndarray:
    """The tensor of OpenAI's arrays."""
    arrays = [read(name) for name in names]
    if names == ["wte", "sos"]:
        return np.concatenate([arrays[0], arrays[1][None]])
    if "/attn/" in names[0]:
        width = arrays[0].shape[-1]
        flat = [array.reshape(width, width) for array in arrays]  # (H, E, D) to (H E, D)
        return flat[0] if len(flat) == 1 else np.concatenate([one.T for one in flat], axis=1)
    return arrays[0]


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(fields, indent=2) + "\n").encode())
