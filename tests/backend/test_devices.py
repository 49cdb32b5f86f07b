"""One model on many devices: split between them it is the same model."""

import keras
import numpy as np
import pytest

from examples import run_python
from igpt_tf.backend.processes import join_processes
from igpt_tf.backend.sharding import layout_map, model_parallel_scope
from igpt_tf.errors import UsageError

SPLIT = """
import keras
import numpy as np

import igpt_tf as igpt
from igpt_tf.backend.devices import list_cpus, scope_of
from igpt_tf.backend.sharding import model_parallel_scope

config = igpt.ImageGPTConfig(n_px=8, n_vocab=11, n_embd=16, n_head=4, n_layer=2)
tokens = np.random.default_rng(0).integers(0, 11, (8, 64)).astype("int32")


def train(model):
    with scope_of(model):
        model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model.fit(tokens, tokens, batch_size=4, epochs=5, shuffle=False, verbose=0).history["loss"]


def new_model():
    keras.utils.set_random_seed(3)
    return igpt.ImageGPT(config)


expected = train(new_model())
with model_parallel_scope(list_cpus(), 2, config.n_head):
    model = new_model()
found = train(model)
np.testing.assert_allclose(found, expected, rtol=1e-5)
assert expected[-1] < expected[0]
kernel = model.blocks[1].mlp.c_fc.kernel.value
slots = [v for v in model.optimizer.variables if "c_fc" in v.path]
assert len(slots) == 4
for value in [kernel, *(slot.value for slot in slots)]:
    assert value.addressable_shards[0].data.shape == (16, 32), "half of 64 hidden units on each device"
try:
    igpt.sample(model, 1)
except igpt.UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_model_split_over_four_devices_trains_like_one():
    done = run_python(SPLIT, KERAS_BACKEND="jax", XLA_FLAGS="--xla_force_host_platform_device_count=4")
    assert done.returncode == 0, done.stderr
    assert "save it and load it" in done.stdout


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="what TensorFlow refuses")
def test_tensorflow_refuses_with_the_reason():
    with pytest.raises(UsageError, match="expected the JAX backend for several processes"):
        join_processes("localhost:1234", 2, 0)
    with pytest.raises(UsageError, match="expected the JAX backend to split a model"):
        model_parallel_scope(["cpu:0", "cpu:1"], 2, 4)


@pytest.mark.both_backends
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone")
@pytest.mark.parametrize(
    ("coordinator", "n_processes", "process_id", "message"),
    [("localhost", 2, 0, "HOST:PORT"), ("localhost:x", 2, 0, "HOST:PORT"), ("localhost:1", 2, 2, "from 0 to 1")],
)
def test_addresses_and_numbers_that_mean_nothing(coordinator, n_processes, process_id, message):
    with pytest.raises(UsageError, match=message):
        join_processes(coordinator, n_processes, process_id)


@pytest.mark.both_backends
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone")
def test_parts_that_do_not_divide():
    with pytest.raises(UsageError, match="divides the 2 devices, got 4"):
        layout_map(["cpu:0", "cpu:1"], 4)
    with pytest.raises(UsageError, match="4 heads"):
        model_parallel_scope(["cpu:0", "cpu:1"], 3, 4)
    assert np.shape(layout_map(["cpu:0", "cpu:1"], 2).device_mesh.devices) == (1, 2)
