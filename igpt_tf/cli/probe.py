"""What a model's features are worth to a linear classifier, layer by layer."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.opening import load_backend, open_model, palette_for, warn, warn_of_same_images
from igpt_tf.cli.parser import add_device_options, add_model_options, non_negative, positive
from igpt_tf.errors import UsageError, UserError
from igpt_tf.probing.defaults import EPOCHS, MAX_ITER, NORMS, SUBSETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from igpt_tf.data.labelled import LabelledTokens
    from igpt_tf.data.sources.open import Source
    from igpt_tf.data.store.store import TokenStore
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.probing.few_labels import LowData
    from igpt_tf.probing.protocol import LayerResult, ProbeResult
    from igpt_tf.weights.presets import Preset


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--data", required=True, help="images with labels to fit to: a token store, or any source of run.py tokenize"
    )
    parser.add_argument("--test_data", help="images with labels to judge by (default: the test split, if there is one)")
    parser.add_argument("--out", type=Path, default=Path("out/probe"), help="folder for tables and plots")
    parser.add_argument("--cache", type=Path, help="folder where features are kept (default: features/ in --out)")
    parser.add_argument("--limit", type=positive, help="fit to so many images, of each class its share")
    parser.add_argument("--test_limit", type=positive, help="judge by so many, likewise")
    add_model_options(parser)
    features = parser.add_argument_group("features")
    features.add_argument(
        "--layers", nargs="+", default=["all"], metavar="L", help="numbers of layers, 0 is the embedding; or all"
    )
    features.add_argument(
        "--concatenate", nargs="+", type=non_negative, default=[], metavar="L", help="join these and probe them too"
    )
    features.add_argument(
        "--norm",
        choices=NORMS,
        default="block",
        help="what the states go through first: the norm that the next block reads them by (the paper), its second "
        "norm, the last norm, or none",
    )
    features.add_argument("--mixed_precision", action="store_true", help="compute in bfloat16; means stay float32")
    features.add_argument(
        "--bert_masks",
        type=non_negative,
        default=0,
        help="BERT: masks of each test image, whose majority is the answer (the paper: 5); 0 shows whole images",
    )
    features.add_argument("--bert_mask_prob", type=float, default=0.15, help="BERT: probability to be hidden")
    solver = parser.add_argument_group("solver")
    solver.add_argument(
        "--solver", choices=("lbfgs", "sgd"), default="lbfgs", help="sgd is for features that memory does not hold"
    )
    solver.add_argument("--max_iter", type=positive, default=MAX_ITER, help="lbfgs: most steps of a fit")
    solver.add_argument("--epochs", type=positive, default=EPOCHS, help="sgd: passes of a fit")
    solver.add_argument(
        "--labels_a_class",
        nargs="+",
        type=positive,
        default=[],
        metavar="K",
        help="probe the best layer, chosen with all labels, also with so few (lbfgs)",
    )
    solver.add_argument("--subsets", type=positive, default=SUBSETS, help="random subsets for each of --labels_a_class")
    solver.add_argument("--seed", type=non_negative, default=42, help="decides what is held out, subsets and masks")
    add_device_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> None:
    """Probe every layer, print a line for each, and write tables and plots."""
    layers = _layers(options.layers)
    if not 0 < options.bert_mask_prob < 1:
        raise UsageError(f"--bert_mask_prob: expected a probability between 0 and 1, found {options.bert_mask_prob}")
    load_backend()
    from tqdm import tqdm

    from igpt_tf.backend.devices import choose_devices, device_scope
    from igpt_tf.data.open import open_data
    from igpt_tf.model import ImageGPT
    from igpt_tf.probing.cache import FeatureCache
    from igpt_tf.probing.linear import require_all_classes
    from igpt_tf.probing.protocol import ProbeResult, probe
    from igpt_tf.probing.report import write_table
    from igpt_tf.storage.files import require_writable

    preset = open_model(options)
    devices = choose_devices(options.n_gpu)
    cache = options.cache or options.out / "features"
    for folder in (options.out, cache):
        require_writable(folder)
    # Opened before either is read, which may take long.
    train_images = open_data(options.data)
    test_images = open_data(options.test_data or _test_split(options.data))
    everything = _read(options, preset, train_images)
    train = _limited(everything, options.limit, options.seed)
    # Of the limited images alone, nobody knows how many classes there should be.
    require_all_classes(train.labels, everything.n_class)
    test = _read(options, preset, test_images, getattr(train_images, "palette", None))
    warn_of_same_images(everything, test)
    test = _limited(test, options.test_limit, options.seed)
    with device_scope(devices):
        model = ImageGPT.from_preset(preset, dtype="mixed_bfloat16" if options.mixed_precision else None)

    results: list[LayerResult] = []

    def tell(result: LayerResult) -> None:
        # The table grows layer by layer, because all may take hours.
        results.append(result)
        found = ProbeResult(tuple(results), (), test.labels, train.n_class, train.classes)
        write_table(options.out / "probe.csv", found, options.solver)
        _warn_of_solver(result, options)
        if not options.json:
            tqdm.write(_line(options, result, len(test)), file=sys.stdout)

    result = probe(
        model,
        train,
        test,
        layers=layers,
        concatenate=options.concatenate,
        norm=options.norm,
        fit=_solver(options),
        labels_a_class=options.labels_a_class,
        max_iter=options.max_iter,
        n_subsets=options.subsets,
        bert_masks=options.bert_masks,
        mask_probability=options.bert_mask_prob,
        batch_size=options.n_sub_batch * len(devices),
        seed=options.seed,
        cache=FeatureCache(cache),
        progress=True,
        tell=tell,
    )
    _finish(options, result, {"test_data": test.name, "images": len(train), "test_images": len(test)})


def _finish(options: argparse.Namespace, result: ProbeResult, about: dict) -> None:
    """Write what was found, and print what is best."""
    from igpt_tf.probing import report
    from igpt_tf.storage.files import atomic_write

    settings = ("model", "data", "norm", "solver", "bert_masks", "mixed_precision", "seed")
    fields = {name: getattr(options, name) for name in settings} | about | report.fields_of(result, options.solver)
    with atomic_write(options.out / "probe.json") as file:
        file.write(json.dumps(fields, indent=1).encode())
    report.write_table(options.out / "probe.csv", result, options.solver)
    report.plot_layers(options.out / "probe.png", result)
    best = result.best
    table, plot = options.out / "confusion.csv", options.out / "confusion.png"
    if best is not None:
        report.write_confusion(table, result)
        report.plot_confusion(plot, result)
    if options.json:
        print(json.dumps(fields))
    if best is None:
        # Those of a probe before are not this one's.
        for path in (table, plot):
            path.unlink(missing_ok=True)
        way = "are the model's weights finite?" if options.solver == "sgd" else "give a larger --max_iter"
        raise UserError(f"no solver converged, so there is no accuracy: {way}")
    for few in result.low_data:
        _warn_of_subsets(few)
        if not options.json:
            print(_few_line(few))
    if not options.json:
        print(f"best: layer {best.name}, {best.accuracy:.2f} % (chosen by {best.held_out:.2f} % held out)")
        print(options.out)


def _layers(words: list[str]) -> list[int] | None:
    """What follows --layers: numbers, or all of them as None."""
    if words == ["all"]:
        return None
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--layers: expected all, or numbers from 0, found {' '.join(words)}")
    return [int(word) for word in words]


def _test_split(data: str) -> str:
    """The test split that belongs to --data."""
    from igpt_tf.data.sources.arrays import SPLITS, has_split
    from igpt_tf.data.sources.named import NAMES

    start, colon, end = data.rpartition(":")
    source = start if colon and end in SPLITS else data
    if f"{source}:test" == data:
        raise UsageError(f"--data {data} is the test split: name other images to judge by with --test_data")
    if source in NAMES or has_split(source) or source.lower().endswith(".npz"):
        return f"{source}:test"
    raise UsageError(f"--data {data} has no test split: give images with labels to judge by with --test_data")


def _read(
    options: argparse.Namespace, preset: Preset, images: TokenStore | Source, others: Palette | None = None
) -> LabelledTokens:
    from igpt_tf.data.open import read_labelled

    palette = palette_for(options, preset, images, others)
    return read_labelled(images, preset.config.n_px, palette, preset.config.n_vocab)


def _limited(data: LabelledTokens, limit: int | None, seed: int) -> LabelledTokens:
    """Of too many images as many as the limit says, random by seed, of each class its share."""
    import numpy as np

    from igpt_tf.data.split import stratified_order

    if limit is None or limit >= len(data):
        return data
    return data.part(np.sort(stratified_order(data.labels, seed)[:limit]))


def _solver(options: argparse.Namespace) -> Callable:
    from igpt_tf.probing.linear import fit_linear
    from igpt_tf.probing.sgd import fit_sgd

    if options.solver == "sgd":
        return functools.partial(fit_sgd, epochs=options.epochs)
    return functools.partial(fit_linear, max_iter=options.max_iter)


def _line(options: argparse.Namespace, result: LayerResult, n_images: int) -> str:
    if not result.converged:
        return f"layer {result.name}: did not converge"
    told = f"strength {result.strength:g}, converged"
    if options.solver == "sgd":
        told = f"learning rate {result.strength:g}, {options.epochs} passes"
    return (
        f"layer {result.name}: {result.accuracy:.2f} % of {n_images} test images, {result.held_out:.2f} % held out "
        f"({told})"
    )


def _few_line(few: LowData) -> str:
    found = "did not converge" if few.mean is None else f"{few.mean:.2f} %"
    spread = "" if few.std is None else f" ± {few.std:.2f}"
    return f"{few.labels_a_class} labels a class: {found}{spread} ({len(few.converged)} subsets)"


def _warn_of_solver(result: LayerResult, options: argparse.Namespace) -> None:
    """Say which solvers gave up, and what that means."""
    way_on = (
        f"give a --max_iter above {options.max_iter}" if options.solver == "lbfgs" else "it left the finite numbers"
    )
    gave_up = ", ".join(f"{trial.strength:g}" for trial in result.trials if not trial.converged)
    if not result.converged:
        warn(f"layer {result.name}: the solver DID NOT CONVERGE, so it has no accuracy; {way_on}")
    elif gave_up:
        warn(
            f"layer {result.name}: the solver did not converge with strength {gave_up}, which was not chosen; {way_on}"
        )


def _warn_of_subsets(few: LowData) -> None:
    lost = len(few.accuracies) - len(few.converged)
    if lost:
        warn(
            f"{few.labels_a_class} labels a class: the solver did not converge on {lost} subsets, left out; "
            "give a larger --max_iter"
        )
