"""Threads that compute parts of one step together."""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

# Microseconds of computing in a period, of the control group of a container, version 2.
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Team:
    """Threads that call one function at once, the caller among them; they end with the team.

    Args:
        size: threads, at least 1.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._jobs: list[queue.SimpleQueue] = []
        self._threads: list[threading.Thread] = []
        # As `kernels.barrier` reads them: arrivals, and in a cache line of its own whether to stop.
        self._counters = np.zeros(16, "int64")
        # Whether all threads wait for a job, and the process that has them: a forked one has none.
        self._ready, self._process = False, 0
        weakref.finalize(self, _end, self._jobs)

    def run(self, part: Callable[[int, np.ndarray], None]) -> None:
        """Call `part` with each thread's number and the counters; returns when all have returned.

        After an error or Ctrl-C, at whatever moment, the next call first waits for the threads of this one.
        """
        if not self._ready or self._process != os.getpid():
            self._restart()
        self._ready = False
        done: queue.SimpleQueue = queue.SimpleQueue()
        try:
            for jobs in self._jobs:
                jobs.put((part, done))
            part(0, self._counters)
            errors = [done.get() for _ in self._jobs]
            for error in errors:
                if error is not None:
                    raise error
        except BaseException:
            # The others would wait for this thread for ever.
            self._counters[8] = 1
            raise
        self._ready = True

    def _restart(self) -> None:
        """End the threads that there are in this process, and start others."""
        if self._process == os.getpid():
            self._counters[8] = 1
            _end(self._jobs)
            for thread in self._threads:
                thread.join()
        self._process = os.getpid()
        self._counters = np.zeros(16, "int64")
        self._jobs[:] = [queue.SimpleQueue() for _ in range(self.size - 1)]
        self._threads = []
        for number, jobs in enumerate(self._jobs, 1):
            arguments = number, jobs, self._counters
            thread = threading.Thread(target=_work, args=arguments, name=f"igpt-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)


def _work(number: int, jobs: queue.SimpleQueue, counters: np.ndarray) -> None:
    while (job := jobs.get()) is not None:
        part, done = job
        error = None
        try:
            part(number, counters)
        except BaseException as caught:
            error, counters[8] = caught, 1
        done.put(error)
        del part, job


def _end(jobs: list[queue.SimpleQueue]) -> None:
    for one in jobs:
        one.put(None)


def count_cores() -> int:
    """Processor cores that this process may use, by its affinity and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text(encoding="utf-8").split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # not Linux, or "max"
        return cores
