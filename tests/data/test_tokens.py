"""Tokens have the same fingerprint everywhere, and the same as before, because runs record it."""

from types import SimpleNamespace

import numpy as np
import pytest

from igpt_tf.data.tokens import fingerprint, sample_rows


@pytest.fixture
def tokens():
    return np.random.default_rng(0).integers(0, 512, (1000, 16)).astype(np.uint16)


def test_the_fingerprint_of_an_array_never_changes(tokens):
    assert fingerprint(tokens) == "88643d8f46b9582a"
    assert fingerprint(tokens[:100]) == "de9ce9ee8511b3b2"


def test_neither_type_nor_layout_in_memory_counts(tokens):
    assert fingerprint(tokens.astype(np.int64)) == fingerprint(np.asfortranarray(tokens)) == fingerprint(tokens)


def test_tokens_may_bring_their_own_fingerprint():
    assert fingerprint(SimpleNamespace(fingerprint="0123456789abcdef")) == "0123456789abcdef"


def test_sampled_rows_reach_from_the_first_to_the_last(tokens):
    sample = sample_rows(tokens)
    assert len(sample) == 256
    np.testing.assert_array_equal(sample[[0, -1]], tokens[[0, -1]])
    np.testing.assert_array_equal(sample_rows(tokens[:5]), tokens[:5])
