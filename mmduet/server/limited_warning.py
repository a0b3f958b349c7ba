"""Log events that may come very often: at most one line per interval, with the number of those that were left out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any

from mmduet.server.log_events import LogEvent

WARNING_INTERVAL_SECONDS = 60.0
CHECK_SECONDS = 5.0
MAX_KEYS = 1024
"""Keys that are distinguished at a time, so that an attack from many addresses takes bounded memory."""


@dataclass
class _Interval:
    """The time in which further events are left out: their number and the fields of the latest."""

    end: float
    count: int = 0
    latest: dict[str, Any] | None = None


class LimitedWarning:
    """Log an event at most once per interval and key, such as a client address. May be used by any thread.

    No event is lost without a trace: the next line, or one at the end of the interval, has the number of the
    ``suppressed`` ones before it.
    """

    def __init__(
        self,
        event: LogEvent,
        logger: logging.Logger,
        interval_seconds: float = WARNING_INTERVAL_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._event, self._logger, self._interval_seconds, self._clock = event, logger, interval_seconds, clock
        self._intervals: dict[str, _Interval] = {}
        self._lock = Lock()

    def emit(self, key: str = "", **fields: Any) -> bool:
        """Log a line, or count it if one was logged for this key within the interval. Return whether it was logged."""
        with self._lock:
            if key not in self._intervals and len(self._intervals) >= MAX_KEYS:
                key = "all others"
            now, interval = self._clock(), self._intervals.get(key)
            if interval is not None and now < interval.end:
                interval.count, interval.latest = interval.count + 1, fields
                return False
            self._intervals[key] = _Interval(now + self._interval_seconds)
        self._write(fields, interval.count if interval is not None else 0)
        return True

    def report_suppressed(self, *, at_once: bool = False) -> None:
        """Log a line for every interval that has ended (``at_once``: every interval) with suppressed events."""
        now, reports = self._clock(), list[_Interval]()
        with self._lock:
            for key, interval in list(self._intervals.items()):
                if not at_once and now < interval.end:
                    continue
                del self._intervals[key]
                if interval.count:
                    reports.append(interval)
                    self._intervals[key] = _Interval(now + self._interval_seconds)
        for interval in reports:
            self._write(interval.latest or {}, interval.count - 1)

    def _write(self, fields: dict[str, Any], suppressed: int) -> None:
        self._event.emit(self._logger, suppressed=suppressed or None, **fields)


async def report_suppressed_warnings(warnings: Sequence[LimitedWarning]) -> None:
    """Report suppressed events regularly, and when the task is cancelled."""
    try:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            for warning in warnings:
                warning.report_suppressed()
    finally:
        for warning in warnings:
            warning.report_suppressed(at_once=True)
