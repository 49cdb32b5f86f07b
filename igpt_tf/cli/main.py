"""`igpt COMMAND` or `python run.py COMMAND`: finds the command, runs it, and reports mistakes in one line."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from igpt_tf import __version__
from igpt_tf.cli.backends import BACKENDS
from igpt_tf.cli.console import one_line, set_quiet
from igpt_tf.cli.notices import printed_notices
from igpt_tf.cli.parser import DONE, FAILED, INTERRUPTED, WRONG_USE, Parser, group, with_underscores
from igpt_tf.cli.program import command as command_line
from igpt_tf.cli.program import program
from igpt_tf.cli.streams import safe_streams
from igpt_tf.download.consent import allow_downloads
from igpt_tf.errors import UsageError, UserError

COMMANDS = {
    "eval": "losses of a model on images, in nats and bits per token",
    "sample": "draw images",
    "complete": "fill in the missing part of pictures",
    "pretrain": "train a model on your own images",
    "finetune": "train a classifier, starting from a model",
    "classify": "name the classes of pictures, with a fine-tuned model or one of classes",
    "score": "likelihoods of images, maps of surprise, and how well they tell two sets of images apart",
    "neighbours": "the images of a data set that are nearest to pictures, by a model's features",
    "probe": "measure a model's features by linear classifiers, layer by layer",
    "figure": "attention maps, surprise, palettes, completions, probes by layer and over a run, as figures",
    "cascade": "larger pictures, drawn from coarse to fine: autoencoder, codebooks and transformers",
    "studio": "a page in the browser to complete and draw pictures with",
    "palette": "choose the colours that images are reduced to: palette fit",
    "tokenize": "turn images into a token store for training",
    "convert": "write a model in another format: a preset folder, Hugging Face's, OpenAI's",
    "download": "fetch OpenAI's checkpoints, palette and data sets; an interrupted download resumes",
}
# Commands that have parts, each a module of its own.
PARTS = ("cascade", "figure")


def main(arguments: list[str] | None = None, command: str | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.

    Args:
        arguments: what was typed; None: what this process was called with.
        command: the one command that the program has, which is then not typed.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # Pillow warns of oddities in files that it reads all the same.
    warnings.filterwarnings("ignore", module="PIL")
    with safe_streams() as output:
        code = _supervised(arguments, command)
        output.flush()
        if output.error is not None and code == DONE:
            reason = output.error.strerror or output.error
            _say(f"cannot write to standard output ({reason}): the rest is done, but its result is not printed")
            return FAILED
    return code


def _supervised(arguments: list[str], command: str | None) -> int:
    """Run the commands; every mistake is one line."""
    try:
        codes = [_run(one, command) for one in ([arguments] if command else _commands(arguments))]
    except UserError as error:
        _say(_with_flag(error))
        return WRONG_USE if isinstance(error, UsageError) else FAILED
    except SystemExit as end:
        # argparse ends the process; the caller of this function does not want that.
        return end.code if isinstance(end.code, int) else WRONG_USE
    except BaseException as error:
        interrupt = _interrupt_in(error)
        if interrupt is not None:
            _drop_unfinished(error)
            # A command may say what is kept and how to resume.
            _say(": ".join(["interrupted", *map(str, interrupt.args)]))
            return INTERRUPTED
        if isinstance(error, OSError | MemoryError) or _lacks_memory(error):
            _say(_failure(error))
            return FAILED
        raise
    return max(codes)


def _say(line: str) -> None:
    print(f"{program()}: {one_line(line)}", file=sys.stderr)


def _lacks_memory(error: BaseException) -> bool:
    """Whether TensorFlow or JAX had too little memory, such as a GPU's."""
    return type(error).__name__ == "ResourceExhaustedError" or "RESOURCE_EXHAUSTED" in str(error)


def _failure(error: BaseException) -> str:
    """One line for what the system refuses."""
    if not isinstance(error, OSError):
        return "expected more memory than there is: give fewer images per batch, or close other programs"
    reason = " ".join(str(error.strerror or error or type(error).__name__).split())
    return f"{error.filename}: {reason}" if error.filename is not None else reason


