"""Read a stream as frames and reconnect when the connection breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from threading import Event

from av.error import HTTPForbiddenError, HTTPUnauthorizedError

from mmduet.errors import SourceError, VideoError
from mmduet.events import Frame
from mmduet.video.connection import Connection, StreamFrame
from mmduet.video.damage import Damage, DamageLog
from mmduet.video.demuxing import error_reason
from mmduet.video.sampling import sample_by_pts
from mmduet.video.source import VideoInfo

MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.25, 4.0
RetryCallback = Callable[[str, float], None]
"""Called with the reason for which a connection was lost, and the pause before the next attempt in seconds."""


@dataclass(frozen=True, eq=False)
class _NumberedFrame:
    """A frame of any connection: ``index`` from 0, ``time`` in seconds from the stream's first frame."""

    index: int
    time: float
    frame: StreamFrame


class LiveVideo:
    """A stream of which ``connect`` opens every connection; ``name`` identifies it in errors.

    A stream that is not live ends at its end. A live one is opened again when the connection breaks, until no frame has come
    for ``reconnect_seconds``; its times then continue by the wall clock. The constructor waits for the first frame. Raises
    ``SourceError``.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        reconnect_seconds: float = 20.0,
        on_retry: RetryCallback = lambda reason, pause: None,
    ) -> None:
        """``on_retry`` is called before every new attempt, by the thread that reads."""
        self._name, self._connect, self._reconnect_seconds = name, connect, reconnect_seconds
        self._on_retry = on_retry
        self._stopped = Event()
        self._log = DamageLog()
        self._connection: Connection | None = None
        self._info: VideoInfo | None = None
        self._live, self._keeps_unread = True, False  # as of the first frame
        self.retry_at: float | None = None  # when a broken connection is opened again, on the monotonic clock
        self._frames = self._read_all()
        self._first = next(self._frames, None)
        if self._first is None:
            raise SourceError(f"{name} has no frames; check the address")

    @property
    def info(self) -> VideoInfo:
        """Size and rate, as of the first frame."""
        assert self._info is not None, "info is set before the first frame is returned"
        return self._info

    @property
    def live(self) -> bool:
        """Whether the stream runs on its own: frames that are not read in time are lost."""
        return self._live and not self._keeps_unread

    @property
    def damage(self) -> Damage:
        """What could not be decoded so far."""
        return self._log.damage

    @property
    def read_duration(self) -> float | None:
        """None: a stream lasts as long as its frames."""
        return None

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Yield frames at ``fps`` (None: every frame) by presentation time, indexed from 0, in RGB. May be called once."""
        index = 0
        for numbered in sample_by_pts(self._all_frames(), fps):
            try:
                image = numbered.frame.to_rgb()
            except Exception:  # noqa: BLE001 - a damaged image, which only the converter detects; the next one may be good
                self._log.add_frames(1, numbered.time, numbered.time)
                continue
            yield Frame(index, numbered.time, image, numbered.index)
            index += 1

    def close(self) -> None:
        """Stop reading. May be called from another thread; reading then ends at the next frame."""
        self._stopped.set()
        if (connection := self._connection) is not None:
            connection.close()
        with suppress(ValueError):  # raised while another thread is reading
            self._frames.close()

    def _all_frames(self) -> Iterator[_NumberedFrame]:
        if self._first is not None:
            yield self._first
        yield from self._frames

    def _read_all(self) -> Generator[_NumberedFrame, None, None]:
        """Yield the frames of all connections."""
        index, pause = 0, MIN_RETRY_SECONDS
        started = last_frame = time.monotonic()
        while not self._stopped.is_set():
            error: Exception | None = None
            try:
                start = time.monotonic() - started if index else 0.0
                with closing(self._read_connection(index, start)) as frames:
                    for frame in frames:
                        index, self.retry_at, pause = frame.index + 1, None, MIN_RETRY_SECONDS
                        yield frame
                        last_frame = time.monotonic()  # after a pause of the reader, in which no frame was awaited
                if not index or not self._live or self._has_ended():
                    return
            except VideoError as raised:
                if not isinstance(raised, SourceError):
                    raise
                error = raised
            except Exception as raised:  # noqa: BLE001 - whatever FFmpeg or its callbacks raise, the connection broke
                error = raised
            if self._stopped.is_set():
                return
            if not index or not self._live or time.monotonic() - last_frame > self._reconnect_seconds:
                raise self._connection_error(error)
            self.retry_at = time.monotonic() + pause
            self._on_retry(_reason(error), pause)
            self._stopped.wait(pause)
            pause = min(2 * pause, MAX_RETRY_SECONDS)

    def _read_connection(self, index: int, start: float) -> Generator[_NumberedFrame]:
        """Yield the frames of one connection, numbered from ``index``, the first one at ``start`` seconds."""
        connection = self._connection = self._connect()
        try:
            with closing(_as_generator(connection.frames(self._log, start))) as frames:
                for number, frame in enumerate(frames, index):
                    if self._stopped.is_set():
                        return
                    if self._info is None:
                        self._live, self._keeps_unread = connection.live, connection.keeps_unread
                        size, duration, fps = (frame.width, frame.height), connection.duration, connection.fps
                        self._info = VideoInfo(self._name, *size, duration, fps, codec=frame.codec)
                    yield _NumberedFrame(number, frame.time, frame)
        finally:
            connection.close()

    def _has_ended(self) -> bool:
        return self._connection is not None and self._connection.ended

    def _connection_error(self, error: Exception | None) -> VideoError:
        if isinstance(error, VideoError):
            return error
        has_wrong_password = isinstance(error, HTTPUnauthorizedError | HTTPForbiddenError)
        subject = "the user name and password in the address" if has_wrong_password else "the address"
        return SourceError(
            f"{self._name} cannot be read ({_reason(error)}); check {subject}, and that the device is on"
        )


def _reason(error: Exception | None) -> str:
    """Return why a connection was lost; without an error it has ended."""
    return error_reason(error) if error is not None else "the connection broke"


def _as_generator(frames: Iterator[StreamFrame]) -> Generator[StreamFrame]:
    """Return an iterator that can be closed."""
    yield from frames
