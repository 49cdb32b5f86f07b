"""Generators that run on several devices at once, each device in a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any

_END = object()
# Of each thread that works: the event that says that nobody waits for it any more.
_closed = threading.local()


class ClosedError(Exception):
    """Nobody waits for what this thread computes."""


def require_open() -> None:
    """Called within long work: ends it, by an exception, if the generator that waits for it was closed."""
    stopped = getattr(_closed, "event", None)
    if stopped is not None and stopped.is_set():
        raise ClosedError


def run_generators(jobs: Iterable[Any], n_devices: int, work: Callable[[int, Any], Generator[Any]]) -> Generator[Any]:
    """Yield what the generators of all jobs yield, in the order in which it is ready.

    A device takes a new job when it has finished one, so that there may be infinitely many; no more finished jobs
    wait to be taken than there are devices. Closing this generator, an error in it (Ctrl-C reaches the main thread
    alone) and an error on a device close the generators of all devices and end all threads. The first error is raised.

    Args:
        jobs: perhaps infinitely many.
        n_devices: how many threads work.
        work: makes the generator of a device's number and a job.
    """
    waiting, taking = iter(jobs), threading.Lock()
    ready: queue.SimpleQueue = queue.SimpleQueue()
    room = threading.Semaphore(2 * n_devices)
    stopped = threading.Event()

    def run(device: int) -> None:
        error, _closed.event = None, stopped
        try:
            while not stopped.is_set():
                room.acquire()
                with taking:
                    job = _END if stopped.is_set() else next(waiting, _END)
                if job is _END:
                    break
                with contextlib.closing(work(device, job)) as steps:
                    for step in steps:
                        if stopped.is_set():
                            break
                        ready.put((step, False, None))
                ready.put((None, True, None))
        except BaseException as caught:
            error = caught
        ready.put((_END, False, error))

    threads = [threading.Thread(target=run, args=(device,), daemon=True) for device in range(n_devices)]
    for thread in threads:
        thread.start()
    try:
        at_work = n_devices
        while at_work:
            step, job_done, error = ready.get()
            if error is not None:
                raise error
            if job_done:
                room.release()
            elif step is _END:
                at_work -= 1
                # Whoever waits for room finds that there are no more jobs.
                room.release()
            else:
                yield step
    finally:
        stopped.set()
        room.release(n_devices)
        for thread in threads:
            thread.join()
