"""From examples to inputs, targets and weights: tokens augmented, masked and weighted, with a class or without."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from igpt_tf.data.augment import Augmentation, generators_of
from igpt_tf.data.order import Examples
from igpt_tf.data.tokens import Tokens
from igpt_tf.model.bert import draw_mask, masked_sample_weights
from igpt_tf.training.settings import TokenSettings

# Seed of the validation masks; independent of the run's seed.
VALIDATION_MASKS = 0

Inputs = np.ndarray | dict[str, np.ndarray]
Batch = tuple[Inputs, np.ndarray] | tuple[Inputs, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TokenBatch:
    """Makes the batch of some examples: their tokens (n, T), or {tokens, mask} or {tokens, start}, with targets.

    Attributes:
        tokens: of all examples.
        seed: of the augmentation.
        labels: (N,) integers that are the targets; None: the tokens are.
        augment: changes tokens (n, T) with one random generator per example; None leaves them as they are.
        mask: (number of the first example, n, T) to BERT masks (n, T); None shows every token. Targets that are tokens
            then have weights, those of `masked_sample_weights`.
        starts: picks the start embedding (n,) of each example; None: the model's first one.
    """

    tokens: Tokens
    seed: int = 0
    labels: np.ndarray | None = None
    augment: Callable[[np.ndarray, list[np.random.Generator]], np.ndarray] | None = None
    mask: Callable[[int, int, int], np.ndarray] | None = None
    starts: Callable[[Examples], np.ndarray] | None = None

    def __call__(self, examples: Examples) -> Batch:
        """Inputs, targets and, where the targets are masked tokens, weights."""
        tokens = np.asarray(self.tokens[examples.rows]).astype("int32")
        if self.augment is not None:
            generators = [
                generator
                for epoch in np.unique(examples.epochs)
                for generator in generators_of(self.seed, int(epoch), examples.rows[examples.epochs == epoch])
            ]
            tokens = np.asarray(self.augment(tokens, generators)).astype("int32")
        targets = tokens if self.labels is None else self.labels[examples.rows]
        if self.starts is not None:
            return {"tokens": tokens, "start": self.starts(examples)}, targets
        if self.mask is None:
            return tokens, targets
        mask = self.mask(examples.first, *tokens.shape)
        inputs = {"tokens": tokens, "mask": mask}
        return (inputs, targets, masked_sample_weights(mask)) if self.labels is None else (inputs, targets)


def token_batch(
    tokens: Tokens, settings: TokenSettings, n_px: int, masked: bool, labels: np.ndarray | None = None
) -> TokenBatch:
    """The preparation that the settings ask for.

    Args:
        tokens: of all examples.
        settings: with the augmentations, the seed and the probability of a mask.
        n_px: height and width of the images.
        masked: whether the inputs are masked, as a BERT model's are.
        labels: (N,) integers that are the targets; None: the tokens are.
    """
    augment = Augmentation(settings.augment, n_px) if settings.augment else None
    return TokenBatch(tokens, settings.seed, labels, augment, training_masks(settings) if masked else None)


@dataclasses.dataclass(frozen=True)
class ClassStarts:
    """The start embeddings of examples: that of their class, or, for some in every epoch, the one of no class.

    Attributes:
        labels: (N,) classes, integers from 0.
        dropout: probability that an example's class is left out.
        seed: of the choice.

    Source: Ho and Salimans, "Classifier-free diffusion guidance" (2022), algorithm 1.
    """

    labels: np.ndarray
    dropout: float
    seed: int

    def __call__(self, examples: Examples) -> np.ndarray:
        """int32 (n,): 0 for no class, c + 1 for class c."""
        # Of each example and epoch alone, whatever batch and process it is in; other numbers than its augmentation's.
        drawn = [
            np.random.default_rng([self.seed, 3, int(epoch), int(row) + 1]).random()
            for epoch, row in zip(examples.epochs, examples.rows, strict=True)
        ]
        return np.where(np.array(drawn) < self.dropout, 0, self.labels[examples.rows] + 1).astype("int32")


def training_masks(settings: TokenSettings) -> Callable[[int, int, int], np.ndarray]:
    """A function from (number of the first example in the run, n, T) to the BERT masks (n, T) of training."""
    # Not the seed itself: the order of epoch n and the mask of example n would come from the same random numbers.
    seed = int(np.random.SeedSequence([settings.seed, 2]).generate_state(1)[0])
    return lambda first, n_images, n_tokens: draw_mask(seed, first, n_images, n_tokens, settings.bert_mask_prob)


def validation_inputs(tokens: np.ndarray, settings: TokenSettings, masked: bool) -> Inputs:
    """Validation tokens (N, T) as the model's inputs, with the same masks in every run where they are masked."""
    tokens = np.asarray(tokens, "int32")
    if not masked:
        return tokens
    n_images, n_tokens = tokens.shape
    return {"tokens": tokens, "mask": draw_mask(VALIDATION_MASKS, 0, n_images, n_tokens, settings.bert_mask_prob)}
