"""Training on several machines, or with a model split between devices: the options, and what they mean together."""

from __future__ import annotations

import argparse
import contextlib

from igpt_tf.cli.backends import choose_backend, load_backend, redirected
from igpt_tf.cli.parser import non_negative, positive
from igpt_tf.errors import UsageError

TOGETHER = ("coordinator", "num_processes", "process_id")


def add_distributed_options(parser: argparse.ArgumentParser) -> None:
    """Which of several processes this one is, and how many devices share a copy of the model."""
    group = parser.add_argument_group(
        "several machines",
        "the same command on each, except for --process_id; only number 0 writes, so only its --out must be kept",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, which all can reach")
    group.add_argument("--num_processes", type=positive, metavar="N", help="processes, one a machine")
    group.add_argument("--process_id", type=non_negative, metavar="I", help="which one this is, from 0")
    group.add_argument("--model_parallel", type=positive, default=1, metavar="N", help="devices a copy of the model")


def check_distributed(options: argparse.Namespace) -> None:
    """See that the options make sense together, and choose the backend that they name, before anything is loaded.

    Raises:
        UsageError: if they do not.
    """
    given = [name for name in TOGETHER if getattr(options, name) is not None]
    if given and len(given) < len(TOGETHER):
        wanted, got = (", ".join(f"--{name}" for name in names) for names in (TOGETHER, given))
        raise UsageError(f"expected {wanted} together, got {got} alone")
    if is_one_of_several(options) and options.n_gpu is not None:
        raise UsageError(f"--n_gpu: expected none, as several processes use all their devices, got {options.n_gpu}")
    if is_one_of_several(options) and options.model_parallel > 1:
        raise UsageError(
            f"--model_parallel: expected 1 for several processes, got {options.model_parallel}: leave out --coordinator"
        )
    choose_backend(options.backend)


def start_backend(options: argparse.Namespace) -> int:
    """Load the backend and join the other processes, if there are any; the number of this one.

    Raises:
        UsageError: if there cannot be several on this backend.
        UserError: if the backend is missing or the others cannot be reached.
    """
    # Several processes have to meet before any of them touches a device.
    load_backend(options.backend, touch_devices=not is_one_of_several(options), threads=options.threads)
    if not is_one_of_several(options):
        return 0
    from igpt_tf.backend.processes import join_processes, process_share

    # The library that connects them says so on standard output.
    with redirected(1, 2):
        join_processes(options.coordinator, options.num_processes, options.process_id)
        return process_share().process


def is_one_of_several(options: argparse.Namespace) -> bool:
    """Whether several processes train together."""
    return options.num_processes is not None and options.num_processes > 1


def models_scope(options: argparse.Namespace, devices: list[str], n_head: int) -> contextlib.AbstractContextManager:
    """The scope in which to create the model: whole on each device, or split as --model_parallel says."""
    from igpt_tf.backend.devices import device_scope
    from igpt_tf.backend.sharding import model_parallel_scope

    if options.model_parallel > 1:
        return model_parallel_scope(devices, options.model_parallel, n_head)
    return device_scope(devices)