def _interrupt_in(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C behind an error; libraries that it hits in mid-work raise other errors on top."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def _drop_unfinished(interrupt: BaseException) -> None:
    """Delete what was being made when the user interrupted, such as a progress bar, whose deletion may fail noisily."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    error: BaseException | None = interrupt
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    sys.unraisablehook = hook


def _with_flag(error: UserError) -> str:
    """The message with flags for arguments: behind that of the argument that is wrong, and in place of `names`."""
    message = re.sub(r"`(\w+)`", r"--\1", re.sub(r"`igpt ([^`]+)`", lambda found: command_line(found[1]), str(error)))
    flag = f"--{error.argument}"
    return message if error.argument is None or flag in message else f"{flag}: {message}"


def _commands(arguments: list[str]) -> list[list[str]]:
    """OpenAI's command lines choose commands by flags: `--eval --sample` runs both, in that order."""
    arguments = [with_underscores(argument) for argument in arguments]
    flags = [flag for flag in ("--eval", "--sample") if flag in arguments]
    if not flags or arguments[0] in COMMANDS:
        return [arguments]
    rest = [argument for argument in arguments if argument not in flags]
    return [[flag.removeprefix("--"), *_known_to(flag, rest)] for flag in flags]


def _known_to(flag: str, rest: list[str]) -> list[str]:
    """The arguments without OpenAI's options for other commands, as its script takes them all at once."""
    foreign = {"--eval": ("--save_dir",), "--sample": ("--data_path", "--bert_mask_prob")}[flag]
    kept, skip = [], False
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if skip:
            skip = False
        elif name in foreign:
            skip = not equals
        else:
            kept.append(argument)
    return kept


def _run(arguments: list[str], command: str | None) -> int:
    """Parse the arguments and run the command; its exit code."""
    if command is not None:
        parser = _command_parser(command, COMMANDS[command], partial(Parser, prog=program()))
    else:
        parser = Parser(prog=program(), description="Image GPT: evaluate, sample, complete and train.")
        parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        _add_quiet(parser, default=False)
        parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        for name, summary in COMMANDS.items():
            _command_parser(name, summary, partial(parsers.add_parser, name, help=summary))
    options = parser.parse_args(arguments)
    set_quiet(getattr(options, "quiet", False))
    allow_downloads(getattr(options, "yes", False))
    with printed_notices(getattr(options, "strict", False)):
        name = command or options.command
        return _module(f"{name}.{options.action}" if name in PARTS else name).run(options) or DONE


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"igpt_tf.cli.{command}")


def _command_parser(name: str, summary: str, make: Callable[..., Parser]) -> Parser:
    """The parser of a command: its own options, and those of every command; or that of a command of several parts."""
    module = _module(name)
    words = name.replace(".", " ")
    examples = [command_line(f"{words} {example}") for example in module.EXAMPLES]
    parser = make(description=f"{summary[0].upper()}{summary[1:]}.", examples=examples)
    if name in PARTS:
        parts = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
        for part, about in module.PARTS.items():
            _command_parser(f"{name}.{part}", about, partial(parts.add_parser, part, help=about))
        return parser
    module.add_options(parser)
    group(parser, "computing").add_argument(
        "--backend", choices=tuple(BACKENDS), help="Keras' backend (default: KERAS_BACKEND, or what is installed)"
    )
    if name != "download":
        parser.add_argument("--yes", action="store_true", help="download models and data by name without asking")
    output = group(parser, "output")
    output.add_argument("--json", action="store_true", help="print the result as JSON")
    _add_quiet(output, default=argparse.SUPPRESS)
    if name not in ("sample", "convert", "download", "studio"):
        text = "end with an error where a picture, file, folder or class would be skipped"
        parser.add_argument("--strict", action="store_true", help=text)
    return parser


def _add_quiet(parser: argparse._ActionsContainer, default: Any) -> None:
    text = "no progress and no remarks, only results, warnings and errors"
    parser.add_argument("-q", "--quiet", action="store_true", default=default, help=text)
