"""Write a model in another format: a preset folder, Hugging Face's, or OpenAI's."""

from __future__ import annotations

import argparse
from pathlib import Path

from igpt_tf.cli.backends import silenced
from igpt_tf.cli.console import doing, report
from igpt_tf.cli.opening import open_named_preset
from igpt_tf.cli.parser import positive

EXAMPLES = ("igpt-s my-igpt-s", "nano-mnist for-transformers --to huggingface --drop_classes")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("model", help="a model as every --model takes it: a name, a folder, or the prefix of an OpenAI checkpoint")
    add("out", type=Path, help="a new or empty folder")
    add(
        "--to",
        choices=("preset", "huggingface", "openai"),
        default="preset",
        help="preset: our own format; huggingface: what transformers loads; openai: what OpenAI's own code loads",
    )
    add("--n_shards", type=positive, default=1, help="openai: number of files with arrays")
    add(
        "--drop_classes", action="store_true", help="leave out the start embeddings of classes, which only presets have"
    )


def run(options: argparse.Namespace) -> None:
    """Write the folder and print it."""
    preset = open_named_preset(options.model)
    from igpt_tf.weights.convert import convert

    with silenced(), doing("converting the model"):
        convert(preset, options.out, options.to, options.n_shards, options.drop_classes)
    files = sorted(str(path) for path in options.out.iterdir())
    report(options, {"folder": str(options.out), "format": options.to, "files": files}, str(options.out))
