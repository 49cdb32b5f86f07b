"""Images drawn, completed and streamed: what the public calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
from tqdm import tqdm

from igpt_tf.errors import UserError, whole_number
from igpt_tf.model.image_gpt import ImageGPT, image_gpt_of
from igpt_tf.sampling.batches import draw_batches, draw_forced
from igpt_tf.sampling.drawing import Drawing, decoders
from igpt_tf.sampling.filters import Controls, Key, draw_uniforms
from igpt_tf.sampling.inputs import check_images, image_keys
from igpt_tf.sampling.region import is_prefix
from igpt_tf.sampling.smc import draw_conditioned
from igpt_tf.scoring.evaluation import score

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
    n = whole_number("n", n, 1)
    model = image_gpt_of(model)
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
    the limit of many particles, at the cost of as many images. "auto" is forced for prefixes and smc elsewhere. Where
    only the likeliest colour can be drawn (temperature 0, top_k 1 or min_p 1), all particles and candidates would be
    equal: then it is forced, with one candidate, whatever was asked for.

    Args:
        model: the model to draw from.
        tokens: (B, T) integers; values that are not known do not matter.
        known: booleans (B, T) or (T,).
        temperature: as in `sample`, like all up to min_p; smc weighs by the model's own probabilities nevertheless.
        top_k: likewise.
        top_p: likewise.
        min_p: likewise.
        seed: row i is image i of the seed, or image 0 of seed i of a sequence.
        batch_size: images at a time, over all devices; particles are images. Those of an image are drawn together, so
            that smc draws `n_particles` at a time on each device, however small the batch.
        method: "auto", "forced" or "smc".
        n_particles: of smc; fewer need less memory.
        best_of: draw so many candidates and keep the one that is likeliest under the model.
        progress: show a bar on standard error, by rows.
        on_images: hears the numbers (b,) and tokens (b, T) of images as soon as they are finished.

    Raises:
        UserError: if the model is a BERT model, the shapes do not fit or a number means nothing.
    """
    controls = Controls(temperature, top_k, top_p, min_p)
    if method not in METHODS:
        raise UserError(f"expected a method of {', '.join(METHODS)}, got {method!r}")
    batch_size = whole_number("batch_size", batch_size, 1)
    n_particles = whole_number("n_particles", n_particles, 1)
    best_of = whole_number("best_of", best_of, 1)
    model = image_gpt_of(model)
    tokens, known = check_images(model, tokens, known)
    keys = image_keys(seed, len(tokens))
    forced = is_prefix(known) if method == "auto" else np.full(len(tokens), method == "forced")
    if controls.greedy:
        forced, best_of = np.ones_like(forced), 1

    def task(candidate: int) -> tuple[np.ndarray, np.ndarray, Key]:
        image, number = divmod(candidate, best_of)
        return tokens[image], known[image], (*keys[image], number)

    smc = partial(draw_conditioned, n_particles=n_particles)
    parts = []
    for images, draw, at_once in (
        (np.flatnonzero(forced), draw_forced, batch_size),
        (np.flatnonzero(~forced), smc, batch_size // n_particles),
    ):
        # Candidates are compared a few images at a time, so that what is finished is handed on.
        step = max(1, len(images) if best_of == 1 else batch_size // best_of)
        size = -(-min(max(at_once, 1), min(step, len(images)) * best_of) // len(decoders(model)))
        parts += [(images[i : i + step], draw, size) for i in range(0, len(images), step)]
    n_batches = sum(-(-len(images) * best_of // size) for images, _, size in parts)
    drawn = tokens.copy()
    with tqdm(total=n_batches * model.config.n_px, unit="row", disable=not progress, leave=False) as bar:
        for images, draw, size in parts:
            candidates = (images[:, None] * best_of + np.arange(best_of)).reshape(-1)
            batches = draw_batches(model, candidates, size, task, partial(draw, controls=controls), bar.update)
            finished = batches if best_of == 1 else [_likeliest(model, batches, best_of, batch_size)]
            for numbers, filled in finished:
                drawn[numbers] = filled
                on_images(numbers, filled)
    return drawn


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
    model = image_gpt_of(model)
    batch_size = whole_number("batch_size", batch_size, 1)
    tokens, known = check_images(
        model, np.zeros((1, model.config.n_tokens), "int32"), np.zeros(model.config.n_tokens, bool)
    )
    ((seed, _),) = image_keys(seed, 1)

    def task(number: int) -> tuple[np.ndarray, np.ndarray, Key]:
        return tokens[0], known[0], (seed, number, 0)

    numbers = (whole_number("the number of an image", number, 0) for number in numbers)
    size = -(-batch_size // len(decoders(model)))
    return draw_batches(model, numbers, size, task, partial(draw_forced, controls=controls or Controls()), on_rows)


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
    model = image_gpt_of(model)
    tokens, known = check_images(model, tokens, known)
    uniforms = draw_uniforms([(*key, 0) for key in image_keys(seed, len(tokens))], tokens.shape[1])
    decoder = decoders(model)[0]
    drawing = Drawing(decoder, decoder.lay_out(), tokens, known, uniforms, controls)
    yield drawing.row, drawing.tokens()
    while drawing.row < drawing.end:
        drawing.draw_row()
        yield drawing.row if drawing.row < drawing.end else model.config.n_px, drawing.tokens()


def _likeliest(
    model: ImageGPT, batches: Iterable[tuple[np.ndarray, np.ndarray]], best_of: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (b,) of images and tokens (b, T) of the likeliest of all candidates of each.

    Args:
        model: which judges.
        batches: numbers and tokens of candidates, those of image i from i * best_of, in any order.
        best_of: candidates an image.
        batch_size: images at a time, over all devices.
    """
    candidates, tokens = map(np.concatenate, zip(*batches, strict=True))
    order = candidates.argsort()
    tokens = tokens[order]
    # Every part has a multiple of `best_of`: batches of one size are compiled once.
    nats = score(model, tokens, batch_size=min(batch_size, best_of)).astype("float64").sum(axis=1)
    best = nats.reshape(-1, best_of).argmin(axis=1)
    rows = np.arange(len(best)) * best_of + best
    return candidates[order][::best_of] // best_of, tokens[rows]
