"""Read a possibly endless stream with FFmpeg and reconnect when it breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from threading import Event

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from mmduet.errors import SourceError, VideoError
from mmduet.events import Frame
from mmduet.video import container as containers
from mmduet.video.clock import PresentationClock
from mmduet.video.sampling import sample_by_pts
from mmduet.video.source import VideoInfo
from mmduet.video.video_file import DecodedFrame

MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.25, 4.0
Opener = Callable[[], AbstractContextManager[InputContainer]]


class LiveVideo:
    """A stream that ``open_stream`` opens for every connection; ``name`` identifies it in errors.

    One whose length is known ends where it ends. Any other is opened again when it breaks off, for ``reconnect_seconds``
    without a frame; its times go on by the clock on the wall. Opening waits for the first picture. Raises ``SourceError``.
    """

    def __init__(self, name: str, open_stream: Opener, reconnect_seconds: float = 20.0) -> None:
        self._name, self._open, self._patience = name, open_stream, reconnect_seconds
        self._stopped = Event()
        self._info: VideoInfo | None = None
        self._pictures = self._decoded()
        self._first = next(self._pictures, None)
        if self._first is None:
            raise SourceError(f"{name} has no frames; check the address")

    @property
    def info(self) -> VideoInfo:
        """Size and rate as the first picture had them."""
        assert self._info is not None, "info is set before the first frame is returned"
        return self._info

    @property
    def live(self) -> bool:
        """Whether the stream runs on its own: frames that are not read in time are lost."""
        return self.info.duration is None

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Frames at ``fps`` (None: every frame) by presentation time, indexed from 0, in RGB; once."""
        pictures = chain([self._first] if self._first else [], self._pictures)
        for index, frame in enumerate(sample_by_pts(pictures, fps)):
            yield Frame(index, frame.time, frame.to_rgb(), frame.index)

    def close(self) -> None:
        """Stop reading; from another thread, too, where it ends with the next picture."""
        self._stopped.set()
        with suppress(ValueError):  # it is being read
            self._pictures.close()

    def _decoded(self) -> Generator[DecodedFrame, None, None]:
        index, began, heard, pause = 0, time.monotonic(), time.monotonic(), MIN_RETRY_SECONDS
        error: Exception | None = None
        while not self._stopped.is_set():
            try:
                for frame in self._once(index, time.monotonic() - began if index else 0.0):
                    index, heard, pause = frame.index + 1, time.monotonic(), MIN_RETRY_SECONDS
                    yield frame
                if self._stopped.is_set() or not index or not self.live or self._ended():
                    return
            except (av.FFmpegError, ValueError, SourceError) as raised:
                error = raised
            if self._stopped.is_set():
                return
            if not index or not self.live or time.monotonic() - heard > self._patience:
                raise self._broken(error)
            self._stopped.wait(pause)
            pause = min(2 * pause, MAX_RETRY_SECONDS)

    def _once(self, index: int, since: float) -> Iterator[DecodedFrame]:
        """The pictures of one connection; the first at ``since`` seconds."""
        with self._open() as container:
            stream = containers.select_video_stream(container, Path(self._name))
            clock = PresentationClock(stream.time_base or Fraction(1, 1000), stream.average_rate)
            for picture in container.decode(stream):
                if self._stopped.is_set():
                    return
                if not picture.is_corrupt:
                    self._info = self._info or self._described(container, stream, picture)
                    yield DecodedFrame(index, since + clock.to_seconds(picture.pts), picture)
                    index += 1

    def _described(self, container: InputContainer, stream: VideoStream, picture: av.VideoFrame) -> VideoInfo:
        duration = container.duration / av.time_base if container.duration else None
        fps = float(stream.average_rate) if stream.average_rate else None
        return VideoInfo(self._name, picture.width, picture.height, duration, fps)

    def _ended(self) -> bool:
        """Whether what had no end has one now: a playlist that says that no more will come."""
        with self._open() as container:
            return bool(container.duration)

    def _broken(self, error: Exception | None) -> VideoError:
        if isinstance(error, VideoError):
            return error
        reason = containers.error_reason(error) if error is not None else "it broke off"
        return SourceError(f"{self._name} cannot be read ({reason}); check the address, and whether it is on")
