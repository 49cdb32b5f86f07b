"""Likelihoods of whole images, and what they tell about images that the model was not trained on."""

from __future__ import annotations

import io
from collections.abc import Iterator

import imageio.v3 as imageio
import numpy as np
from sklearn.metrics import roc_auc_score

from igpt_tf.data.tokens import Tokens
from igpt_tf.errors import UserError
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.pictures.palette import Palette
from igpt_tf.progress import ProgressBar
from igpt_tf.scoring.evaluation import nats_of
from igpt_tf.scoring.predict import BATCHES_A_CHUNK, whole_batch

NATS_PER_BIT = float(np.log(2))


def stream_nats(
    model: ImageGPT | ImageGPTClassifier, tokens: Tokens, batch_size: int = 8, progress: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the tokens (n, T) of the next images, and the nats (n, T) of each token.

    Args:
        model: an autoregressive model, or a classifier, whose `image_gpt` is used.
        tokens: (N, T) integers, in memory or on disk.
        batch_size: images per batch, over all devices.
        progress: show a progress bar on standard error.

    Raises:
        UserError: if the model is a BERT model, which gives images no likelihood, or the tokens do not fit it.
    """
    if image_gpt_of(model).config.bert:
        raise UserError("expected an autoregressive model, got a BERT model, which gives images no likelihood")
    batch_size = whole_batch(model, batch_size, len(tokens))
    chunk = BATCHES_A_CHUNK * batch_size
    with ProgressBar(total=len(tokens), unit="image", first="compiling", desc="scoring", shown=progress) as bar:
        for start in range(0, len(tokens), chunk):
            part = np.asarray(tokens[start : start + chunk], "int32")
            yield part, nats_of(image_gpt_of(model), part, batch_size=batch_size)
            bar.update(len(part))


def png_bits(images: np.ndarray) -> np.ndarray:
    """The bits of each image as a PNG, a lossless file: (N, height, width, channels) uint8 to (N,)."""
    sizes: list[int] = []
    for image in images:
        file = io.BytesIO()
        imageio.imwrite(file, image.squeeze(-1) if image.shape[-1] == 1 else image, extension=".png")
        sizes.append(8 * len(file.getvalue()))
    return np.array(sizes)


def image_scores(
    model: ImageGPT | ImageGPTClassifier, tokens: Tokens, palette: Palette, batch_size: int = 8, progress: bool = False
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
    labels = np.repeat([0, 1], [len(inside), len(outside)])
    return float(roc_auc_score(labels, np.concatenate([inside, outside])))
