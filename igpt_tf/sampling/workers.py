"""Work that every device of a model takes its share of, batch by batch, handed on as it is finished."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def share(
    jobs: Iterable[Any], n_devices: int, work: Callable[[int, Any, Callable[[], None]], Any]
) -> Iterator[tuple[Any, Any]]:
    """Pairs of a job and its result, in the order in which they are finished.

    A device takes a job when it has none, so that jobs may be without end; no more results wait than there are
    devices. What a device raises is raised here; then, and when the iterator is closed, the others stop too.

    Args:
        jobs: what is to be done.
        n_devices: how many work at once, each in a thread of its own.
        work: from the number of a device, a job and a function to the result; the function is to be called now and
            then and raises `InterruptedError` where the work has become useless.
    """
    waiting, taking = iter(jobs), threading.Lock()
    finished: queue.Queue = queue.Queue(n_devices)
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise InterruptedError

    def hand_on(message: tuple) -> None:
        while True:
            check()
            try:
                return finished.put(message, timeout=0.1)
            except queue.Full:
                continue

    def work_on(number: int) -> None:
        try:
            while True:
                with taking:
                    job = next(waiting, waiting)
                if job is waiting:
                    return hand_on((None, None, None))
                hand_on((job, work(number, job, check), None))
        except InterruptedError:
            return
        except BaseException as error:
            hand_on((None, None, error))

    with ThreadPoolExecutor(n_devices) as threads:
        try:
            for number in range(n_devices):
                threads.submit(work_on, number)
            at_work = n_devices
            while at_work:
                job, result, error = finished.get()
                if error is not None:
                    raise error
                if job is None:
                    at_work -= 1
                else:
                    yield job, result
        finally:
            # Ctrl-C reaches the main thread alone, and a device that fails leaves the others at work.
            stopped.set()
