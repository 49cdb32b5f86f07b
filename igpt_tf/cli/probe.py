"""The command `probe`: linear classifiers of a model's features, layer by layer."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli.backends import load_backend
from igpt_tf.cli.console import doing, report, tell_replaced, warn
from igpt_tf.cli.memory import bytes_to_predict, require_memory
from igpt_tf.cli.opening import open_model, resolve_palette, warn_of_same_images
from igpt_tf.cli.parser import add_device_options, add_model_options, non_negative, positive, probability
from igpt_tf.cli.source import add_key_options, files_of, open_images, refuse_inside
from igpt_tf.errors import UsageError, UserError
from igpt_tf.probing.defaults import EPOCHS, MAX_ITER, NORMS, REPORT_FILES, SUBSETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from igpt_tf.data.labelled import LabelledTokens
    from igpt_tf.data.sources.open import Source
    from igpt_tf.data.store.store import TokenStore
    from igpt_tf.pictures.palette import Palette
    from igpt_tf.probing.few_labels import LowData
    from igpt_tf.probing.protocol import LayerResult
    from igpt_tf.weights.presets import Preset

EXAMPLES = ("--data cifar10 --limit 5000", "--model my-model --data pets --test_data other-pets --layers 4 5 6")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--data", required=True, help="training images with labels: a token store, or any source that tokenize reads")
    add("--test_data", help="test images with labels (default: the test split of --data, if it has one)")
    add_key_options(parser)
    add("--out", type=Path, default=Path("out/probe"), help="folder for tables and plots")
    add("--cache", type=Path, help="folder where features are kept (default: features/ in --out)")
    add("--limit", type=positive, help="use only this many training images, with all classes in proportion")
    add("--test_limit", type=positive, help="use only this many test images, with all classes in proportion")
    add_model_options(parser)
    add = parser.add_argument_group("features").add_argument
    add("--layers", nargs="+", default=["all"], metavar="L", help="layers, numbers from 0, the embedding; or all")
    add("--concatenate", nargs="+", type=non_negative, default=[], metavar="L", help="also probe these layers together")
    add(
        "--norm",
        choices=NORMS,
        default="block",
        help="norm applied to the states before their mean: the one by which the next block reads them (the paper), "
        "that block's second norm, the last norm, or none",
    )
    add("--mixed_precision", action="store_true", help="compute in bfloat16; the features are float32")
    add(
        "--bert_masks",
        type=non_negative,
        default=0,
        help="BERT: classify by a majority vote over this many random masks (the paper: 5); 0 shows whole images",
    )
    add("--bert_mask_prob", type=probability, default=0.15, help="BERT: probability that a token is masked")
    add = parser.add_argument_group("solver").add_argument
    add("--solver", choices=("lbfgs", "sgd"), default="lbfgs", help="sgd is for features that do not fit in memory")
    add("--max_iter", type=positive, default=MAX_ITER, help="lbfgs: largest number of iterations of a fit")
    add("--epochs", type=positive, default=EPOCHS, help="sgd: passes over the images in each fit")
    few = "also probe the best layer, chosen with all labels, with K labels per class (by lbfgs)"
    add("--labels_per_class", "--labels_a_class", nargs="+", type=positive, default=[], metavar="K", help=few)
    add("--subsets", type=positive, default=SUBSETS, help="random subsets for each K of --labels_per_class")
    add("--seed", type=non_negative, default=42, help="determines the held-out images, subsets and masks")
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Probe every layer, print a line for each, and write tables and plots."""
    from igpt_tf.storage.files import check_outputs, check_writable

    layers = _layers(options.layers)
    names = options.data, options.test_data or test_split(options.data)
    refuse_inside(options.out, *names)
    preset = open_model(options)
    cache = options.cache or options.out / "features"
    for folder in (options.out, cache):
        check_writable(folder)
    # Both are opened before either is read, which may take long.
    sources = open_images(options, names[0]), open_images(options, names[1])
    read = [path for name, source in zip(names, sources, strict=True) for path in files_of(name, source)]
    tell_replaced(check_outputs([options.out / name for name in REPORT_FILES], read))
    palette = resolve_palette(options, preset, *sources)
    load_backend(options.backend)
    from igpt_tf.backend.devices import choose_devices, device_scope
    from igpt_tf.model import ImageGPT
    from igpt_tf.probing.cache import FeatureCache
    from igpt_tf.probing.protocol import ProbeResult, probe
    from igpt_tf.probing.report import fields_of, write_report, write_table

    devices = choose_devices(options.n_gpu)
    train, test = read_both(options, preset, palette, *sources)
    batch_size = options.n_sub_batch * len(devices)
    require_memory(min(batch_size, len(train)), bytes_to_predict(preset.config), "--n_sub_batch")
    with device_scope(devices), doing("loading the model"):
        model = ImageGPT.from_preset(preset, dtype="mixed_bfloat16" if options.mixed_precision else None)
    results: list[LayerResult] = []

    def tell(result: LayerResult) -> None:
        # The table grows layer by layer, because all layers may take hours.
        results.append(result)
        found = ProbeResult(tuple(results), (), test.labels, train.n_class, train.classes)
        write_table(options.out / "probe.csv", found, options.solver)
        _tell(options, result, len(test))

    result = probe(
        model,
        train,
        test,
        layers=layers,
        concatenate=options.concatenate,
        norm=options.norm,
        fit=_solver(options),
        labels_a_class=options.labels_per_class,
        max_iter=options.max_iter,
        n_subsets=options.subsets,
        bert_masks=options.bert_masks,
        mask_probability=options.bert_mask_prob,
        batch_size=batch_size,
        seed=options.seed,
        cache=FeatureCache(cache),
        progress=True,
        tell=tell,
    )
    shown = ("model", "data", "norm", "solver", "bert_masks", "mixed_precision", "seed")
    fields = {name: getattr(options, name) for name in shown}
    fields |= {"test_data": test.name, "images": len(train), "test_images": len(test)}
    fields |= fields_of(result, options.solver)
    write_report(options.out, result, fields, options.solver)
    best = result.best
    if best is None:
        if options.json:
            report(options, fields)
        advice = "are the model's weights finite?" if options.solver == "sgd" else "give a larger --max_iter"
        raise UserError(f"expected a fit that converges, got none: {advice}")
    lines = [_few_labels(few) for few in result.low_data]
    lines.append(f"best: layer {best.name}, {best.accuracy:.2f} % (chosen by {best.held_out:.2f} % held out)")
    report(options, fields, *lines, str(options.out))


