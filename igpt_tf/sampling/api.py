"""The public functions: one call each of the sampler that is kept with the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np

from igpt_tf.backend.replica import kept_with
from igpt_tf.errors import UserError, whole_number
from igpt_tf.model.image_gpt import image_gpt_of
from igpt_tf.sampling.controls import Controls
from igpt_tf.sampling.sampler import Classes, Sampler


def sampler_of(model: keras.Model) -> Sampler:
    """The sampler that is kept with a model."""
    return kept_with(model, "_igpt_sampler", lambda: Sampler(model))


def sample(
    model: keras.Model,
    n: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    classes: Classes = None,
    guidance: float = 1.0,
    beam_width: int | None = None,
    seed: int | Sequence[int] = 0,
    batch_size: int = 8,
    best_of: int = 1,
    progress: bool = False,
) -> np.ndarray:
    """Draw n images from an autoregressive model: tokens (n, T) int32.

    Args:
        model: an `ImageGPT`, a classifier, whose `image_gpt` draws, or a `Refiner`.
        n: number of images.
        temperature: divides the logits; 0 always takes the likeliest colour.
        top_k: draw from the k likeliest colours; None: from all.
        top_p: draw from the smallest set of colours with at least this probability; None: from all.
        min_p: draw from the colours at least this many times as likely as the likeliest; None: from all.
        classes: the class of each image, by number or name, or one for all; None: of no class; for a refiner, the
            coarser codes (S,) of each image, or of all.
        guidance: how much images are of their class: 1 as the model learnt it, more at the cost of variety.
        beam_width: search for the likeliest image, keeping this many beginnings after every token; None: draw.
        seed: image i of a seed is the same whatever n, the batch size and the devices; in a sequence of seeds, one
            per image, each image is image 0 of its seed.
        batch_size: images per batch, over all devices.
        best_of: candidates per image, of which the likeliest under the model is kept.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if the model is a BERT model or a number is invalid.
    """
    controls = Controls(temperature, top_k, top_p, min_p, guidance, beam_width)
    return sampler_of(model).sample(
        n, controls, classes=classes, seed=seed, batch_size=batch_size, best_of=best_of, progress=progress
    )


def complete(
    model: keras.Model,
    tokens: np.ndarray,
    known: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    classes: Classes = None,
    guidance: float = 1.0,
    beam_width: int | None = None,
    seed: int | Sequence[int] = 0,
    batch_size: int = 8,
    method: str = "auto",
    n_particles: int = 32,
    best_of: int = 1,
    progress: bool = False,
) -> np.ndarray:
    """Fill in the unknown tokens of each image: tokens (B, T) int32, known ones unchanged.

    "forced" draws pixels in raster order, each given all pixels before it: an exact sample from the model's conditional
    distribution if every known pixel precedes every unknown one; later ones have no influence. "smc", sequential Monte
    Carlo, draws `n_particles` such images side by side, weighs them by the model's own probabilities of the known
    pixels, resamples them on the way, and returns one: with many particles a sample from that distribution too.
    "auto" is forced where the known pixels come first, and smc elsewhere. If only the likeliest colour can be drawn
    (temperature 0, top_k 1 or min_p 1), every method is forced, with one candidate. With `beam_width` nothing is drawn:
    the result is the likeliest image, known pixels included, that a beam search finds.

    Args:
        model: an `ImageGPT`, a classifier, whose `image_gpt` draws, or a `Refiner`.
        tokens: (B, T) integers; values of unknown tokens do not matter.
        known: booleans (B, T), or (T,) for all images.
        temperature: divides the logits; 0 always takes the likeliest colour.
        top_k: draw from the k likeliest colours; None: from all.
        top_p: draw from the smallest set of colours with at least this probability; None: from all.
        min_p: draw from the colours at least this many times as likely as the likeliest; None: from all.
        classes: the class of each image, by number or name, or one for all; None: of no class; for a refiner, the
            coarser codes (S,) of each image, or of all.
        guidance: how much images are of their class: 1 as the model learnt it, more at the cost of variety.
        beam_width: search for the likeliest image, keeping this many beginnings after every token; None: draw.
        seed: row i is image i of the seed, or image 0 of seed i of a sequence.
        batch_size: images or particles per batch, over all devices; smc draws all particles of an image together.
        method: "auto", "forced" or "smc".
        n_particles: particles of smc per image; fewer need less memory.
        best_of: candidates per image, of which the likeliest under the model is kept.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if the model is a BERT model, shapes do not fit or a number is invalid.
    """
    return sampler_of(model).complete(
        tokens,
        known,
        Controls(temperature, top_k, top_p, min_p, guidance, beam_width),
        classes=classes,
        seed=seed,
        batch_size=batch_size,
        method=method,
        n_particles=n_particles,
        best_of=best_of,
        progress=progress,
    )


def sample_batches(
    model: keras.Model,
    numbers: Iterable[int],
    *,
    controls: Controls | None = None,
    classes: Classes = None,
    seed: int = 0,
    batch_size: int = 8,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw the images with these numbers, and yield each batch when it is finished.

    Args:
        model: an `ImageGPT`, a classifier, whose `image_gpt` draws, or a `Refiner`.
        numbers: numbers of images under the seed, perhaps infinitely many.
        controls: temperature, filters, guidance or beams; None: the model's own distribution.
        classes: the classes that images have in turn, by number or name, or one for all; None: of no class.
        seed: image i of a seed is that of `sample`.
        batch_size: images per batch, over all devices.

    Yields:
        The numbers (b,) and tokens (b, T) int32 of a batch; batches come in any order.

    Raises:
        UserError: if the model is a BERT model or a number is invalid.
    """
    return sampler_of(model).sample_batches(
        numbers, controls or Controls(), classes=classes, seed=seed, batch_size=batch_size
    )


