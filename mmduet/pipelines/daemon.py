"""Runs functions in threads that do not keep the process alive, unlike those of ``ThreadPoolExecutor``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def start_daemon(function: Callable[[], T], name: str) -> Future[T]:
    """Call ``function`` in a new daemon thread and return the future of its result."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # a function that runs cannot be cancelled

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again by the future
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
