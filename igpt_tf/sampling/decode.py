"""Images drawn, completed and streamed: what the public calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from igpt_tf.errors import UserError
from igpt_tf.evaluation import score
from igpt_tf.sampling.decoder import Drawing, decoders
from igpt_tf.sampling.devices import share
from igpt_tf.sampling.filters import Controls, Key, draw_uniforms
from igpt_tf.sampling.inputs import check_images, image_keys
from igpt_tf.sampling.region import is_prefix
from igpt_tf.sampling.smc import draw_conditioned

if TYPE_CHECKING:
    from igpt_tf.model import ImageGPT

METHODS = ("auto", "forced", "smc")


def sample(
    model: ImageGPT,
    n: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | Sequence[int] = 0,
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
        min_p: draw from colours at least this many times as likely as the likeliest.
        seed: image i of a seed draws the same random numbers whatever the batch size, n and the devices. A sequence
            has a seed for each image, which is then image 0 of its seed.
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
        min_p=min_p,
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
    min_p: float | None = None,
    seed: int | Sequence[int] = 0,
    batch_size: int = 8,
    method: str = "auto",
    n_particles: int = 32,
    best_of: int = 1,
    progress: bool = False,
    on_images: Callable[[np.ndarray, np.ndarray], object] = lambda numbers, tokens: None,
) -> np.ndarray:
    """Fill in what is not known of each image: tokens (B, T) int32, those that are known unchanged.

    "forced" draws pixels in raster order from the model given all before them, and puts known ones in their place.
    That is a draw from the model's own conditional where the known tokens are a prefix; known tokens that come later
    do not influence those before them. "smc" draws `n_particles` such images at once, weighs them by how likely they
    make the known pixels, drops and doubles them on the way, and returns one: a draw from the model's conditional in
    the limit of many particles, at the cost of as many images. "auto" is forced for prefixes and smc elsewhere.

    Args:
        model: the model to draw from.
        tokens: (B, T) integers; values that are not known do not matter.
        known: booleans (B, T) or (T,).
        temperature: as in `sample`, like all up to min_p; smc weighs by the model's own probabilities nevertheless.
        top_k: likewise.
        top_p: likewise.
        min_p: likewise.
        seed: row i is image i of the seed, or image 0 of seed i of a sequence.
        batch_size: images at a time, over all devices; particles are images.
        method: "auto", "forced" or "smc".
        n_particles: of smc.
        best_of: draw so many candidates and keep the one that is likeliest under the model.
        progress: show a bar on standard error, by rows.
        on_images: hears the numbers (b,) and tokens (b, T) of images as soon as they are finished; with several
            candidates, of all at the end.

    Raises:
        UserError: if the model is a BERT model, the shapes do not fit or a number means nothing.
    """
    controls = Controls(temperature, top_k, top_p, min_p)
    if method not in METHODS:
        raise UserError(f"expected a method of {', '.join(METHODS)}, got {method!r}")
    for name, number in (("batch size", batch_size), ("n_particles", n_particles), ("best_of", best_of)):
        if number < 1:
            raise UserError(f"expected a {name} of at least 1, got {number}")
    model = getattr(model, "image_gpt", model)
    tokens, known = check_images(model, tokens, known)
    keys = [(*key, candidate) for key in image_keys(seed, len(tokens)) for candidate in range(best_of)]
    forced = is_prefix(known) if method == "auto" else np.full(len(tokens), method == "forced")
    drawn, known, forced = (array.repeat(best_of, axis=0) for array in (tokens, known, forced))
    kinds = [
        (np.flatnonzero(forced), draw_forced, batch_size),
        (np.flatnonzero(~forced), partial(draw_conditioned, n_particles=n_particles), batch_size // n_particles),
    ]
    n_devices = len(decoders(model))
    sizes = [-(-min(max(size, 1), len(rows)) // n_devices) for rows, _, size in kinds]
    n_rows = sum(-(-len(rows) // size) for (rows, _, _), size in zip(kinds, sizes, strict=True) if size)
    with tqdm(total=n_rows * model.config.n_px, unit="row", disable=not progress, leave=False) as bar:
        for (rows, draw, _), size in zip(kinds, sizes, strict=True):

            def task(row: int) -> tuple[np.ndarray, np.ndarray, Key]:
                return drawn[row], known[row], keys[row]

            for batch, filled in _run(model, rows, size, task, partial(draw, controls=controls), bar.update):
                drawn[batch] = filled
                if best_of == 1:
                    on_images(batch, filled)
    if best_of == 1:
        return drawn
    nats = score(model, drawn, batch_size=batch_size).astype("float64").sum(axis=1).reshape(-1, best_of)
    best = drawn.reshape(-1, best_of, drawn.shape[1])[np.arange(len(nats)), nats.argmin(axis=1)]
    on_images(np.arange(len(best)), best)
    return best


def sample_batches(
    model: ImageGPT,
    numbers: Iterable[int],
    *,
    controls: Controls | None = None,
    seed: int = 0,
    batch_size: int = 8,
    on_rows: Callable[[int], object] = lambda count: None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw the images of these numbers, however many, and hand them on as they are finished.

    Args:
        model: the model to draw from.
        numbers: of the images, which are those of `sample` with the same seed.
        controls: what to draw from; None leaves the model's distribution as it is.
        seed: as in `sample`.
        batch_size: images at a time, over all devices.
        on_rows: hears how many rows of a batch were finished.

    Yields:
        (b,) integers, the numbers of a batch, and its tokens (b, T) int32. Batches come in any order.

    Raises:
        UserError: if the model is a BERT model or a number means nothing.
    """
    model = getattr(model, "image_gpt", model)
    if batch_size < 1:
        raise UserError(f"expected a batch size of at least 1, got {batch_size}")
    tokens, known = check_images(
        model, np.zeros((1, model.config.n_tokens), "int32"), np.zeros(model.config.n_tokens, bool)
    )
    ((seed, _),) = image_keys(seed, 1)

    def task(number: int) -> tuple[np.ndarray, np.ndarray, Key]:
        return tokens[0], known[0], (seed, number, 0)

    size = -(-batch_size // len(decoders(model)))
    return _run(model, numbers, size, task, partial(draw_forced, controls=controls or Controls()), on_rows)


def stream(
    model: ImageGPT,
    tokens: np.ndarray,
    known: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | Sequence[int] = 0,
) -> Iterator[tuple[int, np.ndarray]]:
    """`complete` with the forced method, all images at once, shown while they are drawn.

    Args:
        model: the model to draw from; its first device draws.
        tokens: as in `complete`, like all that follow.
        known: likewise.
        temperature: likewise.
        top_k: likewise.
        top_p: likewise.
        min_p: likewise.
        seed: likewise.

    Yields:
        How many rows of pixels are final, at first those that are known as a whole, and tokens (B, T) int32, of which
        those rows, and all that is known, mean something.

    Raises:
        UserError: as `complete`, when the first rows are asked for.
    """
    controls = Controls(temperature, top_k, top_p, min_p)
    model = getattr(model, "image_gpt", model)
    tokens, known = check_images(model, tokens, known)
    uniforms = draw_uniforms([(*key, 0) for key in image_keys(seed, len(tokens))], tokens.shape[1])
    decoder = decoders(model)[0]
    drawing = Drawing(decoder, decoder.lay_out(), tokens, known, uniforms, controls)
    yield drawing.row, drawing.tokens()
    while drawing.row < drawing.end:
        drawing.draw_row()
        yield drawing.row if drawing.row < drawing.end else model.config.n_px, drawing.tokens()


def draw_forced(
    drawing: Callable[..., Drawing],
    tokens: np.ndarray,
    known: np.ndarray,
    keys: list[Key],
    on_rows: Callable[[int], object],
    controls: Controls,
) -> np.ndarray:
    """Tokens (B, T) with what is not known drawn in raster order from what is before it.

    Args:
        drawing: makes a `Drawing` of tokens, known, uniforms and controls.
        tokens: (B, T) int32.
        known: (B, T) booleans.
        keys: of each image's random numbers.
        on_rows: hears how many rows were finished.
        controls: what to draw from.
    """
    images = drawing(tokens, known, draw_uniforms(keys, tokens.shape[1]), controls)
    on_rows(images.row)
    while images.row < images.end:
        images.draw_row()
        on_rows(1)
    on_rows(images.n_rows - images.end)
    return images.tokens()


def _run(
    model: ImageGPT,
    numbers: Iterable[int],
    size: int,
    task: Callable[[int], tuple[np.ndarray, np.ndarray, Key]],
    draw: Callable[..., np.ndarray],
    on_rows: Callable[[int], object],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers (b,) and tokens (b, T) of batches of `size`, drawn on all of the model's devices."""
    devices = decoders(model)
    weights: dict[int, dict] = {}
    waiting = iter(numbers)
    batches = iter(lambda: list(itertools.islice(waiting, size)), [])

    def work(device: int, batch: list[int], check: Callable[[], None]) -> np.ndarray:
        def report(count: int) -> None:
            check()
            on_rows(count)

        if device not in weights:
            weights[device] = devices[device].lay_out()
        # The last batch is padded, as another size would be compiled anew.
        padded = batch + batch[-1:] * (size - len(batch))
        tokens, known, keys = zip(*map(task, padded), strict=True)
        drawing = partial(Drawing, devices[device], weights[device])
        return draw(drawing, np.stack(tokens), np.stack(known), list(keys), report)[: len(batch)]

    return ((np.array(batch), tokens) for batch, tokens in share(batches, len(devices), work))