def stream(
    model: keras.Model,
    tokens: np.ndarray | None = None,
    known: np.ndarray | None = None,
    *,
    n: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    classes: Classes = None,
    guidance: float = 1.0,
    beam_width: int | None = None,
    seed: int | Sequence[int] = 0,
    method: str = "auto",
    n_particles: int = 32,
) -> Iterator[tuple[int, np.ndarray]]:
    """Complete or draw images, all at once on the first device, and yield them after each row.

    Args:
        model: an `ImageGPT`, a classifier, whose `image_gpt` draws, or a `Refiner`.
        tokens: (B, T) integers; values of unknown tokens do not matter; None: whole images are drawn.
        known: booleans (B, T), or (T,) for all images.
        n: number of whole images to draw, those of `sample`, in place of `tokens` and `known`.
        temperature: divides the logits; 0 always takes the likeliest colour.
        top_k: draw from the k likeliest colours; None: from all.
        top_p: draw from the smallest set of colours with at least this probability; None: from all.
        min_p: draw from the colours at least this many times as likely as the likeliest; None: from all.
        classes: the class of each image, by number or name, or one for all; None: of no class; for a refiner, the
            coarser codes (S,) of each image, or of all.
        guidance: how much images are of their class: 1 as the model learnt it, more at the cost of variety.
        beam_width: search for the likeliest image, keeping this many beginnings after every token; None: draw.
        seed: row i is image i of the seed, or image 0 of seed i of a sequence.
        method: "auto", "forced" or "smc", as `complete` explains them.
        n_particles: particles of smc per image, all drawn at once.

    Yields:
        The number of rows that are final, and tokens (B, T) int32, in which pixels that are not drawn yet are 0. The
        rows below are provisional: those of smc's likeliest particle, which may change until the last row is drawn.

    Raises:
        UserError: at the first step, if the model is a BERT model, shapes do not fit or a number is invalid.
    """
    if n is not None:
        if tokens is not None or known is not None:
            raise UserError("expected `n`, or `tokens` and `known`, got both", "n")
        n_tokens = image_gpt_of(model).config.n_tokens
        tokens = np.zeros((whole_number("n", n, 1), n_tokens), "int32")
        known = np.zeros(n_tokens, bool)
    if tokens is None or known is None:
        raise UserError("expected `tokens` and `known`, or `n` for whole images, got less")
    controls = Controls(temperature, top_k, top_p, min_p, guidance, beam_width)
    yield from sampler_of(model).stream(
        tokens, known, controls, classes=classes, seed=seed, method=method, n_particles=n_particles
    )
