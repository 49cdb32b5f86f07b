"""Torch, Keras' third backend: models compute, score and train as on the others."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import igpt_tf as igpt

SCRIPT = """
import json, sys
import keras, numpy as np
import igpt_tf as igpt

model = igpt.ImageGPT.from_preset("nano-mnist")
tokens = np.array(json.load(sys.stdin))
found = {"nats": float(igpt.evaluate(model, tokens).nats)}
try:
    igpt.sample(model, 1)
except igpt.UserError as error:
    found["refusal"] = str(error)
model.compile(keras.optimizers.Adam(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
start = tokens[:, :64]
found["losses"] = model.fit(start, start, epochs=3, verbose=0).history["loss"]
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is NOT installed")
def test_the_bundled_model_on_torch():
    tokens = np.random.default_rng(0).integers(0, 16, (1, 784))
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    run = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(run, env=environment, input=json.dumps(tokens.tolist()), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    nats = igpt.score(igpt.ImageGPT.from_preset("nano-mnist"), tokens)
    np.testing.assert_allclose(found["nats"], nats.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["losses"][0], nats[:, :64].mean(), rtol=1e-5)
    assert found["losses"][2] < found["losses"][0]
    assert found["refusal"] == "expected TensorFlow or JAX to draw, got torch: set KERAS_BACKEND=jax"
