"""What a client reports when its connection is lost, resumed or given up, and its pauses between attempts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger(__name__)
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.1, 5.0


@dataclass(frozen=True)
class ConnectionStatus:
    """A change of the connection to a server.

    Attributes:
        state: "retrying" when the connection is lost and after every attempt that fails, "resumed" when the session
            continues, "gave_up" when it cannot be continued; the session's methods then raise the error.
        url: Address of the server, without credentials.
        seconds: Time since the connection was lost: 0 in the first report.
        reason: Why the connection was lost or the last attempt failed. For "resumed" it is empty, unless events were lost.
        retry_seconds: Pause before the next attempt; None if there is none.
    """

    state: Literal["retrying", "resumed", "gave_up"]
    url: str
    seconds: float
    reason: str = ""
    retry_seconds: float | None = None

    def describe(self) -> str:
        """Return the change as a message."""
        if self.state == "retrying":
            return f"connection lost, trying again ({self.seconds:.0f} s): {self.url} ({self.reason})"
        if self.state == "resumed":
            return f"connection resumed after {self.seconds:.0f} s: {self.url}" + (
                f" ({self.reason})" if self.reason else ""
            )
        return f"connection lost, gave up after {self.seconds:.0f} s: {self.url} ({self.reason})"


ConnectionCallback = Callable[[ConnectionStatus], None]
"""Called by the event loop of the client; it must neither block nor raise."""


def log_connection_status(status: ConnectionStatus) -> None:
    """Log a change: a warning when the connection is lost or given up, else at level info."""
    first = status.state == "retrying" and status.seconds == 0
    log.log(logging.WARNING if first or status.state == "gave_up" else logging.INFO, "%s", status.describe())


class Reconnection:
    """Time and pauses of the attempts to reconnect, each of which is reported."""

    def __init__(self, url: str, on_change: ConnectionCallback, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._on_change, self._clock = url, on_change, clock
        self._lost_at: float | None = None  # None while connected
        self._pause = MIN_BACKOFF_SECONDS

    @property
    def seconds(self) -> float:
        """Time since the connection was lost; 0 while connected."""
        return self._clock() - self._lost_at if self._lost_at is not None else 0.0

    def next_pause(self, reason: str, max_seconds: float) -> float | None:
        """Return the pause before the next attempt, None if ``max_seconds`` since the loss do not suffice for it."""
        if self._lost_at is None:
            self._lost_at, self._pause = self._clock(), MIN_BACKOFF_SECONDS
            seconds = 0.0
        else:
            seconds = self.seconds
        if seconds + self._pause > max_seconds:
            return None
        pause, self._pause = self._pause, min(2 * self._pause, MAX_BACKOFF_SECONDS)
        self._on_change(ConnectionStatus("retrying", self._url, seconds, reason, pause))
        return pause

    def connected(self, reason: str = "") -> None:
        """Report that the session has been resumed, if the connection was lost; ``reason`` is why events are missing."""
        seconds, lost, self._lost_at = self.seconds, self._lost_at is not None, None
        if lost:
            self._on_change(ConnectionStatus("resumed", self._url, seconds, reason))

    def give_up(self, reason: str) -> None:
        """Report that the session cannot be continued, if the connection was lost."""
        seconds, lost, self._lost_at = self.seconds, self._lost_at is not None, None
        if lost:
            self._on_change(ConnectionStatus("gave_up", self._url, seconds, reason))
