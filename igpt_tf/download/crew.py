"""Threads that Ctrl-C need not wait for."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from igpt_tf.download.answer import FetchError
from igpt_tf.download.connection import StoppedError

Task = TypeVar("Task")
Result = TypeVar("Result")

TICK_S = 0.05
# Once stopped, a thread that waits for the network notices only when something comes or the wait times out.
GRACE_S = 1.0


def run_all(
    tasks: Sequence[Task],
    work: Callable[[Task], Result],
    jobs: int,
    stop: threading.Event,
    tick: Callable[[], None] = lambda: None,
) -> list[Result | FetchError]:
    """Call `work` for every task, `jobs` at a time, and return the results in the order of the tasks.

    A `FetchError` is a result like any other: it concerns one task. Every other exception stops all the work and is
    raised here, and so does one that hits this thread, such as KeyboardInterrupt. `stop` is set then.

    Args:
        tick: called from this thread some twenty times a second, and once at the end.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(tasks)):
        waiting.put(index)
    results: dict[int, Result | FetchError] = {}
    broken: list[BaseException] = []

    def run() -> None:
        while not stop.is_set():
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                results[index] = work(tasks[index])
            except FetchError as error:
                results[index] = error
            except StoppedError:
                return
            except BaseException as error:
                broken.append(error)
                stop.set()

    # Daemons: the interpreter joins any other thread, and the threads of an executor, before it ends.
    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(jobs, len(tasks)))]
    try:
        for thread in threads:
            thread.start()
        while not stop.is_set() and any(thread.is_alive() for thread in threads):
            tick()
            stop.wait(TICK_S)
        tick()
    finally:
        if any(thread.is_alive() for thread in threads):
            stop.set()
        deadline = time.monotonic() + GRACE_S
        for thread in filter(threading.Thread.is_alive, threads):
            thread.join(max(0.0, deadline - time.monotonic()))
    if broken:
        raise broken[0]
    if stop.is_set():
        raise StoppedError
    return [results[index] for index in range(len(tasks))]
