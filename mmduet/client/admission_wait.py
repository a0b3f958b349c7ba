"""How long a client waits for a session while the server is full, and what it reports meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from mmduet.errors import OptionError
from mmduet.protocol.queue_events import MAX_WAIT_SECONDS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueueStatus:
    """The place of a client that waits for a session.

    Attributes:
        position: Number of clients that may get a session before this one, itself included: 1 is the next.
        estimated_wait: Expected time until it gets a session, in seconds; None if the server does not know it.
        url: Address of the server, without credentials.
    """

    position: int
    estimated_wait: float | None
    url: str

    def describe(self) -> str:
        """Return the place as a message."""
        estimate = "" if self.estimated_wait is None else f", about {max(self.estimated_wait, 1):.0f} s"
        return f"waiting for a session, position {self.position} in the queue{estimate}: {self.url}"


QueueCallback = Callable[[QueueStatus], None]
"""Called by the event loop of the client; it must neither block nor raise."""


def log_queue_status(status: QueueStatus) -> None:
    """Log a place at level info."""
    log.info("%s", status.describe())


class AdmissionWait:
    """The wait of one client, which lasts at most ``seconds`` over all its connections; None: it does not wait.

    Raises ``OptionError`` if ``seconds`` is not a number that servers accept.
    """

    def __init__(
        self,
        url: str,
        seconds: float | None,
        on_queued: QueueCallback,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if seconds is not None and not 0 <= seconds <= MAX_WAIT_SECONDS:
            raise OptionError(f"wait_seconds must be from 0 to {MAX_WAIT_SECONDS:g}, got {seconds}")
        self._url, self._seconds, self._on_queued, self._clock = url, seconds or 0.0, on_queued, clock
        self._start: float | None = None

    @property
    def remaining(self) -> float:
        """Return for how many seconds the client still waits."""
        return self._seconds if self._start is None else max(self._start + self._seconds - self._clock(), 0.0)

    @property
    def is_active(self) -> bool:
        """Return whether the client has been in the queue and still waits, even without a connection."""
        return self._start is not None and self.remaining > 0

    def url_parameters(self) -> dict[str, str]:
        """Return what the client's URL has for the wait."""
        return {"wait": f"{self.remaining:.3f}"} if self.remaining > 0 else {}

    def on_queued(self, position: int, estimated_wait: float | None) -> None:
        """Report a place in the queue. The first one begins the wait."""
        if self._start is None:
            self._start = self._clock()
        self._on_queued(QueueStatus(position, estimated_wait, self._url))
