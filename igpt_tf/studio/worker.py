"""The one thread on which everything is computed, so that a drawing stops, or makes way, between two rows."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Worker:
    """Runs functions one after the other on a thread that does not keep the program from ending."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future, Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="studio", daemon=True).start()

    def submit(self, function: Callable[[], Any]) -> Future:
        """Have a function run after those that wait already.

        Args:
            function: what to run.

        Returns:
            Its future result.
        """
        future: Future = Future()
        self._waiting.put((future, function))
        return future

    async def run(self, function: Callable[[], Any]) -> Any:
        """The result of a function; if the caller is cancelled before its turn, it is not run.

        Args:
            function: what to run.
        """
        return await asyncio.wrap_future(self.submit(function))

    def _work(self) -> None:
        while True:
            future, function = self._waiting.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            # What it refers to would be kept until the next one comes.
            del future, function
