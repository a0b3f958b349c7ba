"""Report on stderr that the connection to a server is lost and resumed, and the position in the queue of a full one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmduet.cli._warnings import print_warning

if TYPE_CHECKING:
    from mmduet.client import ConnectionStatus, QueueStatus

CONNECTION_LOST, CONNECTION_RESUMED = "connection_lost", "connection_resumed"
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
