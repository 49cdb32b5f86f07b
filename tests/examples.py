"""Models, pictures and command lines that many tests use."""

import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import keras
import numpy as np
import pytest
from reference import softmax

from igpt_tf.cli.main import main
from igpt_tf.config import ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.training.settings import PretrainSettings

ROOT = Path(__file__).parents[1]
TINY = ImageGPTConfig(n_px=8, n_vocab=11, n_embd=16, n_head=4, n_layer=2)


SETTINGS = PretrainSettings(epochs=3, batch_size=4, learning_rate=1e-2, warmup_steps=3, save_every=4, seed=5)


def randomise(model, seed=0, scale=0.3):
    """Give every weight a large asymmetric value, so that no mistake in the wiring cancels out."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        values = rng.normal(size=tuple(variable.shape)) * scale
        variable.assign(1 + values if variable.path.endswith("scale") else values)
    return model


def write_preset(folder, config, palette, **weights):
    """A preset folder of a model whose weights `randomise` draws; returns the folder."""
    randomise(ImageGPT(config), **weights).save_to_preset(folder, palette)
    return folder


def pretrain_line(folder, palette):
    """A command line that trains a small model on five pictures of each of two classes, which it writes to a folder."""
    palette.save(folder / "palette.npy")
    tokens = np.random.default_rng(0).integers(0, TINY.n_vocab, (10, TINY.n_tokens))
    for i, picture in enumerate(palette.dequantize(tokens)):
        place = folder / "pictures" / ("cat", "dog")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        imageio.imwrite(place / f"{i}.png", picture)
    data = ["--data", folder / "pictures", "--palette", folder / "palette.npy", "--out", folder / "model"]
    shape = ["--n_px", 8, "--n_embd", 16, "--n_head", 2, "--n_layer", 1]
    return ["pretrain", *data, *shape, "--batch_size", 5, "--save_every", 2]


def write_pictures(folder, palette, config):
    """Three PNG files of random colours of a palette; returns the folder."""
    tokens = np.random.default_rng(2).integers(0, config.n_vocab, (3, config.n_tokens))
    for name, picture in zip("abc", palette.dequantize(tokens), strict=True):
        imageio.imwrite(folder / f"{name}.png", picture)
    return folder


def run(capsys, *arguments):
    """Exit code, standard output and standard error of a command line."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_python(code, *arguments, **environment):
    """Run code in a new process, from the root of the repository, with more environment variables."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


class StopAfter(keras.callbacks.Callback):
    """Stands for a process that dies at some step."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        """Count down."""
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def stripes(n_images=11, seed=0):
    """Images whose rows each have one colour: easy to learn."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, TINY.n_vocab, (n_images, TINY.n_px)), TINY.n_px, axis=1).astype("uint16")


def new_model():
    keras.utils.set_random_seed(SETTINGS.seed)
    return ImageGPT(TINY)


def labelled_pictures(n, seed, config=TINY, noise=0.85):
    """Tokens (n, T) that are more often of the colours of their class than of any other, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3)
    own = 3 * labels[:, None] + rng.integers(0, 3, (n, config.n_tokens))
    other = rng.integers(0, config.n_vocab, own.shape)
    return np.where(rng.random(own.shape) < noise, other, own).astype("int32"), labels


def clouds(n, seed=0, distance=2.0, width=6):
    """Features (n, width) around a centre for each of three classes, with one that tells nothing and never changes."""
    centres = np.random.default_rng(99).normal(size=(3, width)) * distance
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    features = centres[labels] + rng.normal(size=(n, width))
    # In units so different that the solver would crawl if they were not standardised.
    return np.concatenate([features * 10.0 ** np.arange(width) + 1e3, np.full((n, 1), 7.0)], 1).astype("f4"), labels


def one_line_error(function, *args, match, **options):
    """The call is a mistake, explained in one line."""
    with pytest.raises(UserError, match=match) as caught:
        function(*args, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700


def random_image(*shape, seed=0):
    """An image, or several, of random colours."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photograph(height, width):
    """Four flat quarters of different colours: nothing turned or mirrored looks the same."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (200, 30, 30)
    image[: height // 2, width // 2 :] = (30, 200, 30)
    image[height // 2 :, : width // 2] = (30, 30, 200)
    image[height // 2 :, width // 2 :] = (220, 220, 220)
    return image


class Bigrams:
    """Predicts a token of a 4 x 6 grid from the sum of all before it, in NumPy: no Keras model, nothing compiled."""

    grid = (4, 6)
    n_vocab = 5

    def __init__(self, seed=0):
        self.table = np.random.default_rng(seed).normal(size=(50, 24, 5)).astype("float32")
        self.n_laid_out = 0

    def logits(self, total, position):
        return self.table[total % 50, position]

    def version(self):
        return self.table.tobytes()

    def lay_out(self):
        self.n_laid_out += 1
        return self.table

    def release(self):
        """Nothing is kept."""

    def starts(self, classes, n_images):
        return np.zeros(n_images, "int32")

    def prefill(self, prefix, start):
        """One layer, whose only array is the sum of the tokens, (B,), without the last one."""
        return [], [(np.asarray(prefix)[:, :-1].sum(axis=1),)]

    def step(self, weights, previous, position, past, recent):
        position = int(position)
        total = np.asarray(recent[0][0]) + (np.asarray(previous) if position else 0)
        return weights[total % 50, position], [(total,)]

    def end_row(self, rows, past, recent):
        """Nothing moves."""

    def put(self, array):
        return np.asarray(array)

    def compile(self, function):
        return function

    def loop(self, count, body, state):
        for i in range(count):
            state = body(i, state)
        return state

    def score(self, tokens, start, batch_size):
        before = np.cumsum(tokens, axis=1) - tokens
        logits = self.logits(before, np.arange(tokens.shape[1]))
        return -np.log(np.take_along_axis(softmax(logits), tokens[..., None], axis=-1))[..., 0]
