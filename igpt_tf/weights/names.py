"""One table of OpenAI's variables, our Keras variables and Hugging Face's tensors: names, paths and shapes."""

# Keras declares too few types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError, listed

if TYPE_CHECKING:
    import keras

Shape = tuple[int, ...]

# Left the name in OpenAI's graph without its scope `model/`; then the path in our model, the shape in letters, and the
# tensor of Hugging Face's that holds it. T tokens, V vocabulary, D width, H heads, E head size, F four times the width,
# S start embeddings. OpenAI's arrays and ours are the same.
_MODEL = {
    "wpe": ("wpe", "TD", "transformer.wpe.weight"),
    "wte": ("wte", "VD", "transformer.wte.weight"),
    "sos": ("sos", "D", "transformer.wte.weight"),
    "wtet": ("wtet", "VD", "lm_head.weight"),
    "ln_f/g": ("ln_f/scale", "D", "transformer.ln_f.weight"),
}
_BLOCK = {
    "ln_1/g": ("ln_1/scale", "D", "ln_1.weight"),
    "attn/q_proj": ("attn/q_proj/kernel", "HED", "attn.c_attn.weight"),
    "attn/k_proj": ("attn/k_proj/kernel", "HED", "attn.c_attn.weight"),
    "attn/v_proj": ("attn/v_proj/kernel", "HED", "attn.c_attn.weight"),
    "attn/c_proj": ("attn/c_proj/kernel", "HED", "attn.c_proj.weight"),
    "ln_2/g": ("ln_2/scale", "D", "ln_2.weight"),
    "mlp/c_fc/w": ("mlp/c_fc/kernel", "DF", "mlp.c_fc.weight"),
    "mlp/c_proj/w": ("mlp/c_proj/kernel", "FD", "mlp.c_proj.weight"),
}

# The classifier's head, (n_class, D), has the same name on both sides and belongs to no `ImageGPT`.
HEAD = "clf/wclf"
HF_HEAD = "score.weight"


def is_weight(name: str) -> bool:
    """Whether OpenAI's name (without `model/`) is that of a weight of some Image GPT, with a head or without."""
    block = re.fullmatch(r"h[0-9]{1,6}/(.+)", name)
    return name in _MODEL or name == HEAD or (block is not None and block[1] in _BLOCK)


def name_table(config: ImageGPTConfig) -> dict[str, tuple[str, str]]:
    """OpenAI's name (without `model/`) to the path within our model and the shape's letters, for every variable."""
    table = {theirs: row[:2] for theirs, row in _MODEL.items() if not (config.bert and theirs == "sos")}
    if config.n_start > 1:
        table["sos"] = ("sos", "SD")
    for i in range(config.n_layer):
        table |= {f"h{i}/{theirs}": (f"h{i}/{path}", letters) for theirs, (path, letters, _) in _BLOCK.items()}
    return table


def huggingface_table(config: ImageGPTConfig, head: bool) -> dict[str, list[str]]:
    """The tensors of Hugging Face's weights to OpenAI's names (without `model/`) of the arrays in them, in order."""
    table: dict[str, list[str]] = {}
    rows = [(name, row[2]) for name, row in _MODEL.items()]
    rows += [
        (f"h{i}/{name}", f"transformer.h.{i}.{row[2]}") for i in range(config.n_layer) for name, row in _BLOCK.items()
    ]
    for name, tensor in rows + ([(HEAD, HF_HEAD)] if head else []):
        table.setdefault(tensor, []).append(name)
    return table


def shape_table(config: ImageGPTConfig) -> dict[str, Shape]:
    """OpenAI's name (without `model/`) to the shape, for every variable of a model of this config."""
    sizes = {
        "T": config.n_tokens,
        "V": config.n_vocab,
        "D": config.n_embd,
        "H": config.n_head,
        "E": config.head_size,
        "F": 4 * config.n_embd,
        "S": config.n_start,
    }
    return {name: tuple(sizes[letter] for letter in letters) for name, (_, letters) in name_table(config).items()}


