"""Draw pictures with a cascade, from coarse to fine, or variations of photographs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.console import doing, remark, report, tell_replaced
from igpt_tf.cli.parser import non_negative, number, positive
from igpt_tf.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.latent.cascade import Cascade
    from igpt_tf.sampling.controls import Controls

# The cascade that everybody has.
BUNDLED = Path("nano-cascade")
EXAMPLES = (
    "--n 16 --temperature 1 0.9 0.9",
    "--model my-cascade --from photo.jpg --stage 1 --n 4",
)
# The figure with a column for each stage, and how many pictures it shows.
STAGES, SHOWN = "stages.png", 16


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--model", type=Path, default=BUNDLED, help="folder of a cascade, or a bundled one's name (%(default)s)")
    add("--n", "--num_images", type=positive, default=16, help="pictures to draw, or variations of each photograph")
    add("--out", "--out_dir", type=Path, default=Path("out"), help="folder for the pictures")
    add("--seed", type=non_negative, default=42, help="seed of the random numbers")
    add("--from", dest="photos", nargs="+", metavar="PICTURE", help="begin with the coarse codes of these pictures")
    add(
        "--stage",
        type=non_negative,
        help="with --from: the last stage whose codes are the picture's (the last but one)",
    )
    add("--scale", type=positive, default=1, help="times that the pictures are enlarged")
    add("--n_sub_batch", "--batch_size", type=positive, default=16, help="images per batch")
    each = add_stage_options(parser)
    each.add_argument("--num_beam", type=positive, nargs="+", default=[1], help="draw this many, keep the likeliest")


def add_stage_options(parser: argparse.ArgumentParser) -> Any:
    """Declare how the codes of each stage are drawn; returns the group."""
    each = parser.add_argument_group("drawing", "one value for all stages, or one for each from coarse to fine")
    each.add_argument("--temperature", type=number, nargs="+", default=[1.0], help="below 1 favours likely codes")
    each.add_argument("--top_k", type=positive, nargs="+", help="draw only from the k likeliest codes")
    each.add_argument("--top_p", type=number, nargs="+", help="draw from the smallest set with this probability")
    each.add_argument("--min_p", type=number, nargs="+", help="draw from codes this many times as likely as the best")
    each.add_argument(
        "--beam_width",
        type=non_negative,
        nargs="+",
        help="search for the likeliest codes with this many beams; 0: draw",
    )
    return each


def run(options: argparse.Namespace) -> None:
    """Draw, and write the pictures and the figure of the stages."""
    from igpt_tf.storage.files import check_outputs, check_writable

    if options.stage is not None and not options.photos:
        raise UsageError("--stage: expected --from with it, got it alone: give pictures, or leave it out")
    check_writable(options.out)
    load_backend(options.backend)
    from igpt_tf.latent.cascade import Cascade
    from igpt_tf.pictures.writing import grid, write_png

    with doing("loading the cascade"):
        cascade = Cascade.from_preset(options.model)
    how = {
        "controls": controls_of_stages(options, cascade.n_stages),
        "num_beam": _of_stages("--num_beam", options.num_beam, cascade.n_stages),
        "seed": options.seed,
        "batch_size": options.n_sub_batch,
        "progress": True,
    }
    names, given = [""], []
    if options.photos:
        names, given = _photographs(options, cascade)
    n = options.n * len(names)
    stems = [f"{name}_{i}" if name else f"sample_{i}" for name in names for i in range(options.n)]
    paths = [options.out / f"{stem}.png" for stem in stems]
    tell_replaced(check_outputs([*paths, options.out / STAGES], options.photos or []))
    codes = cascade.draw(n, given=given, **how)
    for path, picture in zip(paths, cascade.decode(codes[-1]), strict=True):
        write_png(path, picture, options.scale)
    shown = [cascade.decode(part[:SHOWN], stage) for stage, part in enumerate(codes)]
    write_png(options.out / STAGES, grid([list(row) for row in zip(*shown, strict=True)], scale=options.scale), 1)
    if n > SHOWN:
        remark(f"{options.out / STAGES} shows the first {SHOWN} of {n} pictures")
    written = [str(path) for path in (*paths, options.out / STAGES)]
    report(options, {"pictures": written[:-1], "stages": written[-1]}, *written)


def controls_of_stages(options: argparse.Namespace, n_stages: int) -> list[Controls]:
    """How the codes of each stage are drawn; a `UsageError` for invalid values."""
    from igpt_tf.sampling.controls import Controls

    values: dict[str, list[Any]] = {}
    for name in ("temperature", "top_k", "top_p", "min_p", "beam_width"):
        typed = getattr(options, name) or [None]
        values[name] = [one or None for one in typed] if name == "beam_width" else typed
        values[name] = _of_stages(f"--{name}", values[name], n_stages)
    return [Controls(**dict(zip(values, row, strict=True))) for row in zip(*values.values(), strict=True)]


def _of_stages(flag: str, values: list[Any], n_stages: int) -> list[Any]:
    if len(values) not in (1, n_stages):
        raise UsageError(f"{flag}: expected one value, or one for each of {n_stages} stages, got {len(values)}")
    return values * n_stages if len(values) == 1 else values


def _photographs(options: argparse.Namespace, cascade: Cascade) -> tuple[list[str], list[np.ndarray]]:
    """The names of the photographs, and their codes (n, T) of the first stages, each as often as it is varied."""
    from igpt_tf.download.http import read_url
    from igpt_tf.pictures.reading import names_of, read_pictures

    last = cascade.n_stages - 2 if options.stage is None else options.stage
    if last > cascade.n_stages - 2:
        raise UsageError(f"--stage: expected at most {cascade.n_stages - 2}, as the last is drawn, got {last}")
    if cascade.height != cascade.width:
        raise UsageError(f"--from: expected a cascade of square pictures, got {cascade.height} x {cascade.width}")
    paths, pictures = read_pictures(options.photos, cascade.height, read_url)
    codes = cascade.encode(pictures)[: last + 1]
    return names_of(paths), [part.repeat(options.n, axis=0) for part in codes]
