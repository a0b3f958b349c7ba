"""Read a video file with FFmpeg as timed, upright RGB frames.

Pixels are used as they are stored: non-square pixels are not stretched, so anamorphic video stays squeezed. The published
checkpoints were trained on frames read by OpenCV, which does the same.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakSet

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mmduet.errors import CorruptVideoError, NoVideoStreamError, VideoError
from mmduet.events import Frame
from mmduet.video import container as containers
from mmduet.video.clock import PresentationClock
from mmduet.video.source import VideoInfo


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """A decoded frame that is not yet converted to RGB; ``index`` is from 0, ``time`` in seconds from the first frame."""

    index: int
    time: float
    av_frame: VideoFrame

    def to_rgb(self) -> NDArray[np.uint8]:
        """Return the upright image, uint8 ``[H, W, 3]``; 10-bit, grey and alpha formats become 8-bit RGB."""
        stored = self.av_frame.to_ndarray(
            format="rgb24", threads=1
        )  # one thread: starting more costs more than it saves
        return np.ascontiguousarray(
            apply_orientation(stored.astype(np.uint8, copy=False), orientation_of(self.av_frame))
        )


class VideoFile:
    """A video file whose frames can be iterated over many times, each time from the first.

    Opening decodes one frame, so that a file without frames fails early. Raises VideoNotFoundError, NoVideoStreamError (audio
    only, no frames), CorruptVideoError (empty, not a video, cut off before its index) or VideoError (a directory, no
    permission).

    Damage further in raises CorruptVideoError during iteration, after the frames before it: data that the decoder rejects, a
    frame that it marks as corrupt, or an end before the declared one. Damage that the decoder conceals within a frame is not
    detected. Corrupt frames before the first good one are dropped: a recording that starts between two key frames is not
    damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._closed = False
        self._iterations: WeakSet[Generator[DecodedFrame]] = WeakSet()
        self._info = self._probe()

    @property
    def info(self) -> VideoInfo:
        """The file's name, upright size, duration and average rate."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame in presentation order, in RGB."""
        for frame in self.decode():
            yield Frame(frame.index, frame.time, frame.to_rgb(), frame.index)

    def decode(self) -> Iterator[DecodedFrame]:
        """Return every frame in presentation order; a frame is converted to RGB only when its ``to_rgb`` is called."""
        if self._closed:
            raise VideoError(f"{self.path} was closed; open it again to read it")
        frames = self._frames()
        self._iterations.add(frames)
        return frames

    def close(self) -> None:
        """Close the file and end running iterations."""
        self._closed = True
        for frames in list(self._iterations):
            with contextlib.suppress(ValueError):  # running in another thread, which checks the flag at its next frame
                frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _probe(self) -> VideoInfo:
        with containers.open_container(self.path) as container:
            stream = containers.select_video_stream(container, self.path)
            duration, fps = containers.get_duration(container, stream), stream.average_rate
            first = next(_good_frames(container, stream, self.path), None)
        if first is None:
            raise NoVideoStreamError(f"{self.path} has a video stream without frames; give a file with video")
        width, height = first.width, first.height
        if orientation_of(first).transpose:
            width, height = height, width
        return VideoInfo(self.path.name, width, height, duration, float(fps) if fps else None)

    def _frames(self) -> Generator[DecodedFrame]:
        with containers.open_container(self.path) as container:
            stream = containers.select_video_stream(container, self.path)
            clock = PresentationClock(stream.time_base or Fraction(1, 1000), stream.average_rate)
            for index, frame in enumerate(_good_frames(container, stream, self.path)):
                if self._closed:
                    return
                yield DecodedFrame(index, clock.to_seconds(frame.pts), frame)
            containers.check_complete(container, stream, clock.end_seconds, self.path)


@dataclass(frozen=True)
class Orientation:
    """How to make a stored image upright: transpose first, then mirror."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return the orientation from the frame's display matrix (rotation by quarter turns, mirroring), if it has one."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return Orientation()
    # A 3x3 matrix with a constant third column: x' = a x + c y, y' = b x + d y.
    a, b, _, c, d = (int(number) for number in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(b) > abs(a):
        return Orientation(True, mirror_x=c < 0, mirror_y=b < 0)
    return Orientation(False, mirror_x=a < 0, mirror_y=d < 0)


def apply_orientation(image: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    """Return an upright view of ``[H, W, 3]``; transposed, it is ``[W, H, 3]``."""
    if orientation.transpose:
        image = image.transpose(1, 0, 2)
    return image[:: -1 if orientation.mirror_y else 1, :: -1 if orientation.mirror_x else 1]


def _good_frames(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    """Yield good frames in presentation order. Raises CorruptVideoError at the first damage after one."""
    delivered = 0
    for frame in _frames_until_error(container, stream, path):
        if not frame.is_corrupt:
            yield frame
            delivered += 1
        elif delivered:
            raise _damage_error(path, delivered, "the decoder marks the next one as corrupt")


def _frames_until_error(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    """Yield the decoder's frames. If it rejects a packet, yield the frames before it that are still buffered, then raise."""
    pending: set[int] = set()  # timestamps of packets whose frames have not been output
    delivered, last = 0, -math.inf
    try:
        for packet in container.demux(stream):
            if packet.pts is not None and not packet.is_discard:
                pending.add(packet.pts)
            for frame in packet.decode():
                yield frame
                delivered, last = delivered + 1, last if frame.pts is None else frame.pts
                pending.discard(frame.pts or 0)
    except (av.FFmpegError, ValueError) as error:
        buffered = _buffered_before_gap(stream, sorted(pts for pts in pending if pts > last))
        yield from buffered
        raise _damage_error(path, delivered + len(buffered), containers.error_reason(error)) from error


def _buffered_before_gap(stream: VideoStream, pending: list[int]) -> list[VideoFrame]:
    """Return the frames in the decoder before the first missing one: with threads, some may come after it."""
    with contextlib.suppress(av.FFmpegError, ValueError):
        buffered = stream.codec_context.decode(None)
        return [frame for frame, pts in zip(buffered, pending, strict=False) if frame.pts == pts]
    return []


def _damage_error(path: Path, delivered: int, reason: str) -> CorruptVideoError:
    return CorruptVideoError(
        f"{path} is damaged after {delivered} frames ({reason}); use the frames before, or copy or encode the file again"
    )
