"""Sequential Monte Carlo: images drawn given known pixels anywhere, also behind those that are drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from igpt_tf.sampling.drawing import Drawing
from igpt_tf.sampling.filters import Controls, Key, draw_uniforms

# Particles are drawn anew when as few as this share of them would do as well (Del Moral et al., 2012, and many more).
FEWEST = 0.5
# Weights of the other particles, taken together, that cannot change anything any more.
NEGLIGIBLE = 1e-6


def draw_conditioned(
    drawing: Callable[..., Drawing],
    tokens: np.ndarray,
    known: np.ndarray,
    keys: list[Key],
    on_rows: Callable[[int], object],
    controls: Controls,
    n_particles: int,
) -> np.ndarray:
    """Tokens (B, T) with what is not known drawn given all that is; arguments as in `draw_forced`.

    Particles are completions that are drawn side by side, pixel by pixel as the controls say. A known pixel weighs
    each by its probability under the model; after a row whose effective sample size is small, the particles are drawn
    anew by their weights. One of them is returned, drawn by the last weights.

    Args:
        n_particles: completions of each image that are drawn side by side.
    """
    n_images = len(tokens)
    uniforms = draw_uniforms([(*key, particle) for key in keys for particle in range(n_particles)], tokens.shape[1])
    particles = drawing(tokens.repeat(n_particles, axis=0), known.repeat(n_particles, axis=0), uniforms, controls)
    # The random numbers of drawing anew, of every image its own.
    generators = [np.random.default_rng((*key, n_particles, 0)) for key in keys]
    first = np.arange(n_images)[:, None] * n_particles
    on_rows(particles.row)
    log_weights = np.zeros((n_images, n_particles))
    while particles.row < particles.n_rows:
        log_weights -= particles.draw_row().astype("float64").reshape(log_weights.shape)
        log_weights -= log_weights.max(axis=1, keepdims=True)
        weights = normalised(log_weights)
        on_rows(1)
        if particles.row >= particles.end:
            if (weights.max(axis=1) > 1 - NEGLIGIBLE).all():
                break
            continue
        few = 1 / np.square(weights).sum(axis=1) < FEWEST * n_particles
        if few.any():
            chosen = np.tile(np.arange(n_particles), (n_images, 1))
            for image in np.flatnonzero(few):
                chosen[image] = systematic(weights[image], generators[image].random())
            particles.select((first + chosen).reshape(-1))
            log_weights[few] = 0.0
    on_rows(particles.n_rows - particles.row)
    weights = normalised(log_weights)
    last = [
        np.searchsorted(w.cumsum(), rng.random() * w.sum(), "right") for w, rng in zip(weights, generators, strict=True)
    ]
    return particles.tokens()[first[:, 0] + np.minimum(last, n_particles - 1)]


def normalised(log_weights: np.ndarray) -> np.ndarray:
    """Weights (..., N) that sum to 1 from their logarithms up to a constant."""
    weights = np.exp(log_weights - log_weights.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def systematic(weights: np.ndarray, uniform: float) -> np.ndarray:
    """Numbers (N,) of the particles that go on: N weights drawn at even distances, so that each is within 1 of N w."""
    n_particles = len(weights)
    points = (np.arange(n_particles) + uniform) / n_particles
    return np.minimum(np.searchsorted(weights.cumsum(), points, "right"), n_particles - 1)
