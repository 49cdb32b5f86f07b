"""A linear classifier by stochastic gradient descent, for features that do not fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import keras
import numpy as np
from sklearn.preprocessing import StandardScaler

from igpt_tf.backend.devices import jit_compile
from igpt_tf.data.split import hold_out
from igpt_tf.probing.defaults import EPOCHS
from igpt_tf.probing.features import Features
from igpt_tf.probing.linear import HOLDOUT, LinearProbe, Trial, best_trial, percent, require_all_classes

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1)
BATCH_SIZE = 128
MOMENTUM = 0.9
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class SGDProbe(LinearProbe):
    """A linear classifier by SGD: `hyperparameter` is the learning rate, `converged` that the loss stayed finite."""

    def predict(self, features: Features) -> np.ndarray:
        """Features (N, D), in memory or on disk, to classes (N,)."""
        return _predict(self.classifier, features, np.arange(len(features)))


def fit_sgd(
    train_x: Features,
    train_y: np.ndarray,
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    seed: int = 0,
    epochs: int = EPOCHS,
    batch_size: int = BATCH_SIZE,
) -> SGDProbe:
    """Softmax regression by SGD with momentum and cosine decay; the learning rate is chosen on held-out images.

    One batch of features is in memory at a time. They are standardised as in `fit_linear`.

    Args:
        train_x: features (N, D), in memory or on disk.
        train_y: labels (N,), with every class from 0 to the largest.
        learning_rates: values to choose from; the smallest of equally accurate ones is chosen.
        seed: determines which images are held out, and the order of the others.
        epochs: passes over the images in each fit.
        batch_size: images per step.

    Raises:
        UserError: if a class has no images, or too few to hold some out.

    Source: section 3.4 of the paper, whose linear probes of ImageNet are fitted by SGD.
    """
    train_y = np.asarray(train_y)
    require_all_classes(train_y)
    n_class = int(train_y.max()) + 1
    kept, held = hold_out(train_y, HOLDOUT, seed)

    def fit(rows: np.ndarray, learning_rate: float) -> tuple[keras.Model, bool]:
        model = _new_model(train_x, rows, n_class)
        batches = _Batches(train_x, train_y, rows, batch_size, seed)
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(batches))
        model.compile(
            keras.optimizers.SGD(schedule, momentum=MOMENTUM),  # pyright: ignore[reportArgumentType]
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=jit_compile(),
        )
        losses = model.fit(batches, epochs=epochs, shuffle=False, verbose=0).history["loss"]  # pyright: ignore[reportArgumentType]
        return model, bool(np.isfinite(losses).all()) and all(np.isfinite(one).all() for one in model.get_weights())

    trials = []
    for learning_rate in sorted(learning_rates):
        model, finite = fit(kept, learning_rate)
        right = _predict(model, train_x, held) == train_y[held]
        trials.append(Trial(learning_rate, percent(right), finite))
    best = best_trial(trials)
    if best is None:
        return SGDProbe(None, None, False, tuple(trials))
    model, finite = fit(np.arange(len(train_y)), best.hyperparameter)
    return SGDProbe(best.hyperparameter, best.accuracy, finite, tuple(trials), model)


class _Batches(keras.utils.PyDataset):
    """Batches (features, labels) of some rows in a new random order every epoch; all rows are used."""

    def __init__(self, features: Features, labels: np.ndarray, rows: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__()
        self.features = features
        self.labels = labels
        self.rows = rows
        self.batch_size = batch_size
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch (B, D), (B,); the epoch's first rows fill up the last batch, so that all have one size."""
        places = np.arange(item * self.batch_size, (item + 1) * self.batch_size) % len(self.order)
        rows = self.order[places]
        return np.asarray(self.features[rows], np.float32), self.labels[rows]

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        self.order = self.rng.permutation(self.rows)


def _new_model(features: Features, rows: np.ndarray, n_class: int) -> keras.Model:
    """Standardisation by these rows' mean and standard deviation, then a linear layer that starts at zero."""
    scaler = StandardScaler()
    for start in range(0, len(rows), CHUNK_ROWS):
        scaler.partial_fit(np.asarray(features[rows[start : start + CHUNK_ROWS]], np.float32))
    # A constant feature has a scale of 1, not a variance of 0.
    standardise = keras.layers.Normalization(mean=scaler.mean_, variance=cast("np.ndarray", scaler.scale_) ** 2)
    head = keras.layers.Dense(n_class, kernel_initializer="zeros")
    return keras.Sequential([keras.Input((features.shape[1],)), standardise, head])


def _predict(model: keras.Model, features: Features, rows: np.ndarray) -> np.ndarray:
    """Classes (n,) of some rows (n,) of features (N, D)."""
    classes = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), CHUNK_ROWS):
        part = rows[start : start + CHUNK_ROWS]
        logits = model.predict_on_batch(np.asarray(features[part], np.float32))
        classes[start : start + CHUNK_ROWS] = np.asarray(logits).argmax(axis=1)
    return classes
