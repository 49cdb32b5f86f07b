"""One compiled decoding loop with a cache, for sampling and for completing alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from keras import ops
from tqdm import tqdm

from igpt_tf.backend import Replica, count_devices
from igpt_tf.errors import UserError
from igpt_tf.sampling.filters import check_filters, choose, draw_uniforms

if TYPE_CHECKING:
    from igpt_tf.model import ImageGPT

# The cache is in two parts: what is newer is updated at every step, and what is older only read, a segment longer
# each time. Every length is compiled once: a segment is a quarter of an image, and no less than this many tokens.
MIN_SEGMENT = 256


def sample(
    model: ImageGPT,
    n: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = False,
) -> np.ndarray:
    """Draw n images from an autoregressive model: tokens (n, T) int32.

    Args:
        model: the model to draw from; a classifier stands for the model in it.
        n: number of images.
        temperature: below 1 nearer to the likeliest, 0 the likeliest colour always, above 1 wilder.
        top_k: draw from the k likeliest colours alone.
        top_p: draw from the smallest set of colours that holds this much of the probability.
        seed: image i of a seed draws the same random numbers whatever the batch size, n and the devices.
        batch_size: images at a time, over all devices.
        progress: show a bar on standard error, by rows.

    Raises:
        UserError: if the model is a BERT model or a number means nothing.
    """
    if n < 1:
        raise UserError(f"expected to draw at least 1 image, got n={n}")
    model = getattr(model, "image_gpt", model)
    tokens = np.zeros((n, model.config.n_tokens), "int32")
    return complete(
        model,
        tokens,
        np.zeros(tokens.shape[1], bool),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )


def complete(
    model: ImageGPT,
    tokens: np.ndarray,
    known: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = False,
) -> np.ndarray:
    """Fill in what is not known of each image: tokens (B, T) int32, those that are known unchanged.

    Pixels are drawn in raster order from the model given all before them. That is a draw from the model's
    own conditional where the known tokens are a prefix; known tokens that come later are put in their
    place but do not influence those before them.

    Args:
        model: the model to draw from.
        tokens: (B, T) integers; values that are not known do not matter.
        known: booleans (B, T) or (T,).
        temperature: as in `sample`, like all that follow.
        top_k: likewise.
        top_p: likewise.
        seed: row i is image i of the seed.
        batch_size: images at a time, over all devices.
        progress: show a bar on standard error, by rows.

    Raises:
        UserError: if the model is a BERT model, the shapes do not fit or a number means nothing.
    """
    check_filters(temperature, top_k, top_p)
    if seed < 0:
        raise UserError(f"expected a seed of at least 0, got {seed}")
    model = getattr(model, "image_gpt", model)
    tokens, known = _check(model, tokens, known)
    if batch_size < 1:
        raise UserError(f"expected a batch size of at least 1, got {batch_size}")
    decoders = _decoders(model, (temperature, top_k, top_p))
    size = -(-min(batch_size, len(tokens)) // len(decoders))
    starts = range(0, len(tokens), size)
    stopped = threading.Event()
    with (
        tqdm(total=len(starts) * model.config.n_px, unit="row", disable=not progress, leave=False) as bar,
        ThreadPoolExecutor(len(decoders)) as threads,
    ):

        def on_rows(count: int) -> None:
            if stopped.is_set():
                raise InterruptedError
            bar.update(count)

        def decode(number: int, start: int) -> np.ndarray:
            # The last batch is padded, as another size would be compiled anew.
            rows = np.minimum(np.arange(start, start + size), len(tokens) - 1)
            uniforms = draw_uniforms(seed, start, size, model.config.n_tokens)
            return decoders[number].decode(tokens[rows], known[rows], uniforms, on_rows)

        def decode_every(number: int) -> list[np.ndarray]:
            return [decode(number, start) for start in starts[number :: len(decoders)]]

        try:
            by_device = list(threads.map(decode_every, range(len(decoders))))
        except BaseException:
            # Ctrl-C reaches this thread alone, and a device that fails leaves the others at work.
            stopped.set()
            raise
    done = [by_device[i % len(decoders)][i // len(decoders)] for i in range(len(starts))]
    return np.concatenate(done)[: len(tokens)]


def _decoders(model: ImageGPT, controls: tuple) -> list[_Decoder]:
    """A decoder for each of the model's devices and these controls, with all that they have compiled."""
    # The latest ones stay in the instance's dictionary, where Keras does not look, so that they live as long as the
    # model. LoRA and quantisation add variables, and with them new decoders.
    kept = vars(model)
    key = controls, len(model.variables)
    if "_igpt_decoders" not in kept or kept["_igpt_decoders"][0] != key:
        decoders = [_Decoder(model, Replica(model, i), controls) for i in range(count_devices(model))]
        kept["_igpt_decoders"] = key, decoders
    return kept["_igpt_decoders"][1]


