"""The parser, and the options that several commands share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from igpt_tf.sampling import Controls

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
SHAPE_OPTIONS = ("n_px", "n_vocab", "n_embd", "n_head", "n_layer")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows the defaults, unless they are None or off."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # Without one, the help says itself what happens; a switch is off.
        says_nothing = action.default is None or action.default is False
        return action.help if says_nothing else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser that reports mistakes in one line and accepts `--n-gpu` for `--n_gpu`."""

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault("formatter_class", HelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """End with one line; the usage is a page by itself and would hide it."""
        how = f"python {self.prog}" if ".py" in self.prog else self.prog
        self.exit(WRONG_USE, f"{self.prog}: {message}; see {how} --help\n")

    def parse_args(self, args=None, namespace=None):
        """Parse, with dashes inside an option's name read as underscores."""
        args = sys.argv[1:] if args is None else args
        return super().parse_args([with_underscores(argument) for argument in args], namespace)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model; OpenAI's names for the same options are accepted beside ours."""
    add = parser.add_argument
    add(
        "--model",
        "--ckpt_path",
        default="nano-cifar10",
        help="a bundled name, a preset folder, igpt-s|m|l once downloaded, or the prefix of an OpenAI checkpoint",
    )
    add("--palette", "--color_cluster_path", type=Path, help="palette .npy (default: the one beside the model)")
    shape = parser.add_argument_group("shape", "read from the checkpoint; what is typed must agree with it")
    for name in SHAPE_OPTIONS:
        shape.add_argument(f"--{name}", type=int, metavar="N", help=f"the checkpoint's {name}")
    shape.add_argument("--bert", action="store_true", help="the checkpoint is a BERT model")
    shape.add_argument("--clf", action="store_true", help="the checkpoint has a trained classification head")


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """How many devices, and how many images each computes at once."""
    add = parser.add_argument
    add("--n_gpu", type=positive, help="GPUs to use (default: all; the CPU where there are none)")
    add("--n_sub_batch", type=positive, default=8, help="images per batch on each device")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """What decides a drawn image, and where it goes."""
    add = parser.add_argument
    add("--temperature", type=float, default=1.0, help="below 1 favours likely colours; 0 takes the likeliest")
    add("--top_k", type=int, help="draw only from the k likeliest colours")
    add("--top_p", type=float, help="draw from the smallest set of colours with this probability")
    add("--min_p", type=float, help="draw from colours at least this many times as likely as the likeliest")
    add(
        "--class_name",
        nargs="+",
        metavar="CLASS",
        dest="classes",
        help="names or numbers of classes that the model was trained with; of several, pictures have them in turn; "
        "all: every class",
    )
    add("--guidance", type=float, default=1.0, help="above 1, pictures are more of their class and less varied")
    add("--seed", type=non_negative, default=42, help="seed of the random numbers")
    add("--out", "--save_dir", type=Path, default=Path("out"), help="folder for the pictures")


def controls_of(options: argparse.Namespace) -> Controls:
    """How colours are drawn; a `UsageError` for invalid values."""
    from igpt_tf.sampling import Controls

    return Controls(options.temperature, options.top_k, options.top_p, options.min_p, options.guidance)


def positive(text: str) -> int:
    """A whole number above 0."""
    return _at_least(1, text)


def non_negative(text: str) -> int:
    """A whole number of at least 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
    return number


def probability(text: str) -> float:
    """A number between 0 and 1, without either."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a probability between 0 and 1, got {text!r}")
    return number


def with_underscores(argument: str) -> str:
    """An argument with the dashes inside an option's name as underscores."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
