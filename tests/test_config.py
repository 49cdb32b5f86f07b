"""The named sizes are the paper's, and a shape that no model can have is refused."""

import dataclasses
import math

import pytest

from examples import TINY
from igpt_tf.config import SIZES, ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.weights.names import shape_table


def count_weights(config):
    return sum(math.prod(shape) for shape in shape_table(config).values())


@pytest.mark.parametrize("bert", [False, True])
def test_a_model_has_the_weights_that_its_shapes_add_up_to(bert):
    config = dataclasses.replace(TINY, bert=bert)
    assert ImageGPT(config).count_params() == count_weights(config)


@pytest.mark.parametrize("size, millions", [("s", 76), ("m", 455), ("l", 1362), ("xl", 6801)])
def test_sizes_have_as_many_weights_as_in_the_paper(size, millions):
    """Section 2.1 rounds S, M and L down or up to a million, and XL to 6.8 billion."""
    assert count_weights(SIZES[size]) == pytest.approx(millions * 1e6, abs=1e6)


def test_size_m_to_the_last_weight():
    """32x32 images of 512 colours: 36 blocks of 12 D^2 + 2 D, three tables, sos and the last norm."""
    tables = (1024 + 512 + 512) * 1024
    assert count_weights(SIZES["m"]) == 36 * (12 * 1024**2 + 2 * 1024) + tables + 2 * 1024 == 455_157_760


def test_derived_numbers():
    config = ImageGPTConfig(n_px=48, n_embd=96, n_head=6)
    assert (config.n_tokens, config.head_size) == (2304, 16)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"n_px": 0}, "expected n_px as a positive integer, got 0"),
        ({"n_layer": -1}, "expected n_layer as a positive integer, got -1"),
        ({"n_vocab": 512.0}, "expected n_vocab as a positive integer, got 512.0"),
        ({"n_embd": "512"}, "expected n_embd as a positive integer, got '512'"),
        ({"n_head": True}, "expected n_head as a positive integer, got True"),
        ({"n_head": 7}, "expected n_head to divide n_embd, got n_head=7 and n_embd=512"),
        ({"bert": 1}, "expected bert as true or false, got 1"),
    ],
)
def test_shapes_of_no_model_are_refused_in_one_line(fields, message):
    with pytest.raises(UserError) as error:
        ImageGPTConfig(**fields)
    assert str(error.value) == message


def test_fields_survive_json_and_unknown_ones_are_named():
    assert ImageGPTConfig.from_dict(TINY.to_dict()) == TINY
    with pytest.raises(UserError, match=r"got \['dropout'\] too"):
        ImageGPTConfig.from_dict({**TINY.to_dict(), "dropout": 0})
