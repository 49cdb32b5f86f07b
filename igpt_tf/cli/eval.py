"""Losses of a model on images, in nats and bits per token, and the accuracy of its head if it has one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igpt_tf.cli.memory import bytes_to_predict, require_memory
from igpt_tf.cli.opening import load_model, open_model, resolve_palette
from igpt_tf.cli.parser import add_device_options, add_model_options, non_negative, positive, probability
from igpt_tf.cli.program import command
from igpt_tf.cli.source import add_key_options, open_images
from igpt_tf.errors import UsageError, UserError

if TYPE_CHECKING:
    import numpy as np

    from igpt_tf.data.tokens import Tokens
    from igpt_tf.scoring.classes import ClassEvaluation
    from igpt_tf.scoring.evaluation import Evaluation
    from igpt_tf.weights.presets import Preset

# OpenAI's names of the files and of the splits in what it prints; the largest comes last.
SPLITS = {"te": "test", "va": "valid", "tr": "train"}

EXAMPLES = ("--data cifar10:test", "--model my-model --data photos --json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add_model_options(parser)
    add(
        "--data_path",
        "--data",
        required=True,
        help="OpenAI's prefix: PREFIX_{trX,trY,vaX,vaY,teX,teY}.npy, those that exist; or a token store, an .npy of "
        f"tokens or images, a folder of pictures, or any other source of {command('tokenize')}, such as cifar10:test",
    )
    add_key_options(parser)
    add("--limit", type=positive, help="only this many images of each split, from the first")
    add("--bert_mask_prob", type=probability, default=0.15, help="BERT: probability that a pixel is hidden")
    add(
        "--votes",
        type=non_negative,
        default=1,
        help="BERT with a head: masks of each image that vote on its class (the paper: 5); 0 shows the whole image",
    )
    add("--seed", type=non_negative, default=42, help="BERT: seed of the hidden pixels")
    add(
        "--by_class",
        action="store_true",
        help="of a model trained with classes: also the loss given each image's class, and the accuracy of the class "
        "under which it is likeliest; takes as much longer as there are classes",
    )
    add(
        "--confusion",
        action="store_true",
        help="also a table of how many images of each class are taken for which, with a head or --by_class",
    )
    add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Evaluate every split and print a line for each."""
    preset = open_model(options)
    if options.votes != 1 and not preset.config.bert:
        raise UsageError("--votes: expected a BERT model, got an autoregressive one: leave it out")
    if options.by_class and preset.config.n_start == 1:
        raise UsageError("--by_class: expected a model that was trained with classes, got one without: leave it out")
    has_head = preset.n_class is not None and not options.by_class
    if options.confusion and not (has_head or options.by_class):
        raise UsageError(
            "--confusion: expected a model with a head, or --by_class, got neither: make a head with "
            f"{command('finetune')}"
        )
    splits = _read_splits(options, preset, has_head)
    model, batch_size = load_model(options, preset, with_head=has_head)
    from igpt_tf.scoring.classes import evaluate_classes
    from igpt_tf.scoring.evaluation import evaluate

    classes = preset.start_classes if options.by_class else preset.classes
    n_class = preset.config.n_start - 1 if options.by_class else preset.n_class
    names = list(classes or map(str, range(n_class or 0)))
    longest = max(len(tokens) for tokens, _ in splits.values())
    require_memory(min(batch_size, longest), bytes_to_predict(preset.config), "--n_sub_batch")
    results = {}
    for name, (tokens, labels) in splits.items():
        if options.by_class and labels is not None:
            result = evaluate_classes(model, tokens, labels, batch_size=batch_size, progress=True)
            line, fields = _class_line(name, result), _class_fields(result)
        else:
            result = evaluate(
                model,
                tokens,
                labels,
                batch_size=batch_size,
                mask_probability=options.bert_mask_prob,
                votes=options.votes,
                seed=options.seed,
                progress=True,
            )
            line, fields = _line(name, result), _fields(result)
        results[name] = fields
        counts = _confusion(labels, result.answers, len(names)) if options.confusion else None
        if counts is not None:
            fields |= {"classes": names, "confusion": counts}
            line += "\n" + _table(names, counts)
        if not options.json:
            print(line, flush=True)
    if options.json:
        print(json.dumps(results))


