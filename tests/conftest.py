"""What every test shares: a tiny model with weights that tell a transposed matrix from a right one."""

import dataclasses
import gc
import os
import signal
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Two CPU devices stand for two GPUs under JAX; for TensorFlow the fixtures below split the CPU. Programs of tiny models
# are run a few times each: to optimise them takes longer than it saves.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0")
# Many tests make the same tiny model anew: JAX need not compile it each time.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="igpt-tests-"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import keras
import numpy as np
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Before the first operation, or TensorFlow refuses.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )

from http_server import serving

from examples import TINY, randomise, write_pictures, write_preset
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.pictures.palette import Palette
from igpt_tf.progress import BATCHES_A_CHUNK

# A shell that runs the tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """What was imported and compiled up to now: searching it for garbage, again and again, took a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Name the tests that are skipped because a program they need is not installed."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])}
    for reason in sorted(reason for reason in reasons if "NOT" in reason):
        terminalreporter.write_line(reason, yellow=True)


@pytest.fixture(scope="session")
def tiny_model():
    """An autoregressive model of 8x8 images, 2 layers and 16 wide."""
    return randomise(ImageGPT(TINY))


@pytest.fixture(scope="session")
def bert_model():
    """A BERT model of the same shape."""
    return randomise(ImageGPT(dataclasses.replace(TINY, bert=True)))


@pytest.fixture
def tokens():
    """Tokens (5, 64) for `tiny_model`."""
    return np.random.default_rng(1).integers(0, TINY.n_vocab, (5, TINY.n_tokens)).astype("int32")


@pytest.fixture
def many_tokens():
    """More images than are read at a time in batches of 2."""
    return np.random.default_rng(2).integers(0, TINY.n_vocab, (2 * BATCHES_A_CHUNK + 3, TINY.n_tokens))


@pytest.fixture(scope="module")
def palette():
    """Colours that 8-bit images hold exactly."""
    levels = np.random.default_rng(0).choice(256**3, TINY.n_vocab, replace=False)
    colors = np.stack([levels // 256**2, levels // 256 % 256, levels % 256], axis=1)
    return Palette(colors.astype("float32") / 127.5 - 1)


@pytest.fixture(scope="module")
def config():
    """The shape of `preset`."""
    return TINY


@pytest.fixture(scope="module")
def preset(tmp_path_factory, config, palette):
    """A preset folder of a tiny model and the palette."""
    return write_preset(tmp_path_factory.mktemp("preset"), config, palette)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, palette):
    """A folder of three pictures in the palette's colours, which no conversion changes."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), palette, TINY)


@pytest.fixture
def server():
    """An HTTP server on this machine that serves what a test puts into it."""
    with serving() as server:
        yield server


@pytest.fixture
def two_devices():
    """A strategy over two logical CPU devices, which stand for two GPUs."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
