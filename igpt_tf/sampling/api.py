"""The public functions: one-line calls of the sampler that is kept with each model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np

from igpt_tf.backend.replica import kept_with
from igpt_tf.sampling.filters import Controls
from igpt_tf.sampling.sampler import Sampler


def sampler_of(model: keras.Model) -> Sampler:
    """The sampler that the public functions use for a model; kept as long as the model lives."""
    return kept_with(model, "_igpt_sampler", lambda: Sampler(model))


def sample(
    model: keras.Model,
    n: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | Sequence[int] = 0,
    batch_size: int = 8,
    progress: bool = False,
) -> np.ndarray:
    """Draw n images from an autoregressive model: tokens (n, T) int32.

    Args:
        model: an `ImageGPT`; a classifier stands for the model in it.
        n: number of images.
        temperature: divides the logits: below 1 favours likely colours, 0 always takes the likeliest.
        top_k: draw from the k likeliest colours alone; None draws from all.
        top_p: draw from the smallest set of colours with at least this probability; None draws from all.
        min_p: draw from colours at least this many times as likely as the likeliest; None draws from all.
        seed: image i of a seed draws the same random numbers whatever the batch size, n and the devices. A sequence
            has a seed for each image, which is then image 0 of its seed.
        batch_size: images per batch, over all devices.
        progress: show a progress bar on standard error, by rows.

    Raises:
        UserError: if the model is a BERT model or a number is invalid.
    """
    controls = Controls(temperature, top_k, top_p, min_p)
    return sampler_of(model).sample(n, controls, seed=seed, batch_size=batch_size, progress=progress)


def complete(
    model: keras.Model,
    tokens: np.ndarray,
    known: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | Sequence[int] = 0,
    batch_size: int = 8,
    method: str = "auto",
    n_particles: int = 32,
    best_of: int = 1,
    progress: bool = False,
) -> np.ndarray:
    """Fill in the unknown tokens of each image: tokens (B, T) int32, known ones unchanged.

    "forced" draws pixels in raster order, each given all pixels before it, and puts known ones in their places. If
    every known pixel precedes every unknown one, the result is an exact sample from the model's conditional
    distribution; known pixels that come later do not influence those before them. "smc", sequential Monte Carlo, draws
    `n_particles` such images side by side, weighs them by the probability of the known pixels, resamples them on the
    way, and returns one: with many particles a sample from the model's conditional distribution, at the cost of as
    many images. "auto" is forced where the known pixels come first, and smc elsewhere. If only the likeliest colour
    can be drawn (temperature 0, top_k 1 or min_p 1), all particles and candidates would be equal: then every method
    is forced, with one candidate.

    Args:
        model: an `ImageGPT`; a classifier stands for the model in it.
        tokens: (B, T) integers; values of unknown tokens do not matter.
        known: booleans (B, T), or (T,) for all images.
        temperature: divides the logits: below 1 favours likely colours, 0 always takes the likeliest. Weights of smc
            are the model's own probabilities at any temperature.
        top_k: draw from the k likeliest colours alone; None draws from all.
        top_p: draw from the smallest set of colours with at least this probability; None draws from all.
        min_p: draw from colours at least this many times as likely as the likeliest; None draws from all.
        seed: row i is image i of the seed, or image 0 of seed i of a sequence.
        batch_size: images per batch, over all devices; particles are images. Those of an image are drawn together, so
            that smc draws at least `n_particles` at a time on each device.
        method: "auto", "forced" or "smc".
        n_particles: particles of smc for each image; fewer need less memory.
        best_of: draw this many candidates of each image and keep the likeliest under the model.
        progress: show a progress bar on standard error, by rows.

    Raises:
        UserError: if the model is a BERT model, shapes do not fit or a number is invalid.
    """
    return sampler_of(model).complete(
        tokens,
        known,
        Controls(temperature, top_k, top_p, min_p),
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
    seed: int = 0,
    batch_size: int = 8,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw the images with these numbers, however many, and yield each batch when it is finished.

    Args:
        model: an `ImageGPT`; a classifier stands for the model in it.
        numbers: numbers of images under the seed, perhaps infinitely many.
        controls: temperature and filters; None leaves the model's distribution as it is.
        seed: decides the random numbers; image i is that of `sample`.
        batch_size: images per batch, over all devices.

    Yields:
        (b,) integers, the numbers of a batch, and its tokens (b, T) int32. Batches come in any order.

    Raises:
        UserError: if the model is a BERT model or a number is invalid.
    """
    return sampler_of(model).sample_batches(numbers, controls or Controls(), seed=seed, batch_size=batch_size)


def stream(
    model: keras.Model,
    tokens: np.ndarray,
    known: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | Sequence[int] = 0,
    method: str = "auto",
    n_particles: int = 32,
) -> Iterator[tuple[int, np.ndarray]]:
    """Complete images, all at once on the first device, and show them while they are drawn.

    Args:
        model: an `ImageGPT`; a classifier stands for the model in it.
        tokens: (B, T) integers; values of unknown tokens do not matter.
        known: booleans (B, T), or (T,) for all images.
        temperature: divides the logits: below 1 favours likely colours, 0 always takes the likeliest.
        top_k: draw from the k likeliest colours alone; None draws from all.
        top_p: draw from the smallest set of colours with at least this probability; None draws from all.
        min_p: draw from colours at least this many times as likely as the likeliest; None draws from all.
        seed: row i is image i of the seed, or image 0 of seed i of a sequence.
        method: "auto", "forced" or "smc", as `complete` explains them.
        n_particles: particles of smc for each image, all drawn at once.

    Yields:
        How many rows of pixels are final, first those that are known in all images, and tokens (B, T) int32. Rows
        below are provisional: smc shows its likeliest particle so far, which another may replace until the last row,
        when all rows become final; pixels that are neither known nor drawn yet are 0.

    Raises:
        UserError: if the model is a BERT model, shapes do not fit or a number is invalid, when the first rows are
            asked for.
    """
    controls = Controls(temperature, top_k, top_p, min_p)
    yield from sampler_of(model).stream(tokens, known, controls, seed=seed, method=method, n_particles=n_particles)
