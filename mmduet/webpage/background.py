"""Work on videos that must not slow the engine down: one job at a time, at the lowest priority."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from mmduet.errors import MmduetError
from mmduet.pipelines.daemon import start_daemon

T = TypeVar("T")
LOWEST_PRIORITY = 19


class JobStoppedError(MmduetError):
    """Raised in a job that is not required any more, to end it."""


class StopSignal:
    """Set by the owner of a job; the job checks it often."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Stop the job at its next check."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether the job is to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise ``JobStoppedError`` once the signal is set."""
        if self.is_set:
            raise JobStoppedError("the job was stopped")


class BackgroundWorker:
    """One thread that runs jobs in the order of their submission. It does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: Future[None] | None = None

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run ``job`` in the thread and return the future of its result. Cancelling the future removes a job that waits."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - raised again by the future
                future.set_exception(error)

        self._jobs.put(run)
        if self._thread is None:
            self._thread = start_daemon(self._run, self._name)
        return future

    def close(self, timeout_seconds: float) -> None:
        """End the thread after the jobs that were submitted, and wait for it as long as ``timeout_seconds``."""
        self._jobs.put(None)
        if self._thread is not None:
            with suppress(TimeoutError):
                self._thread.result(timeout_seconds)

    def _run(self) -> None:
        lower_priority()
        while (job := self._jobs.get()) is not None:
            job()


def lower_priority() -> None:
    """Give the calling thread, and threads that it starts, the lowest priority; only Linux has one for each thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
