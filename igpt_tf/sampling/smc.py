"""Sequential Monte Carlo: images drawn given known pixels anywhere, also after those that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from igpt_tf.sampling.drawing import Drawing, Image, Step

# Particles are resampled when the effective sample size falls below this share of them (Del Moral et al., 2012).
FEWEST = 0.5
# When all weights but the largest sum to less, no known pixel can change the result any more.
NEGLIGIBLE = 1e-6


def draw_conditioned(
    start: Callable[[Sequence[Image]], Drawing], images: Sequence[Image], n_particles: int
) -> Iterator[Step]:
    """Draw unknown tokens given all known ones; `start` makes the `Drawing`.

    Particles are completions of an image that are drawn side by side, pixel by pixel under the controls. Each known
    pixel multiplies a particle's weight by the pixel's probability under the model; after a row whose effective sample
    size is small, particles are resampled by weight. The result is one of them, drawn by the last weights. Until then
    a step shows the particle of the largest weight, and no row below the first unknown pixel is final.
    """
    n_images = len(images)
    particles = start([image._replace(key=(*image.key, i)) for image in images for i in range(n_particles)])
    # What resampling draws, for every image its own.
    generators = [np.random.default_rng((*image.key, n_particles, 0)) for image in images]
    first = np.arange(n_images) * n_particles
    first_row, n_rows = particles.row, particles.n_rows
    log_weights = np.zeros((n_images, n_particles))

    def likeliest() -> np.ndarray:
        return particles.tokens()[first + log_weights.argmax(axis=1)]

    while particles.row < n_rows:
        yield Step(particles.row, first_row, likeliest)
        log_weights -= particles.draw_row().astype("float64").reshape(log_weights.shape)
        log_weights -= log_weights.max(axis=1, keepdims=True)
        weights = normalised(log_weights)
        if particles.row >= particles.end:
            if (weights.max(axis=1) > 1 - NEGLIGIBLE).all():
                break
            continue
        few = 1 / np.square(weights).sum(axis=1) < FEWEST * n_particles
        if few.any():
            chosen = np.tile(np.arange(n_particles), (n_images, 1))
            for image in np.flatnonzero(few):
                chosen[image] = systematic(weights[image], generators[image].random())
            particles.select((first[:, None] + chosen).reshape(-1))
            log_weights[few] = 0.0
    weights = normalised(log_weights)
    last = [
        np.searchsorted(w.cumsum(), rng.random() * w.sum(), "right") for w, rng in zip(weights, generators, strict=True)
    ]
    drawn = particles.tokens()[first + np.minimum(last, n_particles - 1)]
    yield Step(n_rows, n_rows, lambda: drawn)


def normalised(log_weights: np.ndarray) -> np.ndarray:
    """Weights (..., N) that sum to 1 from their logarithms up to a constant."""
    weights = np.exp(log_weights - log_weights.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def systematic(weights: np.ndarray, uniform: float) -> np.ndarray:
    """Numbers (N,) of the particles to keep, by systematic resampling of weights (N,) from one uniform number.

    Particle i is kept N * weights[i] times, rounded up or down.
    """
    n_particles = len(weights)
    points = (np.arange(n_particles) + uniform) / n_particles
    return np.minimum(np.searchsorted(weights.cumsum(), points, "right"), n_particles - 1)
