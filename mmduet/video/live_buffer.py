"""A bounded queue between a live source and a slower reader: the oldest frames are dropped and counted."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Condition, Thread

from mmduet.events import Frame

MAX_WAIT_SECONDS = 1.0
"""Seconds of video that are kept for the reader; the same age at which a server drops frames by default."""
MIN_FRAMES, MAX_FRAMES = 2, 32
CLOSE_SECONDS = 2.0


def buffer_size(fps: float | None) -> int:
    """Return how many frames are kept at a rate (None: every frame of the source)."""
    return MAX_FRAMES if fps is None else min(max(math.ceil(MAX_WAIT_SECONDS * fps), MIN_FRAMES), MAX_FRAMES)


class LiveBuffer(Iterator[Frame]):
    """Reads ``frames`` in a thread of its own, so that a slow reader does not delay the source.

    Reading starts when the first frame is taken. At most ``max_frames`` frames wait to be taken. When another one arrives, the
    oldest is dropped. Taking a frame raises the error that ended the source, after the frames before it.
    """

    def __init__(self, frames: Iterator[Frame], max_frames: int) -> None:
        self._frames, self._max_frames = frames, max_frames
        self._waiting: deque[Frame] = deque()
        self._changed = Condition()
        self._ended = self._closed = False
        self._error: Exception | None = None
        self.dropped = 0  # frames that were too late
        self._thread: Thread | None = None

    def __next__(self) -> Frame:
        """Return the oldest frame; wait for it if there is none. Raises what ended the source."""
        if self._thread is None:
            self._thread = Thread(target=self._read, name="mmduet-source", daemon=True)
            self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended or self._closed)
            if self._waiting and not self._closed:
                return self._waiting.popleft()
        if self._error is not None and not self._closed:
            raise self._error
        raise StopIteration

    def interrupt(self) -> None:
        """End the iteration at once. May be called from another thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the iteration and wait until the source has been closed, for at most ``CLOSE_SECONDS``.

        The caller has closed the source: a source that returns no frame is closed when its read times out.
        """
        self.interrupt()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _read(self) -> None:
        error: Exception | None = None
        try:
            for frame in self._frames:
                if not self._append(frame):
                    break
        except Exception as raised:  # noqa: BLE001 - raised again by the reader
            error = raised
        finally:
            with suppress(Exception):
                _close(self._frames)
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify_all()

    def _append(self, frame: Frame) -> bool:
        """Keep a frame for the reader; return False if it reads no more."""
        with self._changed:
            if self._closed:
                return False
            self._waiting.append(frame)
            if len(self._waiting) > self._max_frames:
                self._waiting.popleft()
                self.dropped += 1
            self._changed.notify_all()
            return True


def _close(frames: Iterator[Frame]) -> None:
    """Close the iterator, which ends the connection to a camera, in the thread that has read it."""
    close: Callable[[], None] | None = getattr(frames, "close", None)
    if close is not None:
        close()
