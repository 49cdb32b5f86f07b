"""Features are read from disk if they are those of the request, and computed again if a file is not whole."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from examples import TINY, randomise
from igpt_tf.errors import UserError
from igpt_tf.model.image_gpt import ImageGPT
from igpt_tf.probing import cache
from igpt_tf.probing.cache import FeatureCache
from igpt_tf.probing.features import FeatureSettings, check_layers, extract_features


@pytest.fixture
def work(monkeypatch):
    """A list that grows by one whenever features are computed."""
    done = []
    original = cache.extract_with

    def counted(*args, **kwargs):
        done.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(cache, "extract_with", counted)
    return done


def extract(folder, model, tokens, layers=None, **settings):
    return FeatureCache(folder).extract(model, tokens, FeatureSettings(check_layers(model, layers), **settings))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_there_is_not_made_again(tiny_model, tokens, tmp_path, work):
    expected = extract_features(tiny_model, tokens)
    for _ in range(2):
        found = extract(tmp_path / "new", tiny_model, tokens)
        np.testing.assert_array_equal(found, expected)
        assert isinstance(found, np.memmap)
    assert len(work) == 1
    assert [name.partition(".")[2] for name in names(tmp_path / "new")] == ["json", "npy"]


def test_the_same_tokens_in_another_type_are_the_same(tiny_model, tokens, tmp_path, work):
    extract(tmp_path, tiny_model, tokens)
    extract(tmp_path, tiny_model, tokens.astype("uint16"))
    extract(tmp_path, tiny_model, np.asfortranarray(tokens))
    assert len(work) == 1


@pytest.mark.slow
def test_another_request_is_another_key(tiny_model, tokens, tmp_path, work):
    changed = tokens.copy()
    changed[-1, -1] = (changed[-1, -1] + 1) % TINY.n_vocab
    one_bit = randomise(ImageGPT(TINY))
    one_bit.ln_f.scale.assign(np.nextafter(np.asarray(one_bit.ln_f.scale.value), np.float32(9)))
    mixed = ImageGPT(TINY, dtype="mixed_bfloat16")
    mixed.set_weights(tiny_model.get_weights())
    requests = [
        (tiny_model, tokens, {}),
        (tiny_model, tokens, {"layers": [0, 2]}),
        (tiny_model, tokens, {"layers": [2, 0]}),
        (tiny_model, tokens, {"norm": "none"}),
        (tiny_model, tokens[:-1], {}),
        (tiny_model, changed, {}),
        (one_bit, tokens, {}),
        (mixed, tokens, {}),
    ]
    for model, data, options in requests:
        np.testing.assert_array_equal(
            extract(tmp_path, model, data, **options), extract_features(model, data, **options)
        )
    assert len(work) == len(requests)
    same = randomise(ImageGPT(TINY))
    for model, data, options in [(same, tokens, {"layers": [0, 1, 2]}), *requests]:
        extract(tmp_path, model, data, **options)
    assert len(work) == len(requests)


def test_masks_and_adapters_are_part_of_the_key(tokens, tmp_path, work):
    config = type(TINY)(**{**TINY.to_dict(), "bert": True})
    model = randomise(ImageGPT(config))
    options = [{}, {"mask_seed": 0}, {"mask_seed": 1}, {"mask_seed": 1, "mask_probability": 0.3}]
    for one in options * 2:
        extract(tmp_path, model, tokens, **one)
    assert len(work) == len(options)
    model.blocks[0].attn.q_proj.enable_lora(2, lora_alpha=1)
    extract(tmp_path, model, tokens)
    model.blocks[0].attn.q_proj.lora_alpha = 2
    extract(tmp_path, model, tokens)
    assert len(work) == len(options) + 2


def cut_short(npy, _):
    npy.write_bytes(npy.read_bytes()[:-4])


def lengthen(npy, _):
    npy.write_bytes(npy.read_bytes() + b"\0\0\0\0")


def empty(npy, _):
    npy.write_bytes(b"")


def as_text(_, record):
    record.write_text("[")


def of_another_kind(_, record):
    record.write_text("[1]")


def of_another_request(_, record):
    said = json.loads(record.read_text())
    said["request"]["norm"] = "none"
    record.write_text(json.dumps(said))


def without_record(_, record):
    record.unlink()


def without_features(npy, _):
    npy.unlink()


DAMAGES = (
    cut_short,
    lengthen,
    empty,
    as_text,
    of_another_kind,
    of_another_request,
    without_record,
    without_features,
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_anew(tiny_model, tokens, tmp_path, work, damage):
    expected = np.array(extract(tmp_path, tiny_model, tokens))
    damage(*(next(tmp_path.glob(f"*.{suffix}")) for suffix in ("npy", "json")))
    for _ in range(2):
        np.testing.assert_array_equal(extract(tmp_path, tiny_model, tokens), expected)
    assert len(work) == 2
    assert len(names(tmp_path)) == 2


def test_whoever_reads_is_not_disturbed_by_a_second_writer(tiny_model, tokens, tmp_path):
    first = extract(tmp_path, tiny_model, tokens)
    expected = np.array(first)
    next(tmp_path.glob("*.json")).unlink()
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: np.array(extract(tmp_path, tiny_model, tokens)), range(2)))
    for features in (first, *found):
        np.testing.assert_array_equal(features, expected)
    assert len(names(tmp_path)) == 2


def test_an_error_leaves_nothing(tiny_model, tokens, tmp_path):
    with pytest.raises(UserError, match="expected `norm` as one of"):
        extract(tmp_path / "cache", tiny_model, tokens, norm="ln_1")
    with pytest.raises(UserError, match="got float64"):
        extract(tmp_path / "cache", tiny_model, tokens / 1)
    assert not list((tmp_path / "cache").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        extract(tmp_path / "file", tiny_model, tokens)
