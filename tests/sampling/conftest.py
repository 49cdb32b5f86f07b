"""What draws in these tests: compiled code on the processor, as by default there, or Keras."""

import pytest

from igpt_tf.sampling import devices


@pytest.fixture
def by_keras(monkeypatch, tiny_model):
    """Models are drawn by Keras' network, as on GPUs."""
    monkeypatch.setattr(devices, "why_not_native", lambda: "a test asks for Keras")
    kept = tiny_model.__dict__.pop("_igpt_sampler", None)
    yield
    tiny_model.__dict__.pop("_igpt_sampler", None)
    if kept is not None:
        tiny_model.__dict__["_igpt_sampler"] = kept


@pytest.fixture(params=["compiled code", "Keras"])
def by_both(request):
    """The test runs twice, once with each."""
    if request.param == "Keras":
        request.getfixturevalue("by_keras")
