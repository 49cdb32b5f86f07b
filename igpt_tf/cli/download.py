"""`igpt download`, `igpt-download` or `python download.py`: OpenAI's flags, progress and results."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igpt_tf.cli import main as cli
from igpt_tf.cli.console import remark, report, warn
from igpt_tf.cli.parser import DONE, FAILED, non_negative, positive
from igpt_tf.cli.program import command, program
from igpt_tf.errors import UsageError, UserError
from igpt_tf.progress import ProgressBar
from igpt_tf.storage.places import CHECKPOINTS, download_folder

if TYPE_CHECKING:
    from igpt_tf.download.http import FetchError

# What the library advises, and the flag for it.
FLAGS = {"another folder": "--download_dir", "another mirror": "--base_url"}

EXAMPLES = ("--model s --clusters", "--dataset cifar10 --download_dir data")


def main(arguments: list[str] | None = None) -> int:
    """Download what the command line asks for and return the exit code."""
    return cli.main(arguments, "download")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    # These need no library that takes time to load, or --help and a Ctrl-C at the start would have to wait.
    from igpt_tf.download.openai import BASE_URL, DATASETS, SHARDS, STEPS

    add = parser.add_argument
    add("--model", choices=tuple(SHARDS), help="parameters: s 76M, m 455M, l 1362M")
    add("--ckpt", type=int, choices=STEPS, help=f"training step of the checkpoint (default: {STEPS[-1]})")
    add("--bert", action="store_true", help="the model trained with the BERT objective")
    add("--clusters", action="store_true", help="the palette: kmeans_centers.npy")
    add("--dataset", choices=DATASETS, help="a data set as tokens and labels")
    add(
        "--download_dir",
        type=Path,
        help="folder for all the files (default: igpt-s/ and the like, datasets/, and the palette beside them, in "
        f"{_root()})",
    )
    add("--base_url", default=BASE_URL, help="a mirror")
    add("--jobs", type=positive, default=4, help="number of files fetched at once")
    add("--retries", type=non_negative, default=5, help="tries without a new byte before a file is given up")


def _root() -> Path:
    """Where models, palette and data sets go, which is where names are looked up."""
    in_checkout = program() in ("run.py", "download.py") and not os.environ.get("IGPT_HOME")
    return CHECKPOINTS if in_checkout else download_folder()


def _check(options: argparse.Namespace) -> None:
    if options.model is None and (options.ckpt is not None or options.bert):
        raise UsageError("expected --model s, m or l with --ckpt or --bert, got none")
    if not (options.model or options.clusters or options.dataset):
        example = command(f"download {EXAMPLES[0]}")
        raise UsageError(f"expected --model, --clusters or --dataset, got none: try {example}")
    if not options.base_url.startswith(("http://", "https://")):
        raise UsageError(f"--base_url: expected one that starts with http:// or https://, got {options.base_url!r}")


def run(options: argparse.Namespace) -> int:
    """Download what the options name and print where it is; the exit code."""
    _check(options)
    try:
        return _download(options)
    except UserError as error:
        raise UserError(_with_flags(str(error))) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what was fetched is kept: the same command resumes") from None


def _download(options: argparse.Namespace) -> int:
    from igpt_tf.download.disk import size_of
    from igpt_tf.download.files import fetch_all
    from igpt_tf.download.http import Patience
    from igpt_tf.download.openai import STEPS, checkpoint_files, dataset_files, palette_file

    options.ckpt = options.ckpt or STEPS[-1]
    root, files = _root(), []
    if options.model:
        files += checkpoint_files(options.model, options.ckpt, options.bert, options.download_dir, root)
    if options.clusters:
        files.append(palette_file(options.download_dir, root))
    if options.dataset:
        files += dataset_files(options.dataset, options.download_dir, root)
    with ProgressBar(unit="B", unit_scale=True, leave=True) as bar:
        found = fetch_all(files, options.base_url, options.jobs, Patience(retries=options.retries), bar)
    there = [(str(one.file.path), size_of(one.file.path), one.fetched) for one in found if not one.error]
    failures = [one.error for one in found if one.error]
    result = {
        "files": [{"path": path, "bytes": size, "fetched": fetched} for path, size, fetched in there],
        "failed": [{"url": one.url, "reason": one.reason} for one in failures],
    }
    if there or options.json:
        report(options, result, *(path for path, _, _ in there))
    for line in summarize(failures):
        warn(_with_flags(line))
    if failures:
        count = f"{len(there)} of {len(files)} files are in place, {len(failures)} are not"
        warn(f"Not complete: {count}; what was fetched is kept.")
        return FAILED
    fetched = sum(fetched for _, _, fetched in there)
    remark(f"Done: {fetched} downloaded, {len(files) - fetched} there before.")
    remark(f"Next: {_next_step(options)}")
    return DONE


def summarize(failures: Sequence[FetchError]) -> list[str]:
    """One line for each way in which files failed, however many did."""
    groups: dict[str, list[FetchError]] = {}
    for failure in failures:
        groups.setdefault(failure.reason, []).append(failure)
    others = {reason: f" (and {len(group) - 1} more files)" if group[1:] else "" for reason, group in groups.items()}
    return [f"{group[0].url}{others[reason]}: {reason}." for reason, group in groups.items()]


def _with_flags(line: str) -> str:
    for advice, flag in FLAGS.items():
        line = line.replace(advice, f"{advice} ({flag})")
    return line


def _next_step(options: argparse.Namespace) -> str:
    """The command that uses what was downloaded, or fetches what is missing for that."""
    from igpt_tf.download.openai import checkpoint_prefix, palette_file

    palette = palette_file(options.download_dir, _root()).path
    place = f" --download_dir {shlex.quote(str(options.download_dir))}" if options.download_dir is not None else ""
    if not options.model:
        return command(f"download --model s{'' if palette.exists() else ' --clusters'}{place}")
    if not palette.exists():
        return command(f"download --clusters{place}")
    prefix = checkpoint_prefix(options.model, options.ckpt, options.bert, options.download_dir, _root())
    # A BERT model cannot draw pixels one after another.
    task = "eval --data_path FOLDER_OF_PICTURES" if options.bert else "sample"
    return command(f"{task} --model {shlex.quote(str(prefix))} --palette {shlex.quote(str(palette))}")
