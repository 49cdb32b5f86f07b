"""Likelihoods of whole images, and what they tell about images that the model was not trained on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Protocol

import imageio.v3 as imageio
import numpy as np

from igpt_tf.data.tokens import Tokens
from igpt_tf.errors import UserError
from igpt_tf.pictures.palette import Palette
from igpt_tf.progress import BATCHES_A_CHUNK, ProgressBar

if TYPE_CHECKING:
    from igpt_tf.model.classifier import ImageGPTClassifier
    from igpt_tf.model.image_gpt import ImageGPT

NATS_PER_BIT = float(np.log(2))


class Scorer(Protocol):
    """What gives images a likelihood, such as a `Network`, which needs no Keras."""

    def score(self, tokens: np.ndarray, start: np.ndarray | None, batch_size: int) -> np.ndarray:
        """Nats (B, T) of each token of images (B, T); None: of no class."""
        ...


def stream_nats(
    model: ImageGPT | ImageGPTClassifier | Scorer, tokens: Tokens, batch_size: int = 8, progress: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the tokens (n, T) of the next images, and the nats (n, T) of each token.

    Args:
        model: an autoregressive model, a classifier, whose `image_gpt` is used, or a `Scorer`.
        tokens: (N, T) integers, in memory or on disk.
        batch_size: images per batch, over all devices.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if the model is a BERT model, which gives images no likelihood, or the tokens do not fit it.
    """
    nats_of, chunk = _scoring(model, batch_size, len(tokens))
    with ProgressBar(total=len(tokens), unit="image", first="compiling", desc="scoring", shown=progress) as bar:
        for start in range(0, len(tokens), chunk):
            part = np.asarray(tokens[start : start + chunk], "int32")
            yield part, nats_of(part)
            bar.update(len(part))


def _scoring(
    model: ImageGPT | ImageGPTClassifier | Scorer, batch_size: int, n_images: int
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """What computes nats (B, T) of tokens (B, T), and how many images it is given at once."""
    if not hasattr(model, "variables"):
        return partial(model.score, start=None, batch_size=batch_size), batch_size
    from igpt_tf.model.image_gpt import image_gpt_of
    from igpt_tf.scoring.evaluation import nats_of
    from igpt_tf.scoring.predict import whole_batch

    image_gpt = image_gpt_of(model)
    if image_gpt.config.bert:
        raise UserError("expected an autoregressive model, got a BERT model, which gives images no likelihood")
    batch_size = whole_batch(model, batch_size, n_images)
    return partial(nats_of, image_gpt, batch_size=batch_size), BATCHES_A_CHUNK * batch_size


def png_bits(images: np.ndarray) -> np.ndarray:
    """The bits of each image as a PNG, a lossless file: (N, height, width, channels) uint8 to (N,)."""
    sizes: list[int] = []
    for image in images:
        file = io.BytesIO()
        imageio.imwrite(file, image.squeeze(-1) if image.shape[-1] == 1 else image, extension=".png")
        sizes.append(8 * len(file.getvalue()))
    return np.array(sizes)


def image_scores(
    model: ImageGPT | ImageGPTClassifier | Scorer,
    tokens: Tokens,
    palette: Palette,
    batch_size: int = 8,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Two scores of each image in bits, high for images unlike those that the model was trained on.

    Args:
        model: as in `stream_nats`.
        tokens: as in `stream_nats`.
        palette: of the images.
        batch_size: as in `stream_nats`.
        progress: as in `stream_nats`.

    Returns:
        -log2 p (N,), and the same minus the bits of the image's PNG, (N,): a model gives simple images a high
        likelihood whatever they show. Source: Serrà et al., "Input complexity and out-of-distribution detection", 2020.
    """
    bits: list[np.ndarray] = []
    files: list[np.ndarray] = []
    for part, nats in stream_nats(model, tokens, batch_size, progress):
        bits.append(nats.astype(np.float64).sum(axis=1) / NATS_PER_BIT)
        files.append(png_bits(palette.dequantize(part)))
    likelihood = np.concatenate(bits)
    return likelihood, likelihood - np.concatenate(files)


def roc_area(inside: np.ndarray, outside: np.ndarray) -> float:
    """The area under the ROC curve of a score (N,), (M,) that should be higher outside: 1 tells all apart, 0.5 none."""
    from sklearn.metrics import roc_auc_score

    labels = np.repeat([0, 1], [len(inside), len(outside)])
    return float(roc_auc_score(labels, np.concatenate([inside, outside])))
