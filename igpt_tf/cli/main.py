"""`igpt COMMAND` or `python run.py COMMAND`: finds the command, runs it, and reports mistakes in one line."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
import warnings

from igpt_tf import __version__
from igpt_tf.cli.parser import DONE, FAILED, INTERRUPTED, WRONG_USE, Parser, with_underscores
from igpt_tf.cli.program import program
from igpt_tf.errors import UsageError, UserError

COMMANDS = {
    "eval": "losses of a model on images, in nats and bits per token",
    "sample": "draw images",
    "complete": "fill in the missing part of pictures",
    "pretrain": "train a model on your own images",
    "finetune": "train a classifier, starting from a model",
    "classify": "name the classes of pictures, with a fine-tuned model",
    "probe": "measure a model's features by linear classifiers, layer by layer",
    "palette": "choose the colours that images are reduced to: palette fit",
    "tokenize": "turn images into a token store for training",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Pillow warns of oddities in files that it reads all the same.
    warnings.filterwarnings("ignore", module="PIL")
    try:
        for one in _commands(arguments):
            _run(one)
    except UserError as error:
        print(f"{program()}: {_with_flag(error)}", file=sys.stderr)
        return WRONG_USE if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt as interrupt:
        _drop_unfinished(interrupt)
        # A command may say what is kept and how to resume.
        print(": ".join([f"{program()}: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return INTERRUPTED
    except SystemExit as end:
        # argparse ends the process; the caller of this function does not want that.
        return end.code if isinstance(end.code, int) else WRONG_USE
    return DONE


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
    message = re.sub(r"`(\w+)`", r"--\1", str(error))
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


def _run(arguments: list[str]) -> None:
    parser = Parser(prog=program(), description="Image GPT: evaluate, sample, complete and train.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"igpt_tf.cli.{name}")
        description = (module.__doc__ or "").strip().splitlines()[0]
        command = parsers.add_parser(name, help=summary, description=description)
        module.add_options(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    importlib.import_module(f"igpt_tf.cli.{options.command}").run(options)
