"""The frames of a source that ``run`` and ``stream`` feed to a session."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, takewhile
from threading import Event
from typing import TYPE_CHECKING

from mmduet.cli._connection import SourceReporter
from mmduet.cli._session_io import at_realtime
from mmduet.events import Frame

if TYPE_CHECKING:
    from mmduet.video.source import LiveSource


class SourceFrames:
    """The sampled frames of a source, at most ``seconds`` and ``max_frames`` of them.

    A live source is read in a thread of its own: frames that the session does not take in time are dropped and counted. Other
    sources wait for the session or, with ``realtime``, for the time of each frame.
    """

    def __init__(
        self,
        source: LiveSource,
        fps: float | None,
        reporter: SourceReporter,
        *,
        seconds: float | None = None,
        max_frames: int | None = None,
        realtime: bool = False,
    ) -> None:
        """Prepare to read. Raises ``VideoError`` for a file that cannot be opened."""
        from mmduet.video.live_buffer import LiveBuffer, buffer_size

        self._source, self._seconds, self._max_frames, self._realtime = source, seconds, max_frames, realtime
        self.stopped = Event()  # whether ``stop`` was called
        frames = source.frames(fps)
        self._buffer: LiveBuffer | None = None
        if source.live:
            self._buffer = LiveBuffer(reporter.report_resumed(frames), buffer_size(fps))
        self._frames = frames if self._buffer is None else self._buffer

    @property
    def dropped(self) -> int | None:
        """Number of frames that came while the session was busy; None for a source that waits."""
        return None if self._buffer is None else self._buffer.dropped

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames until they end or ``stop`` is called."""
        frames = self._frames
        if (end := self._seconds) is not None:
            frames = takewhile(lambda frame: frame.time < end, frames)
        if self._max_frames is not None:
            frames = islice(frames, self._max_frames)
        if self._realtime and not self._source.live:
            frames = at_realtime(frames, self.stopped)
        return takewhile(lambda _: not self.stopped.is_set(), frames)

    def stop(self) -> None:
        """End the iteration. May be called from another thread."""
        self.stopped.set()
        self._source.close()
        if self._buffer is not None:
            self._buffer.interrupt()

    def close(self) -> None:
        """End the iteration and wait until a live source has been closed."""
        self.stop()
        if self._buffer is not None:
            self._buffer.close()
