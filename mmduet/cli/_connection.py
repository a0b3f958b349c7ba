"""Report on stderr lost and resumed connections to a server or camera, and the position in the queue of a full server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mmduet.cli._warnings import print_warning

if TYPE_CHECKING:
    from mmduet.client import ConnectionStatus, QueueStatus
    from mmduet.events import Frame

CONNECTION_LOST, CONNECTION_RESUMED = "connection_lost", "connection_resumed"
SOURCE_LOST, SOURCE_RESUMED = "source_lost", "source_resumed"
QUEUED = "queued"
FIRST_REPEAT_SECONDS = 1.0


class ConnectionReporter:
    """Print the changes of one connection. While it is lost, a line is repeated when the time has doubled, so there are few.

    A connection that is given up needs no line: the error that ends the video has the reason.
    """

    def __init__(self, video: Path | str | None = None) -> None:
        self.video, self._next_line = video, 0.0

    def __call__(self, status: ConnectionStatus) -> None:
        """Print a change, also with ``--quiet`` and if stderr is not a terminal."""
        if status.state == "resumed":
            print_warning(CONNECTION_RESUMED, status.describe(), self.video)
            self._next_line = 0.0
        elif status.state == "retrying" and status.seconds >= self._next_line:
            print_warning(CONNECTION_LOST, status.describe(), self.video)
            self._next_line = max(2 * status.seconds, FIRST_REPEAT_SECONDS)


class QueueReporter:
    """Print the position of one client in the queue of a full server whenever it changes, also with ``--quiet``."""

    def __init__(self, video: Path | str) -> None:
        self._video, self._position = video, 0

    def __call__(self, status: QueueStatus) -> None:
        """Print a position that has changed."""
        if status.position != self._position:
            self._position = status.position
            print_warning(QUEUED, status.describe(), self._video)


class SourceReporter:
    """Print that the connection to a live source is lost or resumed, as ``ConnectionReporter`` does for a server."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._lost_at: float | None = None  # None while there is a connection
        self._next_line = 0.0

    def on_retry(self, reason: str, pause_seconds: float) -> None:
        """Print that another attempt follows; see ``LiveVideo``."""
        now = self._clock()
        if self._lost_at is None:
            self._lost_at, self._next_line = now, 0.0
        seconds = now - self._lost_at
        if seconds >= self._next_line:
            message = f"connection lost, trying again in {pause_seconds:.1f} s ({seconds:.0f} s): {reason}"
            print_warning(SOURCE_LOST, message, self._name)
            self._next_line = max(2 * seconds, FIRST_REPEAT_SECONDS)

    def report_resumed(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames; print at the first one after a loss that the source is back."""
        for frame in frames:
            if self._lost_at is not None:
                print_warning(
                    SOURCE_RESUMED, f"connection resumed after {self._clock() - self._lost_at:.0f} s", self._name
                )
                self._lost_at = None
            yield frame