class _Decoder:
    """Decodes batches of images, row by row, on one device.

    Args:
        model: an autoregressive model.
        replica: its copy on the device.
        controls: temperature, top_k and top_p.
    """

    def __init__(self, model: ImageGPT, replica: Replica, controls: tuple) -> None:
        self.model = model
        self.replica = replica
        self.controls = controls
        self.n_px = model.config.n_px
        self.rows_a_segment = -(-max(MIN_SEGMENT, model.config.n_tokens // 4) // self.n_px)
        self._prefill = replica.compile(self._prefill_rows)
        self._row = replica.compile(self._decode_row)
        self._extend = replica.compile(self._extend_past)

    def decode(
        self, tokens: np.ndarray, known: np.ndarray, uniforms: np.ndarray, on_rows: Callable[[int], object]
    ) -> np.ndarray:
        """Tokens (B, T) with those drawn that are not known; `on_rows` hears how many rows were finished."""
        if known.all():
            on_rows(self.n_px)
            return tokens
        first_row = int(np.argmin(known.all(axis=0))) // self.n_px
        put = self.replica.put
        past, recent = self._prefill(put(tokens[:, : first_row * self.n_px]))
        tokens, known, uniforms = put(tokens), put(known), put(uniforms)
        on_rows(first_row)
        for row in range(first_row, self.n_px):
            if row > first_row and row % self.rows_a_segment == 0:
                past, recent = self._extend(past, recent)
            tokens, recent = self._row(tokens, known, uniforms, past, recent, put(np.int32(row)))
            on_rows(1)
        return ops.convert_to_numpy(tokens)

    def _prefill_rows(self, prefix):
        """Known rows (B, P) in one pass: whole segments of their keys and values are past, the rest recent."""
        config = self.model.config
        n_segment = self.rows_a_segment * self.n_px
        n_past = prefix.shape[1] // n_segment * n_segment
        if not prefix.shape[1]:
            nothing = ops.zeros((prefix.shape[0], config.n_head, 0, config.head_size), self.model.compute_dtype)
            caches = [(nothing, nothing)] * config.n_layer
        else:
            caches = self.model.prefill(prefix)
        past = [tuple(part[:, :, :n_past] for part in cache) for cache in caches]
        unfilled = [(0, 0), (0, 0), (0, n_past + n_segment - prefix.shape[1]), (0, 0)]
        return past, [tuple(ops.pad(part[:, :, n_past:], unfilled) for part in cache) for cache in caches]

    def _extend_past(self, past, recent):
        """Move a full segment from recent to past."""
        joined = [
            tuple(ops.concatenate(parts, axis=2) for parts in zip(old, new, strict=True))
            for old, new in zip(past, recent, strict=True)
        ]
        return joined, [tuple(ops.zeros_like(part) for part in new) for new in recent]

    def _decode_row(self, tokens, known, uniforms, past, recent, row):
        """One row of pixels; returns tokens (B, T) and the recent cache with the row in them."""
        first = row * self.n_px
        first_index = row % self.rows_a_segment * self.n_px

        def decode_pixel(i, state):
            tokens, recent = state
            position = first + i
            previous = ops.take(tokens, ops.maximum(position - 1, 0), axis=1)
            logits, recent = self.model.step(previous, position, past, recent, first_index + i)
            drawn = choose(logits, ops.take(uniforms, position, axis=1), *self.controls)
            token = ops.where(ops.take(known, position, axis=1), ops.take(tokens, position, axis=1), drawn)
            return ops.slice_update(tokens, (0, position), token[:, None]), recent

        return ops.fori_loop(0, self.n_px, decode_pixel, (tokens, recent))


def _check(model: ImageGPT, tokens: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (B, T) int32, 0 where they are not known, and booleans (B, T)."""
    config = model.config
    if config.bert:
        raise UserError("a BERT model cannot draw pixels one after another; sampling needs an autoregressive model")
    tokens, known = np.asarray(tokens), np.asarray(known)
    if tokens.ndim != 2 or tokens.shape[1] != config.n_tokens or not len(tokens):
        raise UserError(
            f"expected tokens of shape (images, {config.n_tokens}), as the model's images are {config.n_px} pixels "
            f"wide, found {tokens.shape}"
        )
    if known.dtype != bool or known.shape not in (tokens.shape, tokens.shape[1:]):
        raise UserError(
            f"expected `known` as booleans of shape {tokens.shape} or {tokens.shape[1:]}, "
            f"found {known.dtype} {known.shape}"
        )
    known = np.broadcast_to(known, tokens.shape)
    if not np.issubdtype(tokens.dtype, np.integer):
        raise UserError(f"expected integer tokens, found {tokens.dtype}")
    given = tokens[known]
    if given.size and not 0 <= given.min() <= given.max() < config.n_vocab:
        raise UserError(f"expected known tokens from 0 to {config.n_vocab - 1}, found {given.min()} to {given.max()}")
    return np.where(known, tokens, 0).astype("int32"), known
