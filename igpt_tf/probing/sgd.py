"""A linear classifier by stochastic gradient descent, for more features than L-BFGS can hold in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from sklearn.preprocessing import StandardScaler

from igpt_tf.backend.devices import jit_compile
from igpt_tf.data.split import hold_out
from igpt_tf.probing.defaults import EPOCHS
from igpt_tf.probing.linear import HOLDOUT, Trial, best_trial, percent, require_all_classes

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1)
BATCH_SIZE = 128
MOMENTUM = 0.9
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class SGDProbe:
    """A linear classifier of standardised features; attributes as of `LinearProbe`.

    Attributes:
        strength: the chosen learning rate; None where the loss left the finite numbers with all of them.
        held_out: per cent of the held-out images that it got right before the last fit.
        converged: whether the loss of the last fit stayed finite; it always ends after the same number of steps.
        trials: all that were tried.
        classifier: fitted to all training images.
    """

    strength: float | None
    held_out: float | None
    converged: bool
    trials: tuple[Trial, ...]
    classifier: keras.Model | None = None

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Features (N, D) to classes (N,), a part at a time."""
        return _predict(self.classifier, features, np.arange(len(features)))


def fit_sgd(
    train_x: np.ndarray,
    train_y: np.ndarray,
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    holdout: float = HOLDOUT,
    seed: int = 0,
    epochs: int = EPOCHS,
    batch_size: int = BATCH_SIZE,
) -> SGDProbe:
    """Softmax regression by SGD with momentum and a cosine schedule; the learning rate is chosen on images held out.

    No more than a batch of the features is in memory. They are standardised as in `fit_linear`.

    Args:
        train_x: features (N, D), or anything with a length and `[rows]`; may lie on disk.
        train_y: labels (N,), every class from 0 to the greatest.
        learning_rates: to choose from; of equals the smallest is taken.
        holdout: how much of each class is held out.
        seed: decides which images, and the order of all others.
        epochs: passes over the images in each fit.
        batch_size: images a step.

    Raises:
        UserError: as `fit_linear`.

    Source: section 3.4 of the paper, which probes ImageNet in this way.
    """
    train_y = np.asarray(train_y)
    require_all_classes(train_y)
    n_class = int(train_y.max()) + 1
    kept, held = hold_out(train_y, holdout, seed)

    def fit(rows: np.ndarray, learning_rate: float) -> tuple[keras.Model, bool]:
        model = _new_model(train_x, rows, n_class)
        batches = _Batches(train_x, train_y, rows, batch_size, seed)
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(batches))
        model.compile(
            keras.optimizers.SGD(schedule, momentum=MOMENTUM),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=jit_compile(),
        )
        losses = model.fit(batches, epochs=epochs, shuffle=False, verbose=0).history["loss"]
        return model, bool(np.isfinite(losses).all()) and all(np.isfinite(one).all() for one in model.get_weights())

    trials = []
    for learning_rate in sorted(learning_rates):
        model, finite = fit(kept, learning_rate)
        right = _predict(model, train_x, held) == train_y[held]
        trials.append(Trial(learning_rate, percent(right), finite))
    best = best_trial(trials)
    if best is None:
        return SGDProbe(None, None, False, tuple(trials))
    model, finite = fit(np.arange(len(train_y)), best.strength)
    return SGDProbe(best.strength, best.accuracy, finite, tuple(trials), model)


class _Batches(keras.utils.PyDataset):
    """Batches (features, labels) of some rows, in another order every pass; a pass drops none."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, rows: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__()
        self.features = features
        self.labels = labels
        self.rows = rows
        self.batch_size = batch_size
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Batches a pass."""
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch, all of the same size: the last one goes on with the first rows of the pass."""
        places = np.arange(item * self.batch_size, (item + 1) * self.batch_size) % len(self.order)
        rows = self.order[places]
        return np.asarray(self.features[rows], np.float32), self.labels[rows]

    def on_epoch_end(self) -> None:
        """Draw the next pass's order."""
        self.order = self.rng.permutation(self.rows)


def _new_model(features: np.ndarray, rows: np.ndarray, n_class: int) -> keras.Model:
    """Standardise by these rows' mean and standard deviation, then a linear map that begins at zero."""
    scaler = StandardScaler()
    for start in range(0, len(rows), CHUNK_ROWS):
        scaler.partial_fit(np.asarray(features[rows[start : start + CHUNK_ROWS]], np.float32))
    # Of a feature that never changes, the scale is 1.
    standardise = keras.layers.Normalization(mean=scaler.mean_, variance=scaler.scale_**2)
    head = keras.layers.Dense(n_class, kernel_initializer="zeros")
    return keras.Sequential([keras.Input((features.shape[1],)), standardise, head])


def _predict(model: keras.Model, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    classes = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), CHUNK_ROWS):
        part = rows[start : start + CHUNK_ROWS]
        logits = model.predict_on_batch(np.asarray(features[part], np.float32))
        classes[start : start + CHUNK_ROWS] = np.asarray(logits).argmax(axis=1)
    return classes
