"""One connection to a stream, and how FFmpeg decodes it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mmduet.video import container as containers
from mmduet.video.damage import DamageLog
from mmduet.video.decoding import Decoder
from mmduet.video.video_file import DecodedFrame, OrientationCache

NO_TIMESTAMPS = 0x80  # FFmpeg's AVFMT_NOTIMESTAMPS


@dataclass(frozen=True, eq=False)
class StreamFrame:
    """A frame with its time in seconds; ``to_rgb`` decodes it to uint8 ``[H, W, 3]``; ``codec`` is FFmpeg's name, if known."""

    time: float
    width: int
    height: int
    to_rgb: Callable[[], NDArray[np.uint8]]
    codec: str | None = None


class Connection(Protocol):
    """An open connection. ``duration`` and ``fps`` are known, if at all, when the first frame has been read."""

    @property
    def live(self) -> bool:
        """Whether the stream runs on its own, so that it is opened again when the connection breaks."""
        ...

    @property
    def keeps_unread(self) -> bool:
        """Whether what is not read in time can be read later, so that no frame need be lost."""
        ...

    @property
    def duration(self) -> float | None:
        """The duration in seconds, if it is known."""
        ...

    @property
    def fps(self) -> float | None:
        """The average frame rate that the stream declares, if any."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the stream has ended, once there are no more frames, rather than the connection."""
        ...

    def frames(self, log: DamageLog, start: float) -> Iterator[StreamFrame]:
        """Yield the good frames, timed from ``start`` seconds, and record the others in ``log``; may be called once.

        Raises ``VideoError`` or PyAV's errors.
        """
        ...

    def close(self) -> None:
        """End the connection; may be called from another thread."""
        ...


class ContainerConnection:
    """A connection that FFmpeg makes: a camera, or a file on a web server."""

    ended = keeps_unread = False

    def __init__(
        self, name: str, open_container: Callable[[], AbstractContextManager[InputContainer]], *, is_file: bool = False
    ) -> None:
        self._name, self._open, self._is_file = name, open_container, is_file
        self.duration: float | None = None
        self.fps: float | None = None

    @property
    def live(self) -> bool:
        """Whether the stream has no known end."""
        return self.duration is None and not self._is_file

    def frames(self, log: DamageLog, start: float) -> Generator[StreamFrame]:
        """Yield the good frames."""
        with self._open() as container:
            self.duration = container.duration / av.time_base if container.duration else None
            rate = containers.select_video_stream(container, self._name).average_rate
            self.fps = float(rate) if rate else None
            yield from decode_stream(container, self._name, log, start)

    def close(self) -> None:
        """Do nothing: FFmpeg's connection ends with the iteration, or with its read timeout."""


def decode_stream(
    container: InputContainer,
    name: str,
    log: DamageLog,
    start: float,
    arrived_at: Callable[[int], float] | None = None,
) -> Iterator[StreamFrame]:
    """Yield the good frames of a container, the first one at ``start`` seconds, and record the others in ``log``.

    ``arrived_at`` returns when the byte at a position arrived. It times the frames of formats without timestamps, for which
    FFmpeg invents a rate. A frame is yielded before the next packet is read, if the codec allows it.
    """
    stream = containers.select_video_stream(container, name)
    orientations = OrientationCache()
    if arrived_at is not None and container.format.flags & NO_TIMESTAMPS:
        yield from _timed_by_arrival(container, stream, log, start, arrived_at, orientations)
        return
    codec = containers.codec_name(stream)
    for frame in Decoder(container, stream, log, live=True, start=start).frames():
        yield _as_stream_frame(frame.time, frame.av_frame, codec, orientations)


def _timed_by_arrival(
    container: InputContainer,
    stream: VideoStream,
    log: DamageLog,
    start: float,
    arrived_at: Callable[[int], float],
    orientations: OrientationCache,
) -> Iterator[StreamFrame]:
    first, time, codec = None, start, containers.codec_name(stream)
    for packet in container.demux([stream]):
        try:
            frames = [frame for frame in packet.decode() if isinstance(frame, VideoFrame) and not frame.is_corrupt]
        except Exception:  # noqa: BLE001 - whatever a decoder raises for a packet, the next one may be good
            log.add_frames(1, time, time)
            continue
        if packet.size:
            arrival = arrived_at((packet.pos or 0) + packet.size - 1)
            first = arrival if first is None else first
            time = start + max(arrival - first, 0.0)
        for frame in frames:
            yield _as_stream_frame(time, frame, codec, orientations)


def _as_stream_frame(time: float, frame: VideoFrame, codec: str, orientations: OrientationCache) -> StreamFrame:
    width, height = frame.width, frame.height
    if orientations.orientation_of(frame).transpose:
        width, height = height, width
    return StreamFrame(time, width, height, DecodedFrame(0, time, frame, orientations=orientations).to_rgb, codec)
