"""The folder of a cascade: a preset of each part, and `cascade.json`, which says how they belong together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.codebook import Codebook
from igpt_tf.latent.refiner import KIND, Refiner
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.storage.places import named_folder
from igpt_tf.storage.records import write_record
from igpt_tf.weights.arrays import CASCADE_FILE, CONFIG_FILE, read_fields

AUTOENCODER, CODEBOOK, MODEL = "autoencoder", "codebook-{}", "model-{}"
Models = list[ImageGPT | Refiner]


def write_parts(
    folder: Path,
    autoencoder: Autoencoder,
    codebooks: Sequence[Codebook],
    models: Sequence[ImageGPT | Refiner],
    counts: np.ndarray,
    size: tuple[int, int],
    dtype: str,
) -> None:
    """Write the parts of a cascade, as `Cascade` describes them.

    Args:
        folder: created if needed.
        autoencoder: of the cascade.
        codebooks: from coarse to fine.
        models: of the stages from 1 on.
        counts: (K,) how often each first code occurs.
        size: height and width of the images.
        dtype: of the weights in the files.

    Raises:
        UserError: if the folder cannot be written.
    """
    # Without it the folder is no cascade: it goes first and comes last.
    (folder / CASCADE_FILE).unlink(missing_ok=True)
    autoencoder.save_to_preset(folder / AUTOENCODER, dtype)
    for stage, codebook in enumerate(codebooks):
        codebook.save(folder / CODEBOOK.format(stage), dtype)
    for stage, model in enumerate(models, 1):
        model.save_to_preset(folder / MODEL.format(stage), dtype=dtype)
    digests = [codebook.digest() for codebook in codebooks]
    fields = {
        "format": 1,
        "n_stages": len(codebooks),
        "height": size[0],
        "width": size[1],
        "counts": counts.tolist(),
        "models": [list(pair) for pair in itertools.pairwise(digests)],
    }
    write_record(folder / CASCADE_FILE, fields)


def read_parts(folder: Path) -> tuple[Autoencoder, list[Codebook], Models, np.ndarray, int, int]:
    """What `write_parts` wrote: the attributes of a `Cascade`.

    Args:
        folder: the folder, or its name where models are kept.

    Raises:
        UserError: if something is missing, damaged, or of another cascade.
    """
    folder = named_folder(folder, CASCADE_FILE) or folder
    path = folder / CASCADE_FILE
    fields = read_fields(path, "a cascade's stages")
    try:
        n_stages, height, width = (int(fields[name]) for name in ("n_stages", "height", "width"))
        counts, trained_on = np.array(fields["counts"], np.int64), [tuple(pair) for pair in fields["models"]]
        if len(trained_on) != n_stages - 1:
            raise ValueError(f"{len(trained_on)} models of {n_stages} stages")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected a cascade's stages, got others ({error}): copy it again") from error
    codebooks = [Codebook.load(folder / CODEBOOK.format(stage)) for stage in range(n_stages)]
    pairs = itertools.pairwise(codebook.digest() for codebook in codebooks)
    models: Models = []
    for stage, (pair, found) in enumerate(zip(pairs, trained_on, strict=True), 1):
        place = folder / MODEL.format(stage)
        if pair != found:
            raise UserError(
                f"{place}: expected a model of these codebooks, got one that was trained on the codes of others: "
                "train it again, or copy its own codebooks"
            )
        models.append(load_model(place))
    return Autoencoder.from_preset(folder / AUTOENCODER), codebooks, models, counts, height, width


def load_model(folder: Path) -> ImageGPT | Refiner:
    """The refiner, or the Image GPT, of a folder."""
    fields = read_fields(folder / CONFIG_FILE, "a model's shape")
    return Refiner.from_preset(folder) if fields.get("kind") == KIND else ImageGPT.from_preset(folder)
