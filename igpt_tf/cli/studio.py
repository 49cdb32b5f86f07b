"""Serve the studio: a page to complete and draw pictures with."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING, Any

from igpt_tf.cli.backends import choose_backend, load_backend
from igpt_tf.cli.console import remark, report, warn
from igpt_tf.cli.memory import bytes_to_draw, require_memory
from igpt_tf.cli.opening import load_model, open_named_preset
from igpt_tf.cli.parser import INTERRUPTED, group, non_negative, positive
from igpt_tf.cli.program import command
from igpt_tf.errors import UserError
from igpt_tf.storage.places import named_folder
from igpt_tf.weights.arrays import CASCADE_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from igpt_tf.studio.drawer import Drawer
    from igpt_tf.weights.presets import Preset

EXAMPLES = ("", "--model nano-cifar10 --model nano-imagenet32 --port 8080")
MODELS = ("nano-cifar10", "nano-imagenet32", "nano-mnist")
PORT = 8484


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--model",
        action="append",
        dest="models",
        metavar="NAME",
        help="a model to offer, as for complete, or a cascade; several times for several, of which the first is "
        f"loaded at once (default: {', '.join(MODELS)})",
    )
    add(
        "--host", default="127.0.0.1", help="this machine's address to serve at; by default no other machine reaches it"
    )
    add("--port", type=non_negative, default=PORT, help="its port; 0: any that is free")
    add("--no_browser", action="store_true", help="do not open the page in the browser")
    group(parser, "computing").add_argument(
        "--n_gpu", type=positive, help="GPUs to use (default: all; the CPU where there are none)"
    )


def run(options: argparse.Namespace) -> None:
    """Print the address, and serve the page until Ctrl-C."""
    try:
        from igpt_tf.studio.cascades import CascadeModel
        from igpt_tf.studio.models import StudioModel
        from igpt_tf.studio.server import Studio
        from igpt_tf.studio.serving import open_place, serve
    except ImportError as error:
        if error.name and error.name.split(".")[0] in ("starlette", "uvicorn", "anyio"):
            lacking = f"expected Starlette and uvicorn, which serve the page, got no {error.name}"
            raise UserError(f'{lacking}: run pip install "starlette>=1.5.1" uvicorn') from None
        raise
    choose_backend(options.backend)

    def load(preset: Preset) -> Any:
        how = argparse.Namespace(backend=options.backend, n_gpu=options.n_gpu, n_sub_batch=1)
        return load_model(how, preset, with_head=preset.n_class is not None)[0]

    def load_cascade(folder: Path) -> Any:
        load_backend(options.backend)
        from igpt_tf.latent.cascade import Cascade

        return Cascade.from_preset(folder)

    def open_model(name: str) -> Drawer:
        folder = named_folder(name, CASCADE_FILE)
        if folder is not None:
            return CascadeModel(name, folder, load_cascade)
        preset = open_named_preset(name)

        def require(what: str, n: int, guided: bool, n_given: int) -> None:
            require_memory(n, bytes_to_draw(preset.config, guided, n_given), what)

        return StudioModel(name, preset, load, require)

    names = dict.fromkeys(options.models or MODELS)
    studio = Studio([open_model(name) for name in names], command("").strip())
    place = open_place(options.host, options.port)
    if place.token is not None:
        warn(f"--host {options.host}: everybody who has the whole address, with its token, can use this machine")
    report(options, {"address": place.address}, place.address)
    remark("Ctrl-C ends the studio")
    sys.stdout.flush()
    if not options.no_browser:
        threading.Thread(target=_show, args=[place.address], daemon=True).start()
    # A shell's job in the background is asked to end, but not interrupted.
    with contextlib.suppress(KeyboardInterrupt):
        serve(studio, place)
    remark("the studio has ended")
    sys.stdout.flush()
    sys.stderr.flush()
    # Without waiting for a program that is being compiled.
    os._exit(INTERRUPTED)


def _show(address: str) -> None:
    """Open the page, unless the only browser is one that would take over the terminal."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(address)
