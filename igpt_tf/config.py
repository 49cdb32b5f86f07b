"""The shape of a model, and the sizes that have names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from igpt_tf.errors import UserError

# Added to the mean square in every norm.
NORM_EPSILON = 1e-5
# Queries are computed in groups of this many, each against the keys up to its own end, so that most of the upper
# triangle of the attention matrix is never computed.
QUERY_CHUNK = 256
# Rows of tokens that are read at once to check them.
CHECKED_ROWS = 4096


@dataclasses.dataclass(frozen=True)
class ImageGPTConfig:
    """Hyperparameters of an Image GPT; `src/model.py:default_hparams` in the original.

    Attributes:
        n_px: height and width of the images, in pixels.
        n_vocab: number of colours in the palette.
        n_embd: width of the residual stream.
        n_head: attention heads; divides `n_embd`.
        n_layer: transformer blocks.
        bert: whether the model sees every unmasked token (BERT objective) rather than only those before.
        n_start: start embeddings, `sos`; the first is that of any image, the others are those of classes 0, 1, ...
            OpenAI's models have one.

    Raises:
        UserError: if a number is not positive, `n_head` does not divide `n_embd`, or a BERT model, which has no start
            embedding, is to have several.
    """

    n_px: int = 32
    n_vocab: int = 512
    n_embd: int = 512
    n_head: int = 8
    n_layer: int = 24
    bert: bool = False
    n_start: int = 1

    def __post_init__(self) -> None:
        """Refuse numbers that no model can have."""
        for name in ("n_px", "n_vocab", "n_embd", "n_head", "n_layer", "n_start"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"expected {name} as a positive integer, got {value!r}")
        # Fields may come from a JSON file, which nothing has checked yet.
        if not isinstance(self.bert, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UserError(f"expected bert as true or false, got {self.bert!r}")
        if self.n_embd % self.n_head:
            raise UserError(f"expected n_head to divide n_embd, got n_head={self.n_head} and n_embd={self.n_embd}")
        if self.bert and self.n_start > 1:
            raise UserError(f"expected n_start 1 for a BERT model, which has no start embedding, got {self.n_start}")

    @property
    def n_tokens(self) -> int:
        """Tokens an image: n_px squared."""
        return self.n_px**2

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def block_names(self) -> list[str]:
        """Names of the layers that can be rematerialised."""
        return [f"h{i}" for i in range(self.n_layer)]

    def to_dict(self) -> dict[str, int | bool]:
        """The fields as plain numbers, ready for JSON; without `n_start` for a model like OpenAI's."""
        fields = dataclasses.asdict(self)
        return fields if self.n_start > 1 else {name: fields[name] for name in fields if name != "n_start"}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ImageGPTConfig:
        """A config from `to_dict`'s fields; a field that is not known is a `UserError`."""
        known = {field.name for field in dataclasses.fields(cls)}
        if set(fields) - known:
            raise UserError(f"expected the fields {sorted(known)}, got {sorted(set(fields) - known)} too")
        return cls(**fields)


# Appendix of the paper, Table 1: layers and widths. It gives no head counts: those of S, M and L are the
# ones of the released checkpoints; XL's is our choice, heads of 128 as in M.
SIZES: dict[str, ImageGPTConfig] = {
    "s": ImageGPTConfig(n_layer=24, n_embd=512, n_head=8),
    "m": ImageGPTConfig(n_layer=36, n_embd=1024, n_head=8),
    "l": ImageGPTConfig(n_layer=48, n_embd=1536, n_head=16),
    "xl": ImageGPTConfig(n_layer=60, n_embd=3072, n_head=24),
    "nano": ImageGPTConfig(n_layer=4, n_embd=128, n_head=4),
}


def start_numbers(n_start: int, names: Sequence[str] | None, classes: Any, n_images: int) -> np.ndarray:
    """The number of the start embedding of each image, int32 (n_images,): that of its class.

    Args:
        n_start: start embeddings; the first is that of no class.
        names: of the classes; None: they have none.
        classes: numbers or names of the images' classes, or one for all; None: of no class.
        n_images: N.

    Raises:
        UserError: if there is no such class, or another number of them than images.
    """
    if classes is None:
        return np.zeros(n_images, "int32")
    listed = [classes] if isinstance(classes, str) or np.ndim(classes) == 0 else list(classes)
    if not listed or len(listed) not in (1, n_images):
        raise UserError(f"expected one class, or one for each of {n_images} images, got {len(listed)}", "classes")
    numbers = [1 + _class_number(one, n_start - 1, names or ()) for one in listed]
    return np.resize(np.array(numbers, "int32"), n_images)


def _class_number(one: Any, n_class: int, names: Sequence[str]) -> int:
    """A class's number from its name or number; a `UserError` if there is no such class."""
    if isinstance(one, str) and one in names:
        return names.index(one)
    if not isinstance(one, str) and 0 <= int(one) < n_class:
        return int(one)
    known = ", ".join(names) or f"a number from 0 to {n_class - 1}"
    expected = f"one of {known}" if n_class else "no class: the model was trained without them"
    raise UserError(f"expected {expected}, got {one!r}", "classes")


def check_tokens(config: ImageGPTConfig, tokens: Any) -> None:
    """`check_rows` for the images of a model of this config."""
    check_rows(tokens, config.n_px, config.n_vocab)


def check_rows(tokens: Any, n_px: int, n_vocab: int | None) -> None:
    """Check that tokens are (N, n_px * n_px) integers from 0 to n_vocab - 1, N at least 1.

    Args:
        tokens: an array, or rows that lie on disk, of which a part at a time is read.
        n_px: height and width of the images.
        n_vocab: number of colours; None: unknown.

    Raises:
        UserError: if they are something else.
    """
    shape = np.shape(tokens)
    if len(shape) != 2 or shape[1] != n_px**2 or not shape[0]:
        hint = f": resize the pictures to {n_px} x {n_px} first" if len(shape) == 2 and shape[0] else ""
        raise UserError(f"expected tokens of shape (N, {n_px**2}) for images of {n_px} pixels, got {shape}{hint}")
    check_values(tokens, n_vocab)


def check_values(tokens: Any, n_vocab: int | None, source: str = "palette") -> None:
    """Check that tokens are integers from 0 to n_vocab - 1.

    Args:
        tokens: an array, or rows that lie on disk, of which a part at a time is read; at least one.
        n_vocab: number of tokens; None: unknown.
        source: for the message: what tokens are made with.

    Raises:
        UserError: if they are something else.
    """
    for start in range(0, len(tokens), CHECKED_ROWS):
        part = np.asarray(tokens[start : start + CHECKED_ROWS])
        if part.dtype.kind not in "iu":
            raise UserError(f"expected integer tokens, got {part.dtype}")
        low, high = int(part.min()), int(part.max())
        if low < 0 or (n_vocab is not None and high >= n_vocab):
            raise UserError(
                f"expected tokens from 0 to {n_vocab - 1 if n_vocab else 'n_vocab - 1'}, "
                f"got {low if low < 0 else high}: were they made with another {source}?"
            )
