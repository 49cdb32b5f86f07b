"""Hugging Face's own implementation, given the same random weights, finds the same numbers."""

import keras
import numpy as np
import pytest
from conftest import TINY, randomise

from igpt_tf.convert.names import named_arrays
from igpt_tf.model import ImageGPT
from igpt_tf.objectives import autoregressive_loss, token_nats

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.both_backends
SOS = TINY.n_vocab


def state_of(weights):
    """Weights under OpenAI's names as Hugging Face's implementation keeps them."""
    state = {
        "lm_head.weight": weights["wtet"],
        "transformer.wpe.weight": weights["wpe"],
        # The start of a sequence is one more colour.
        "transformer.wte.weight": np.concatenate([weights["wte"], weights["sos"][None]]),
        "transformer.ln_f.weight": weights["ln_f/g"],
    }
    for i in range(TINY.n_layer):
        block = f"transformer.h.{i}"
        # (H, E, D), from D to H heads of E, is (D, H E) there; q, k and v lie side by side.
        projections = [weights[f"h{i}/attn/{name}_proj"].reshape(TINY.n_embd, TINY.n_embd).T for name in "qkv"]
        state |= {
            f"{block}.ln_1.weight": weights[f"h{i}/ln_1/g"],
            f"{block}.ln_2.weight": weights[f"h{i}/ln_2/g"],
            f"{block}.attn.c_attn.weight": np.concatenate(projections, axis=1),
            f"{block}.attn.c_attn.bias": np.zeros(3 * TINY.n_embd),
            f"{block}.attn.c_proj.weight": weights[f"h{i}/attn/c_proj"].reshape(TINY.n_embd, TINY.n_embd),
            f"{block}.attn.c_proj.bias": np.zeros(TINY.n_embd),
            f"{block}.mlp.c_fc.weight": weights[f"h{i}/mlp/c_fc/w"],
            f"{block}.mlp.c_fc.bias": np.zeros(4 * TINY.n_embd),
            f"{block}.mlp.c_proj.weight": weights[f"h{i}/mlp/c_proj/w"],
            f"{block}.mlp.c_proj.bias": np.zeros(TINY.n_embd),
        }
    return {name: torch.tensor(array, dtype=torch.float32) for name, array in state.items()}


@pytest.fixture(scope="module")
def model():
    return randomise(ImageGPT(TINY))


@pytest.fixture(scope="module")
def theirs(model):
    """Their model with our weights."""
    config = transformers.ImageGPTConfig(
        vocab_size=TINY.n_vocab + 1,
        n_positions=TINY.n_tokens,
        n_embd=TINY.n_embd,
        n_layer=TINY.n_layer,
        n_head=TINY.n_head,
    )
    model_there = transformers.ImageGPTForCausalImageModeling(config).eval()
    model_there.load_state_dict(state_of(named_arrays(model)))
    return model_there


@pytest.fixture
def expected(theirs, tokens):
    """What they find; their inputs have the start of a sequence in front, which ours add themselves."""
    inputs = torch.tensor(np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=SOS), dtype=torch.long)
    labels = torch.nn.functional.pad(torch.tensor(tokens[:, :-1], dtype=torch.long), (1, 0), value=-100)
    with torch.no_grad():
        return theirs(inputs, labels=labels, output_hidden_states=True)


def assert_close(found, expected):
    """float32 parity: within 1e-4 of the reference's largest magnitude."""
    found, expected = keras.ops.convert_to_numpy(found), expected.numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_logits(model, tokens, expected):
    assert_close(model(tokens), expected.logits)


def test_every_hidden_state(model, tokens, expected):
    states = model.hidden_states(tokens)
    assert len(states) == len(expected.hidden_states) == TINY.n_layer + 1
    for found, theirs in zip(states[:-1], expected.hidden_states[:-1], strict=True):
        assert_close(found, theirs)
    # Their last one is normalised.
    assert_close(model.ln_f(states[-1]), expected.hidden_states[-1])


def test_loss(model, tokens, expected):
    """Theirs leaves the last token out, as its labels are shifted."""
    nats = keras.ops.convert_to_numpy(token_nats(tokens, model(tokens)))
    assert nats[:, :-1].mean() == pytest.approx(float(expected.loss), rel=1e-5)
    every = torch.nn.functional.cross_entropy(expected.logits.flatten(0, 1), torch.tensor(tokens).long().flatten())
    assert float(autoregressive_loss(tokens, model(tokens))) == pytest.approx(float(every), rel=1e-5)
