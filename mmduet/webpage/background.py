"""Work on videos that must not slow the engine down: one job at a time, at the lowest priority."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

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


class JobQueue:
    """Jobs that wait, each with its future. They are taken from their owners in turn. Any thread may call its methods."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: dict[str, deque[tuple[Future[Any], Callable[[], None]]]] = {}  # by owner, the next one first
        self._closed = False

    def put(self, owner: str, future: Future[Any], job: Callable[[], None]) -> None:
        """Add a job as the last one of its owner."""
        with self._changed:
            self._jobs.setdefault(owner, deque()).append((future, job))
            self._changed.notify()

    def take(self) -> Callable[[], None] | None:
        """Wait for the next job and return it; None after the last one of a closed queue."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return None
            owner = next(iter(self._jobs))
            jobs = self._jobs.pop(owner)
            _, job = jobs.popleft()
            if jobs:
                self._jobs[owner] = jobs  # behind the other owners
            return job

    def position(self, future: Future[Any]) -> int | None:
        """Return the current place of a job in the queue, 1 for the next one; None if it is not waiting."""
        with self._changed:
            queues = [[waiting for waiting, _ in jobs if not waiting.cancelled()] for jobs in self._jobs.values()]
        for turn, own in enumerate(queues):
            if future in own:
                before = own.index(future)
                others = (
                    min(len(each), before + (number < turn)) for number, each in enumerate(queues) if number != turn
                )
                return before + 1 + sum(others)
        return None

    def close(self) -> None:
        """Let ``take`` return None after the last job."""
        with self._changed:
            self._closed = True
            self._changed.notify()


class BackgroundWorker:
    """One thread that runs the jobs of all owners in turn, those of one in order. It does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs = JobQueue()
        self._thread: Future[None] | None = None

    def submit(self, job: Callable[[], T], owner: str = "") -> Future[T]:
        """Run ``job`` in the thread and return the future of its result. Cancelling the future removes a job that waits."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - raised again by the future
                future.set_exception(error)

        self._jobs.put(owner, future, run)
        if self._thread is None:
            self._thread = start_daemon(self._run, self._name)
        return future

    def position(self, future: Future[Any]) -> int | None:
        """Return the place of a job in the queue, 1 for the next one; None if it is not waiting."""
        return self._jobs.position(future)

    def close(self, timeout_seconds: float) -> None:
        """End the thread after the jobs that were submitted, and wait for it as long as ``timeout_seconds``."""
        self._jobs.close()
        if self._thread is not None:
            with suppress(TimeoutError):
                self._thread.result(timeout_seconds)

    def _run(self) -> None:
        lower_priority()
        while (job := self._jobs.take()) is not None:
            job()


def lower_priority() -> None:
    """Give the calling thread, and threads that it starts, the lowest priority; only Linux has one for each thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
