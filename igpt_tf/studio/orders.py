"""Requests of the page as checked values: whatever JSON says, only what makes sense comes further."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from igpt_tf.errors import UserError, whole_number
from igpt_tf.sampling.controls import Controls

MOST_CANDIDATES, MOST_PARTICLES, MOST_IMAGES, MOST_SCALE = 16, 256, 64, 32
# Of a picture, a grid, or each frame of a film that the page saves.
MOST_FILE_PIXELS = 20_000_000
# Larger whole numbers are no longer exact in JavaScript.
MOST_SEED = 2**53 - 1
METHODS = ("auto", "forced", "smc")


@dataclass(frozen=True)
class Order:
    """A drawing that somebody wants.

    Attributes:
        model: name of the model.
        tokens: (T,) int32 of the picture; None: whole images are drawn.
        known: (T,) booleans of the tokens that are given.
        n: candidates.
        seed: of the candidates.
        controls: temperature, filters and guidance.
        method: "auto", "forced" or "smc".
        particles: of smc.
        class_name: name of a class or its number; None: no class.
        picture: how the command names the picture's file.
    """

    model: str
    tokens: np.ndarray | None = None
    known: np.ndarray | None = None
    n: int = 4
    seed: int = 42
    controls: Controls = field(default_factory=Controls)
    method: str = "auto"
    particles: int = 32
    class_name: int | str | None = None
    picture: str = "picture.png"


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in the body of a request.

    Raises:
        UserError: if it is none, or has numbers that are none.
    """
    try:
        fields = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected JSON, got something else ({error})") from None
    if not isinstance(fields, dict):
        raise UserError(f"expected a JSON object, got a {type(fields).__name__}")
    return fields


def _no_number(name: str) -> float:
    raise UserError(f"expected numbers, got {name}")


def order_of(fields: Mapping[str, Any], n_tokens: int, n_vocab: int) -> Order:
    """The drawing that a request asks for.

    Args:
        fields: of the JSON object.
        n_tokens: tokens of the model's images.
        n_vocab: of the model.

    Raises:
        UserError: if a value is invalid.
    """
    given = dict(fields)
    tokens, known = given.pop("tokens", None), given.pop("known", None)
    if (tokens is None) != (known is None):
        raise UserError("expected `tokens` and `known`, or neither, got one of them")
    method = given.pop("method", "auto")
    if method not in METHODS:
        raise UserError(f"expected `method` as one of {', '.join(METHODS)}, got {method!r}")
    order = Order(
        model=_text("model", given.pop("model", "")),
        tokens=None if tokens is None else token_array(tokens, n_tokens, n_vocab),
        known=None if known is None else known_array(known, n_tokens),
        n=whole("n", given.pop("n", 4), 1, MOST_CANDIDATES),
        seed=whole("seed", given.pop("seed", 42), 0, MOST_SEED),
        controls=Controls(
            temperature=_number("temperature", given.pop("temperature", 1.0)),
            top_k=_optional(given.pop("top_k", None), lambda value: whole("top_k", value, 1, n_vocab)),
            top_p=_optional(given.pop("top_p", None), lambda value: _number("top_p", value)),
            guidance=_number("guidance", given.pop("guidance", 1.0)),
        ),
        method=method,
        particles=whole("particles", given.pop("particles", 32), 1, MOST_PARTICLES),
        class_name=_optional(given.pop("class_name", None), _class),
        picture=_text("picture", given.pop("picture", "picture.png")),
    )
    if given:
        raise UserError(f"expected nothing more, got {', '.join(map(repr, sorted(given)))}")
    return order


def token_array(tokens: Any, n_tokens: int, n_vocab: int) -> np.ndarray:
    """The tokens (T,) int32 of one image.

    Args:
        tokens: a list of whole numbers.
        n_tokens: how many there must be, T.
        n_vocab: the model's vocabulary.

    Raises:
        UserError: if they are not T whole numbers from 0 to n_vocab - 1.
    """
    if not isinstance(tokens, list) or len(tokens) != n_tokens:
        got = len(tokens) if isinstance(tokens, list) else repr(tokens)[:50]
        raise UserError(f"expected `tokens` as a list of {n_tokens} numbers, got {got}")
    for token in tokens:
        if type(token) is not int or not 0 <= token < n_vocab:
            raise UserError(f"expected `tokens` from 0 to {n_vocab - 1}, got {token!r}"[:200])
    return np.array(tokens, np.int32)


def known_array(known: Any, n_tokens: int) -> np.ndarray:
    """Which tokens are given, booleans (T,), of a list of 0 and 1.

    Args:
        known: the list.
        n_tokens: how many there must be, T.

    Raises:
        UserError: if it is no such list.
    """
    if not isinstance(known, list) or len(known) != n_tokens or not all(type(x) in (int, bool) for x in known):
        got = f"{len(known)} values" if isinstance(known, list) else repr(known)[:50]
        raise UserError(f"expected a mask, `known`, as a list of {n_tokens} times 0 or 1, got {got}")
    if not set(known) <= {0, 1}:
        raise UserError("expected a mask, `known`, of 0 and 1, got other numbers")
    return np.array(known, bool)


def image_arrays(images: Any, n_tokens: int, n_vocab: int) -> np.ndarray:
    """The tokens (N, T) int32 of several images.

    Args:
        images: a list of lists of whole numbers.
        n_tokens: of each image, T.
        n_vocab: the model's vocabulary.

    Raises:
        UserError: if they are no such lists.
    """
    if not isinstance(images, list) or not 1 <= len(images) <= MOST_IMAGES:
        got = len(images) if isinstance(images, list) else repr(images)[:50]
        raise UserError(f"expected 1 to {MOST_IMAGES} `images`, got {got}")
    return np.stack([token_array(tokens, n_tokens, n_vocab) for tokens in images])


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number in a range.

    Args:
        name: for the message.
        value: what was given.
        least: the smallest allowed.
        most: the largest allowed.

    Raises:
        UserError: if it is none.
    """
    number = whole_number(name, value, least)
    if number > most:
        raise UserError(f"expected `{name}` of at most {most}, got {number}"[:200])
    return number


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or abs(value) > 1e9:
        raise UserError(f"expected `{name}` as a number, got {value!r}"[:200])
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise UserError(f"expected `{name}` as a text, got {value!r}"[:200])
    return value


def _optional(value: Any, check: Any) -> Any:
    return None if value is None else check(value)


def _class(value: Any) -> int | str:
    if type(value) not in (int, str):
        raise UserError(f"expected `class_name` as a name or a number, got {value!r}"[:200])
    return value
