"""Guidance: draw images that are more of their class than those of the model."""

from __future__ import annotations

from typing import Any

from igpt_tf.sampling.array_functions import ops_of
from igpt_tf.sampling.network import Cache, Network, Weights


class GuidedNetwork:
    """A network whose logits lean towards each image's class, as a `Network`.

    Every image is computed twice, in one batch of twice the size: as one of its class and as one of no class. With
    guidance g the logits are those of no class plus g times the difference; 1 leaves those of the class as they are.

    Args:
        network: the network that computes both.

    Source: Ho and Salimans, "Classifier-free diffusion guidance" (2022); Sanchez et al., "Stay on topic with
    classifier-free guidance" (2023), for the logits of an autoregressive model.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.grid, self.n_vocab = network.grid, network.n_vocab
        self.version, self.lay_out, self.release = network.version, network.lay_out, network.release
        self.put, self.compile, self.loop = network.put, network.compile, network.loop
        self.starts, self.score = network.starts, network.score

    def prefill(self, prefix: Any, start: Any) -> tuple[list[Cache], list[Cache]]:
        """The cache after known tokens (B, P), whose arrays are (B, 2, ...): of the class, and of none."""
        ops = ops_of(start)
        past, recent = self.network.prefill(ops.repeat(prefix, 2, axis=0), _pairs(start, ops.zeros_like(start)))
        return _split(past), _split(recent)

    def step(
        self, weights: tuple[Weights, Any], previous: Any, position: Any, past: list[Cache], recent: list[Cache]
    ) -> tuple[Any, list[Cache]]:
        """The guided logits (B, V) of a position; `weights` are the network's and the guidance."""
        ops = ops_of(previous)
        weights, guidance = weights
        of_no_class = ops.where(position > 0, previous, ops.zeros_like(previous))
        logits, recent = self.network.step(
            weights, _pairs(previous, of_no_class), position, _merge(past), _merge(recent)
        )
        pairs: Any = ops.reshape(logits, (-1, 2, logits.shape[-1]))  # (B, 2, V) of (2 B, V)
        return pairs[:, 1] + guidance * (pairs[:, 0] - pairs[:, 1]), _split(recent)

    def end_row(self, rows: int, past: list[Cache], recent: list[Cache]) -> None:
        """The network's own, of both halves."""
        both = _merge(past), _merge(recent)
        self.network.end_row(rows, *both)
        past[:], recent[:] = map(_split, both)


def _pairs(first: Any, second: Any) -> Any:
    """(2 B,) of two arrays (B,): the two of an image follow each other."""
    ops = ops_of(first)
    return ops.reshape(ops.stack([first, second], axis=1), (-1,))


def _split(cache: list[Cache]) -> list[Cache]:
    """Arrays (B, 2, ...) of arrays (2 B, ...)."""
    return [
        tuple(ops_of(array).reshape(array, (array.shape[0] // 2, 2, *array.shape[1:])) for array in layer)
        for layer in cache
    ]


def _merge(cache: list[Cache]) -> list[Cache]:
    """Arrays (2 B, ...) of arrays (B, 2, ...)."""
    return [
        tuple(ops_of(array).reshape(array, (2 * array.shape[0], *array.shape[2:])) for array in layer)
        for layer in cache
    ]
