"""The stages of a cascade: which models fit which codebooks, the first code, and the codes around a hole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.latent.codebook import Codebook
from igpt_tf.latent.refiner import Refiner
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.sampling.controls import Controls

# Positions of the map around a hole that are drawn too, because the encoder saw the hole from there.
MARGIN = 1
Grid = tuple[int, int]


def check_models(codebooks: Sequence[Codebook], models: Sequence[Any], grids: Sequence[Grid]) -> None:
    """Refuse a model that does not draw the codes of its stage given those of the stage before.

    Args:
        codebooks: of the stages, from coarse to fine.
        models: of the stages from 1 on.
        grids: rows and columns of codes of the stages.

    Raises:
        UserError: if there is one.
    """
    for stage, model in enumerate(models, 1):
        kind, name = (ImageGPT, "an Image GPT") if stage == 1 else (Refiner, "a refiner")
        if not isinstance(model, kind):
            raise UserError(f"expected {name} as the model of stage {stage}, got one of {type(model).__name__}")
        pair = codebooks[stage - 1 : stage + 1]
        config: Any = model.config
        if stage == 1:
            found = (1, 1), config.n_start - 1, (config.n_px, config.n_px), config.n_vocab
        else:
            coarse = config.coarse_height, config.coarse_width
            found = coarse, config.coarse_vocab, (config.height, config.width), config.n_vocab
            if model.codebooks not in (None, tuple(codebook.digest() for codebook in pair)):
                raise UserError(
                    f"expected a model of stage {stage} that was trained on the codes of these codebooks, got one of "
                    "others: train it again"
                )
        expected = grids[stage - 1], len(pair[0]), grids[stage], len(pair[1])
        if found != expected:
            raise UserError(f"expected a model of stage {stage} of {_described(*expected)}, got {_described(*found)}")


def _described(before: tuple[int, int], n_before: int, grid: tuple[int, int], n_codes: int) -> str:
    return f"{grid[0]} x {grid[1]} of {n_codes} codes given {before[0]} x {before[1]} of {n_before}"


def draw_first(counts: np.ndarray, controls: Controls, seed: int, numbers: Sequence[int]) -> np.ndarray:
    """Codes of whole maps, int32 (n, 1), drawn from their frequencies.

    Args:
        counts: (K,) how often each occurs.
        controls: of which the temperature counts.
        seed: determines with each number its code.
        numbers: of the images.
    """
    with np.errstate(divide="ignore"):
        logits = np.log(counts / counts.sum())
    if controls.temperature == 0 or controls.beam_width:
        return np.full((len(numbers), 1), logits.argmax(), np.int32)
    weights = np.exp((logits - logits.max()) / controls.temperature)
    edges = weights.cumsum() / weights.sum()
    draws = [np.random.default_rng([seed, 0, number]).random() for number in numbers]
    return np.minimum(np.searchsorted(edges, draws, side="right"), len(edges) - 1).astype(np.int32)[:, None]


def fill_mean(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Images (N, height, width, 3) uint8 with the mean of their known pixels in place of unknown ones.

    Args:
        images: of which unknown pixels do not matter.
        known: booleans (N, height, width).

    Raises:
        UserError: if nothing is known of an image.
    """
    if not known.any(axis=(1, 2)).all():
        raise UserError("expected some known pixels in every image, got none: draw new images instead")
    filled = images.copy()
    for image, there in zip(filled, known, strict=True):
        image[~there] = np.round(image[there].mean(axis=0)).astype(np.uint8)
    return filled


def known_codes(known: np.ndarray, map_size: Grid, grid: Grid) -> np.ndarray:
    """Which codes (N, T) are given, as their patches lie more than `MARGIN` positions away from unknown pixels.

    Args:
        known: booleans (N, height, width).
        map_size: height and width of the maps.
        grid: rows and columns of codes.
    """
    (n, pixel_rows, pixel_columns), (height, width), (rows, columns) = known.shape, map_size, grid
    cells = known.reshape(n, height, pixel_rows // height, width, pixel_columns // width)
    unknown = np.pad(~cells.all(axis=(2, 4)), ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))  # (N, h + 2, w + 2)
    near = np.lib.stride_tricks.sliding_window_view(unknown, (2 * MARGIN + 1, 2 * MARGIN + 1), (1, 2)).any(axis=(3, 4))
    return ~near.reshape(n, rows, height // rows, columns, width // columns).any(axis=(2, 4)).reshape(n, -1)
