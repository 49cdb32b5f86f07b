"""What a codebook is worth: errors, how many units are used, whether neighbours resemble each other; and pruning."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.codebook import CHUNK, Codebook
from igpt_tf.latent.maps import MapStore
from igpt_tf.latent.nearest_units import nearest_units, two_nearest_units
from igpt_tf.latent.patches import cut
from igpt_tf.latent.quality import psnr
from igpt_tf.latent.reconstruct import decode_maps, encode_images


@dataclasses.dataclass(frozen=True)
class CodebookReport:
    """How well a codebook stands for maps.

    Attributes:
        quantisation_error: mean Euclidean distance of a patch from its unit.
        explained: share of the patches' variance that their units have, at most 1.
        used: share of the units that stand for at least one patch.
        perplexity: the number of units that, used equally often, would tell as much: e to the entropy of the codes.
        topographic_error: share of the patches whose two nearest units are not next to each other on the grid.
    """

    quantisation_error: float
    explained: float
    used: float
    perplexity: float
    topographic_error: float


def report_codebook(codebook: Codebook, maps: MapStore | np.ndarray) -> CodebookReport:
    """Measure a codebook on maps.

    Args:
        codebook: any.
        maps: (N, h, w, C), N at least 1, or a store.

    Raises:
        UserError: if the maps are another autoencoder's, or do not fit.
    """
    if isinstance(maps, MapStore):
        codebook.require_maps(maps)
    counts = np.zeros(len(codebook), np.int64)
    distance = error = torn = 0.0
    total, squares = np.zeros(codebook.units.shape[1]), 0.0
    for start in range(0, len(maps), CHUNK):
        part = np.asarray(maps[start : start + CHUNK], np.float32)
        codes = codebook.encode(part).reshape(-1)
        vectors = cut(part, codebook.patch_H, codebook.patch_W).reshape(len(codes), -1)
        counts += np.bincount(codes, minlength=len(codebook))
        errors = np.square(vectors - codebook.units[codes]).sum(1, dtype=float)
        distance += np.sqrt(errors).sum()
        error += errors.sum()
        total += vectors.sum(0, dtype=float)
        squares += np.square(vectors).sum(dtype=float)
        if len(codebook) > 1:
            first, second = codebook.positions[two_nearest_units(vectors, codebook.units)].transpose(1, 0, 2)
            torn += (np.abs(first - second).max(1) > 1).sum()
    n_vectors = counts.sum()
    shares = counts[counts > 0] / n_vectors
    variance = squares - np.square(total).sum() / n_vectors
    return CodebookReport(
        quantisation_error=float(distance / n_vectors),
        explained=float(1 - error / variance) if variance else 1.0,
        used=float((counts > 0).mean()),
        perplexity=float(np.exp(-(shares * np.log(shares)).sum())),
        topographic_error=float(torn / n_vectors),
    )


def reconstruct_with(codebook: Codebook, autoencoder: Autoencoder, images: np.ndarray) -> np.ndarray:
    """Images through the autoencoder and the codebook, uint8 (N, H, W, 3).

    Args:
        codebook: of the autoencoder's maps.
        autoencoder: encodes and decodes.
        images: uint8 (N, H, W, 3).

    Raises:
        UserError: if the codebook is another autoencoder's, or the images do not fit.
    """
    codebook.require_autoencoder(autoencoder)
    maps = encode_images(autoencoder, images)
    return decode_maps(autoencoder, codebook.decode(codebook.encode(maps), *maps.shape[1:3]))


def codebook_psnr(codebook: Codebook, autoencoder: Autoencoder, images: np.ndarray) -> float:
    """The mean PSNR, in decibels, of images that are reconstructed as in `reconstruct_with`.

    Args:
        codebook: of the autoencoder's maps.
        autoencoder: encodes and decodes.
        images: uint8 (N, H, W, 3).
    """
    return float(psnr(images, reconstruct_with(codebook, autoencoder, images)).mean())


def count_codes(codebook: Codebook, codes: Iterable[np.ndarray] | np.ndarray) -> np.ndarray:
    """How often each unit occurs in codes, (K,): arrays of any shape, one or several."""
    parts = [codes] if isinstance(codes, np.ndarray) else codes
    counts = [np.bincount(np.asarray(part).reshape(-1), minlength=len(codebook)) for part in parts]
    found = np.sum(counts, axis=0)
    if len(found) > len(codebook):
        raise UserError(f"expected codes from 0 to {len(codebook) - 1}, got {len(found) - 1}")
    return found


def prune(codebook: Codebook, codes: np.ndarray, prune_threshold: int) -> tuple[Codebook, np.ndarray]:
    """A codebook without the units that are used fewer than `prune_threshold` times, renumbered.

    Its digest differs, so that what was trained on the old codes does not fit it.

    Args:
        codebook: with an encoding by the nearest unit.
        codes: of any shape, those of many maps.
        prune_threshold: uses from which a unit stays.

    Returns:
        The new codebook, and (K,) int32 the new code of each old one: of a unit that was dropped, that of the nearest
        one that is left.

    Raises:
        UserError: if no unit would be left, or the codebook is one of finite scalar quantisation.
    """
    if codebook.scalar is not None:
        raise UserError("expected a codebook of som, k-means or vq, got fsq, whose codes are a grid of levels")
    kept = np.flatnonzero(count_codes(codebook, codes) >= prune_threshold)
    if not len(kept):
        raise UserError(f"expected a threshold that leaves units, got {prune_threshold}", "prune_threshold")
    units = codebook.units[kept]
    about = {**codebook.about, "pruned": {"threshold": int(prune_threshold), "units": len(codebook)}}
    smaller = dataclasses.replace(codebook, units=units, positions=codebook.positions[kept], about=about)
    mapping = nearest_units(codebook.units, units)
    # Of two equal units, each that is left keeps its own number.
    mapping[kept] = np.arange(len(kept))
    return smaller, mapping
