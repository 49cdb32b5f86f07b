"""The parser, and the options that several commands share."""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from igpt_tf.cli.program import typed
from igpt_tf.errors import meant

if TYPE_CHECKING:
    from igpt_tf.sampling import Controls

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
# The messages of argparse that do not say what was expected and what was found.
DIALECT = {
    r"^argument (?=\S+: )": "",
    r"^the following arguments are required: (.*)": r"expected \1, got none",
    r"(expected (?:one|at least one) argument)$": r"\1, got none",
    r"^(\S+): not allowed with argument (\S+)$": r"expected \1 or \2, got both: give one of them",
    r"^unrecognized arguments: (.*)": r"expected nothing more, got \1",
}
DTYPES = ("float32", "bfloat16", "int8")
SHAPE_OPTIONS = ("n_px", "n_vocab", "n_embd", "n_head", "n_layer")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows the defaults, unless they are None or off, and keeps the lines of examples."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # Without one, the help says itself what happens; a switch is off.
        says_nothing = action.default is None or action.default is False
        return action.help if says_nothing else super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """A parser that reports mistakes in one line and accepts `--n-gpu` for `--n_gpu`.

    Args:
        examples: lines to type, for the end of the help.
        kwargs: arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, examples: Sequence[str] = (), **kwargs) -> None:
        kwargs.setdefault("formatter_class", HelpFormatter)
        epilog = "\n".join(["examples:", *(f"  {line}" for line in examples)]) if examples else None
        super().__init__(allow_abbrev=False, epilog=epilog, **kwargs)

    def error(self, message: str) -> NoReturn:
        """End with one line; the usage is a page by itself and would hide it."""
        for pattern, ours in DIALECT.items():
            message = re.sub(pattern, ours, message)
        self.exit(WRONG_USE, f"{self.prog}: {message}; see {typed(self.prog)} --help\n")

    def parse_args(self, args=None, namespace=None):
        """Parse, with dashes inside an option's name read as underscores, and ~ as the user's folder."""
        args = [_expanded(with_underscores(argument)) for argument in (sys.argv[1:] if args is None else args)]
        for before, argument in zip(["", *args], args, strict=False):
            if not argument or (argument.startswith("--") and argument.endswith("=")):
                after = argument.rstrip("=") or before
                where = f"after {after}" if after else "as the first argument"
                self.error(f"expected a value, got an empty one {where}: type . for this folder")
        return super().parse_args(args, namespace)

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parse; of several mistakes, an option that does not exist is reported first, with the one that was meant."""
        known = self._option_string_actions
        # The main parser's command has options of its own.
        arguments = itertools.takewhile(self._is_own, args or [])
        for name in (argument.partition("=")[0] for argument in arguments):
            if re.match(r"--?[a-zA-Z]", name) and name not in known and name[:2] not in known:
                hint = meant("--" + name.lstrip("-"), known)
                self.error(f"expected an option of this command, got {name}{hint}")
        return super().parse_known_args(args, namespace)

    def _is_own(self, argument: str) -> bool:
        return argument != "--" and (self._subparsers is None or argument.startswith("-"))

    def _check_value(self, action: argparse.Action, value: object) -> None:
        names = [str(choice) for choice in action.choices or ()]
        if names and str(value) not in names:
            wrong = f"expected one of {', '.join(names)}, got {value!r}{meant(str(value), names)}"
            raise argparse.ArgumentError(action, wrong)


def group(parser: argparse.ArgumentParser, title: str, about: str | None = None) -> argparse._ArgumentGroup:
    """The parser's group of options of this title, made when it is first asked for."""
    for one in parser._action_groups:
        if one.title == title:
            return one
    return parser.add_argument_group(title, about)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model; OpenAI's names for the same options are accepted beside ours."""
    add = parser.add_argument
    add(
        "--model",
        "--ckpt_path",
        default="nano-cifar10",
        help="a bundled name, igpt-s|m|l (downloaded), a name of the Hugging Face hub, a folder of weights, or the "
        "prefix of an OpenAI checkpoint",
    )
    shape = group(parser, "model", "its shape is read from the checkpoint; what is typed must agree with it")
    shape.add_argument(
        "--palette", "--color_cluster_path", type=Path, help="palette .npy (default: the one beside the model)"
    )
    for name in SHAPE_OPTIONS:
        shape.add_argument(f"--{name}", type=int, metavar="N", help=f"the checkpoint's {name}")
    shape.add_argument("--bert", action="store_true", help="the checkpoint is a BERT model")
    shape.add_argument("--clf", action="store_true", help="the checkpoint has a trained classification head")


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """How many devices, and how many images each computes at once."""
    add = group(parser, "computing").add_argument
    add("--n_gpu", type=positive, help="GPUs to use (default: all; the CPU where there are none)")
    add("--n_sub_batch", type=positive, default=8, help="images per batch on each device")


def add_processor_options(parser: argparse.ArgumentParser) -> None:
    """How a processor computes."""
    add = group(parser, "computing").add_argument
    add("--threads", type=positive, help="processor cores to compute on (all)")
    add(
        "--dtype",
        choices=DTYPES,
        default=DTYPES[0],
        help="what weights are stored in; the others are faster, and change the pictures a little",
    )


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """What decides a drawn image, and where it goes."""
    add = parser.add_argument
    add("--out", "--save_dir", type=Path, default=Path("out"), help="folder for the pictures")
    add("--seed", type=non_negative, default=42, help="seed of the random numbers")
    add("--temperature", type=number, default=1.0, help="below 1 favours likely colours; 0 takes the likeliest")
    add(
        "--class_name",
        nargs="+",
        metavar="CLASS",
        dest="classes",
        help="names or numbers of classes that the model was trained with; of several, pictures have them in turn; "
        "all: every class",
    )
    add("--guidance", type=number, default=1.0, help="above 1, pictures are more of their class and less varied")
    add = group(parser, "colours", "that are drawn").add_argument
    add("--top_k", type=positive, help="draw only from the k likeliest colours")
    add("--top_p", type=number, help="draw from the smallest set of colours with this probability")
    add("--min_p", type=number, help="draw from colours at least this many times as likely as the likeliest")


def controls_of(options: argparse.Namespace) -> Controls:
    """How colours are drawn; a `UsageError` for invalid values."""
    from igpt_tf.sampling.controls import Controls

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


def number(text: str) -> float:
    """A finite number."""
    found = _float(text)
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return found


def probability(text: str) -> float:
    """A number between 0 and 1, without either."""
    found = _float(text)
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"expected a probability between 0 and 1, got {text!r}")
    return found


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def duration(text: str) -> float:
    """Seconds of a time such as 170m, 2h, 1.5h or 90s.

    Raises:
        argparse.ArgumentTypeError: if the text is something else.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)([smhd])", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"expected a time such as 170m, 2h or 90s, got {text!r}")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _expanded(argument: str) -> str:
    """An argument, or the value in `--name=value`, with ~ and ~user at its beginning as that user's folder."""
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return name + equals + os.path.expanduser(value)


def with_underscores(argument: str) -> str:
    """An argument with the dashes inside an option's name as underscores."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