def _read_splits(
    options: argparse.Namespace, preset: Preset, has_head: bool
) -> dict[str, tuple[Tokens, np.ndarray | None]]:
    """Name to tokens (N, T) and labels, of OpenAI's splits or else of the one source."""
    import numpy as np

    from igpt_tf.data.labelled import LabelledTokens, TokenRows
    from igpt_tf.data.open import read_data, require_labels
    from igpt_tf.data.sources.libraries import find_library
    from igpt_tf.data.sources.named import NAMES

    prefix = options.data_path
    # Without classes to evaluate, the labels are not needed.
    n_class, classes = (preset.n_class, preset.classes) if has_head else (None, None)
    if options.by_class:
        n_class, classes = preset.config.n_start - 1, preset.start_classes
    found = {
        name: f"{prefix}_{short}X.npy" if n_class is None else f"{prefix}:{name}"
        for short, name in SPLITS.items()
        if Path(f"{prefix}_{short}X.npy").exists()
    }
    if not found:
        name, colon, _ = prefix.rpartition(":")
        is_named = prefix.partition(":")[0] in NAMES or find_library(prefix) is not None
        if not is_named and not Path(prefix).exists() and not (colon and Path(name).exists()):
            raise UserError(f"{prefix}: expected {prefix}_teX.npy (or _trX, _vaX), an .npy or a folder, got none")
        found = {"data": prefix}
    splits = {}
    for name, path in found.items():
        images = open_images(options, path)
        palette = resolve_palette(options, preset, images)
        if options.by_class:
            require_labels(images)
        tokens, labels = read_data(images, preset.config.n_px, palette, preset.config.n_vocab)
        if labels is not None:
            named = LabelledTokens(images.name, tokens, labels, images.classes)
            labels = None if n_class is None else named.in_classes(n_class, classes).labels[: options.limit]
        rows = np.arange(len(tokens))[: options.limit]
        splits[name] = (tokens if options.limit is None else TokenRows(tokens, rows), labels)
    return splits


def _line(name: str, result: Evaluation) -> str:
    """OpenAI's line, and the same in words."""
    line = f"{name} gen: {result.nats:.4f}"
    words = f"{result.nats:.4f} nats/token, {result.bits:.4f} bits/token generative loss"
    if result.accuracy is not None:
        line += f" clf: {result.class_nats:.4f} acc: {result.accuracy:.2f}"
        words += f", {result.class_nats:.4f} nats class loss, {result.accuracy:.2f} % accuracy"
    return f"{line} ({words}, {result.images} images)"


def _class_line(name: str, result: ClassEvaluation) -> str:
    return (
        f"{name} gen: {result.nats:.4f} given class: {result.given_nats:.4f} likeliest class: {result.accuracy:.2f} "
        f"% right (losses in nats/token, without and with the class, and accuracy; {result.images} images)"
    )


def _fields(result: Evaluation) -> dict[str, Any]:
    fields: dict[str, Any] = {"images": result.images, "nats_per_token": result.nats, "bits_per_token": result.bits}
    if result.accuracy is not None:
        fields |= {"clf_nats": result.class_nats, "accuracy": result.accuracy / 100}
    return fields


def _class_fields(result: ClassEvaluation) -> dict[str, Any]:
    return {
        "images": result.images,
        "nats_per_token": result.nats,
        "given_nats_per_token": result.given_nats,
        "accuracy": result.accuracy / 100,
    }


def _confusion(labels: np.ndarray | None, answers: np.ndarray | None, n_class: int) -> list[list[int]] | None:
    """How many images of each class (row) are taken for which (column); None without labels."""
    from sklearn.metrics import confusion_matrix

    if labels is None or answers is None:
        return None
    numbers = labels.argmax(axis=1) if labels.ndim == 2 else labels
    return confusion_matrix(numbers, answers, labels=range(n_class)).tolist()


def _table(names: list[str], counts: list[list[int]]) -> str:
    """The counts with the names of the true classes on the left, and of the answers above."""
    rows = [["true \\ answer", *names], *([name, *map(str, row)] for name, row in zip(names, counts, strict=True))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