def named_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's variables under OpenAI's names (without `model/`)."""
    # A path begins with the name of the model, to which Keras may have added a number.
    by_path = {variable.path.split(f"{model.name}/", 1)[-1]: variable for variable in model.variables}
    return {theirs: by_path[path] for theirs, (path, _) in name_table(model.config).items()}


def named_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """The values of `named_variables` as float32 arrays; what LoRA has learned is merged into its kernels.

    Raises:
        UserError: if the model is quantised, for the original weights are lost then.
    """
    return {name: named_array(model, name) for name in name_table(model.config)}


def named_array(model: keras.Model, name: str) -> np.ndarray:
    """One of `named_arrays`."""
    # By attribute: a layer's `kernel` has its LoRA update in it, the variable of that name has not.
    *layers, attribute = name_table(model.config)[name][0].split("/")
    owner = functools.reduce(getattr, layers[1:], model.get_layer(layers[0])) if layers else model
    return float_array(name, getattr(owner, attribute))


def float_array(name: str, values: Any) -> np.ndarray:
    """A variable's values as a float32 array; a `UserError` names it where they are quantised."""
    # Shapes are checked before Keras is loaded, which takes seconds.
    import keras

    array = cast("np.ndarray", keras.ops.convert_to_numpy(values))
    if np.issubdtype(array.dtype, np.integer):
        raise UserError(f"expected float weights, got {array.dtype} in {name}: save the model before quantising it")
    return np.ascontiguousarray(array, "float32")


def infer_config(shapes: Mapping[str, Shape]) -> ImageGPTConfig:
    """The shape of a model from those of its variables under OpenAI's names (without `model/`).

    Raises:
        UserError: if the variables that tell it are missing or contradict each other.
    """
    layers = {int(name[1:].partition("/")[0]) for name in shapes if is_weight(name) and re.match("h[0-9]", name)}
    try:
        n_tokens, n_embd = shapes["wpe"]
        n_vocab, _ = shapes["wtet"]
        n_head, _, _ = shapes["h0/attn/q_proj"]
    except (KeyError, ValueError) as error:
        raise UserError(
            "expected the variables of an Image GPT (wpe, wtet and h0/attn/q_proj tell its shape), "
            f"got {describe(shapes) or 'none'}"
        ) from error
    n_px = math.isqrt(n_tokens)
    if n_px**2 != n_tokens:
        raise UserError(f"expected a square number of positions in wpe, got {n_tokens}")
    if len(layers) <= max(layers):
        lost = next(i for i in range(max(layers)) if i not in layers)
        raise UserError(f"expected blocks h0 to h{max(layers)}, got none named h{lost}")
    sos = shapes.get("sos")
    n_start = sos[0] if sos is not None and len(sos) == 2 else 1
    return ImageGPTConfig(n_px, n_vocab, n_embd, n_head, len(layers), bert=sos is None, n_start=n_start)


def check_shapes(shapes: Mapping[str, Shape], config: ImageGPTConfig) -> str:
    """Hold the arrays at hand against a model of this config, with or without a classifier's head.

    Returns:
        What is left over and belongs to no Image GPT, such as a learning rate, in words; "" for nothing.

    Raises:
        UserError: if a weight is missing or has another shape, listing what is missing and what is left over.
    """
    wanted = shape_table(config)
    head = shapes.get(HEAD)
    if head is not None:
        # Any number of classes that makes sense; the head belongs to no model without one.
        wanted[HEAD] = (max(2, head[0]) if head else 2, config.n_embd)
    missing = {name: shape for name, shape in wanted.items() if shapes.get(name) != shape}
    extra = {name: shape for name, shape in shapes.items() if wanted.get(name) != shape}
    if extra and not missing and not any(map(is_weight, extra)):
        return describe(extra)
    if missing or extra:
        raise UserError(
            f"expected the weights of an Image GPT of n_px {config.n_px}, n_vocab {config.n_vocab}, n_embd "
            f"{config.n_embd}, n_head {config.n_head}, n_layer {config.n_layer}, got others: missing "
            f"{describe(missing) or 'nothing'}; left over {describe(extra) or 'nothing'}"
        )
    return ""


def describe(shapes: Mapping[str, Shape]) -> str:
    """Names with shapes for a message."""
    return listed((f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in sorted(shapes.items())), most=8)
