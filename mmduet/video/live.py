"""Read a live stream with FFmpeg and reconnect when the connection breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from itertools import chain
from pathlib import Path
from threading import Event

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from mmduet.errors import SourceError, VideoError
from mmduet.events import Frame
from mmduet.video import container as containers
from mmduet.video.damage import Damage, DamageLog
from mmduet.video.decoding import Decoder
from mmduet.video.sampling import sample_by_pts
from mmduet.video.source import VideoInfo
from mmduet.video.video_file import DecodedFrame

MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.25, 4.0
Opener = Callable[[], AbstractContextManager[InputContainer]]


class LiveVideo:
    """A stream of which ``open_stream`` opens every connection; ``name`` identifies it in errors.

    A stream of known duration ends at its end. Any other is opened again when the connection breaks, until no frame has come
    for ``reconnect_seconds``; its times then continue by the wall clock. The constructor waits for the first frame. Raises
    ``SourceError``.
    """

    def __init__(self, name: str, open_stream: Opener, reconnect_seconds: float = 20.0) -> None:
        self._name, self._open, self._reconnect_seconds = name, open_stream, reconnect_seconds
        self._stopped = Event()
        self._log = DamageLog()
        self._info: VideoInfo | None = None
        self._frames = self._decode_all()
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
        return self.info.duration is None

    @property
    def damage(self) -> Damage:
        """What could not be decoded so far."""
        return self._log.damage

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Yield frames at ``fps`` (None: every frame) by presentation time, indexed from 0, in RGB. May be called once."""
        decoded = chain([self._first] if self._first else [], self._frames)
        for index, frame in enumerate(sample_by_pts(decoded, fps)):
            yield Frame(index, frame.time, frame.to_rgb(), frame.index)

    def close(self) -> None:
        """Stop reading. May be called from another thread; reading then ends at the next frame."""
        self._stopped.set()
        with suppress(ValueError):  # raised while another thread is reading
            self._frames.close()

    def _decode_all(self) -> Generator[DecodedFrame, None, None]:
        """Yield the frames of all connections."""
        index, pause = 0, MIN_RETRY_SECONDS
        started = last_frame = time.monotonic()
        error: Exception | None = None
        while not self._stopped.is_set():
            try:
                for frame in self._decode_connection(index, time.monotonic() - started if index else 0.0):
                    index, last_frame, pause = frame.index + 1, time.monotonic(), MIN_RETRY_SECONDS
                    yield frame
                if self._stopped.is_set() or not index or not self.live or self._has_ended():
                    return
            except VideoError as raised:
                if not isinstance(raised, SourceError):
                    raise
                error = raised
            except Exception as raised:  # noqa: BLE001 - whatever FFmpeg or its callbacks raise, the connection broke
                error = raised
            if self._stopped.is_set():
                return
            if not index or not self.live or time.monotonic() - last_frame > self._reconnect_seconds:
                raise self._connection_error(error)
            self._stopped.wait(pause)
            pause = min(2 * pause, MAX_RETRY_SECONDS)

    def _decode_connection(self, index: int, start: float) -> Iterator[DecodedFrame]:
        """Yield the frames of one connection, numbered from ``index``, the first one at ``start`` seconds."""
        with self._open() as container:
            stream = containers.select_video_stream(container, Path(self._name))
            decoder = Decoder(container, stream, self._log, live=True, start=start)
            for frame in decoder.frames():
                if self._stopped.is_set():
                    return
                self._info = self._info or self._describe(container, stream, frame.av_frame)
                yield DecodedFrame(index, frame.time, frame.av_frame, frame.duration)
                index += 1

    def _describe(self, container: InputContainer, stream: VideoStream, frame: av.VideoFrame) -> VideoInfo:
        duration = container.duration / av.time_base if container.duration else None
        fps = float(stream.average_rate) if stream.average_rate else None
        return VideoInfo(self._name, frame.width, frame.height, duration, fps)

    def _has_ended(self) -> bool:
        """Whether the stream has a duration by now: an HLS playlist gets one when it ends."""
        with self._open() as container:
            return bool(container.duration)

    def _connection_error(self, error: Exception | None) -> VideoError:
        if isinstance(error, VideoError):
            return error
        reason = containers.error_reason(error) if error is not None else "the connection broke"
        return SourceError(f"{self._name} cannot be read ({reason}); check the address, and that the device is on")