def read_both(
    options: argparse.Namespace,
    preset: Preset,
    palette: Palette | None,
    trained: TokenStore | Source,
    tested: TokenStore | Source,
) -> tuple[LabelledTokens, LabelledTokens]:
    """The training and the test images, as many as the options say."""
    from igpt_tf.data.open import read_labelled
    from igpt_tf.probing.linear import require_all_classes

    config = preset.config
    everything = read_labelled(trained, config.n_px, palette, config.n_vocab)
    train = _limited(everything, options.limit, options.seed)
    # The number of classes is known from all images, not from the limited ones.
    require_all_classes(train.labels, everything.n_class)
    test = read_labelled(tested, config.n_px, palette, config.n_vocab, like=everything)
    warn_of_same_images(everything, test)
    return train, _limited(test, options.test_limit, options.seed)


def _limited(data: LabelledTokens, limit: int | None, seed: int) -> LabelledTokens:
    """A random subset of this many images, with all classes in proportion."""
    import numpy as np

    from igpt_tf.data.split import stratified_order

    if limit is None or limit >= len(data):
        return data
    return data.part(np.sort(stratified_order(data.labels, seed)[:limit]))


def test_split(data: str) -> str:
    """The name of the test split that belongs to the training images."""
    from igpt_tf.data.sources.arrays import SPLITS, has_split
    from igpt_tf.data.sources.huggingface import STATE
    from igpt_tf.data.sources.libraries import find_library
    from igpt_tf.data.sources.named import NAMES

    start, colon, end = data.rpartition(":")
    found = find_library(data)
    has_end = end in SPLITS if found is None else found.split is not None
    source = start if colon and has_end else data
    if f"{source}:test" == data:
        raise UsageError(
            f"--data: expected training images, got the test split {data}: name other test images with --test_data"
        )
    # Of the libraries' folders, those of one Dataset have no splits.
    has_splits = found is not None and not (Path(found.name) / STATE).is_file()
    if has_splits or source in NAMES or has_split(source) or source.lower().endswith(".npz"):
        return f"{source}:test"
    if found is None and not Path(data).exists():
        raise UserError(f"{data}: expected training images, got nothing: check the path")
    raise UsageError(
        f"--data: expected a test split, got none in {data}: give test images with labels with --test_data"
    )


def _layers(words: list[str]) -> list[int] | None:
    """The layers' numbers; None for all."""
    if words == ["all"]:
        return None
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--layers: expected all, or numbers from 0, got {' '.join(words)}")
    return [int(word) for word in words]


def _solver(options: argparse.Namespace) -> Callable:
    from igpt_tf.probing.linear import fit_linear
    from igpt_tf.probing.sgd import fit_sgd

    if options.solver == "sgd":
        return functools.partial(fit_sgd, epochs=options.epochs)
    return functools.partial(fit_linear, max_iter=options.max_iter)


def _tell(options: argparse.Namespace, result: LayerResult, n_images: int) -> None:
    """Print a layer's accuracy, and warn of fits that did not converge."""
    from tqdm import tqdm

    name, advice, ended = "C", f"give a --max_iter above {options.max_iter}", "converged"
    if options.solver == "sgd":
        name, advice, ended = "learning rate", "the loss did not stay finite", f"{options.epochs} epochs"
    layer = f"layer {result.name}"
    failed = ", ".join(f"{trial.hyperparameter:g}" for trial in result.trials if not trial.converged)
    if not result.converged:
        warn(f"{layer}: the solver DID NOT CONVERGE, so it has no accuracy; {advice}")
        line = f"{layer}: did not converge"
    else:
        if failed:
            warn(f"{layer}: the solver did not converge with {name} {failed}, which was not chosen; {advice}")
        how = f"{name} {result.hyperparameter:g}, {ended}"
        line = f"{layer}: {result.accuracy:.2f} % of {n_images} test images, {result.held_out:.2f} % held out ({how})"
    if not options.json:
        tqdm.write(line, file=sys.stdout)


def _few_labels(few: LowData) -> str:
    """A line about the accuracy with few labels; warns of fits that did not converge."""
    lost = len(few.accuracies) - len(few.converged)
    if lost:
        warn(
            f"{few.labels_a_class} labels per class: the solver did not converge on {lost} subsets, which are left "
            "out; give a larger --max_iter"
        )
    mean = "did not converge" if few.mean is None else f"{few.mean:.2f} %"
    spread = "" if few.std is None else f" ± {few.std:.2f}"
    return f"{few.labels_a_class} labels per class: {mean}{spread} ({len(few.converged)} subsets)"
