"""Read a video file with FFmpeg as timed, upright RGB frames.

Pixels are taken as they are stored: a non-square pixel is not stretched (neither was it for the published
checkpoints, which read frames through OpenCV), so an anamorphic picture stays squeezed.
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
    """A decoded picture not yet in RGB: ``index`` from 0, ``time`` in seconds from the first frame."""

    index: int
    time: float
    av_frame: VideoFrame

    def to_rgb(self) -> NDArray[np.uint8]:
        """The picture upright, uint8 ``[H, W, 3]``; 10-bit, grey and alpha formats become 8-bit RGB."""
        stored = self.av_frame.to_ndarray(format="rgb24", threads=1)  # starting threads takes longer than one has to do
        return np.ascontiguousarray(
            apply_orientation(stored.astype(np.uint8, copy=False), orientation_of(self.av_frame))
        )


class VideoFile:
    """A file as a FrameSource; it can be iterated many times, each time from its first frame.

    Opening decodes one frame, so that a file without pictures fails here. Raises VideoNotFoundError, NoVideoStreamError
    (audio only, no frames), CorruptVideoError (empty, not a video, cut off before its index) or VideoError (a
    directory, no permission).

    Damage further in raises CorruptVideoError where it is met, after the frames before it: data the decoder refuses, a
    frame it marks as corrupt, or an end that comes before the one the container promises. What the decoder conceals
    without a word inside a picture is delivered. Corrupt frames ahead of the first good one are dropped: a recording
    that starts between two key frames is not damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._closed = False
        self._running: WeakSet[Generator[DecodedFrame]] = WeakSet()
        self._info = self._probe()

    @property
    def info(self) -> VideoInfo:
        """The file's name, upright size, duration and average rate."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        """Every frame in presentation order, in RGB."""
        for frame in self.decode():
            yield Frame(frame.index, frame.time, frame.to_rgb(), frame.index)

    def decode(self) -> Iterator[DecodedFrame]:
        """Every frame in presentation order, each turned into RGB only where ``to_rgb`` is called."""
        if self._closed:
            raise VideoError(f"{self.path} was closed; open it again to read it")
        frames = self._frames()
        self._running.add(frames)
        return frames

    def close(self) -> None:
        """Close the file; running iterations end."""
        self._closed = True
        for frames in list(self._running):
            with contextlib.suppress(ValueError):  # running in another thread: it sees the flag at its next frame
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
            first = next(_pictures(container, stream, self.path), None)
        if first is None:
            raise NoVideoStreamError(f"{self.path} has a video stream without a frame; give a file that has pictures")
        width, height = first.width, first.height
        if orientation_of(first).transpose:
            width, height = height, width
        return VideoInfo(self.path.name, width, height, duration, float(fps) if fps else None)

    def _frames(self) -> Generator[DecodedFrame]:
        with containers.open_container(self.path) as container:
            stream = containers.select_video_stream(container, self.path)
            clock = PresentationClock(stream.time_base or Fraction(1, 1000), stream.average_rate)
            for index, picture in enumerate(_pictures(container, stream, self.path)):
                if self._closed:
                    return
                yield DecodedFrame(index, clock.to_seconds(picture.pts), picture)
            containers.check_complete(container, stream, clock.end_seconds, self.path)


@dataclass(frozen=True)
class Orientation:
    """How a stored image is made upright: transposed first, then mirrored."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False


def orientation_of(picture: VideoFrame) -> Orientation:
    """The turn asked for by the display matrix (rotation in quarter turns, mirroring); none without one."""
    matrix = picture.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return Orientation()
    # Nine numbers, the third column fixed: x' = a x + c y, y' = b x + d y.
    a, b, _, c, d = (int(number) for number in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(b) > abs(a):
        return Orientation(True, mirror_x=c < 0, mirror_y=b < 0)
    return Orientation(False, mirror_x=a < 0, mirror_y=d < 0)


def apply_orientation(image: NDArray[np.uint8], turn: Orientation) -> NDArray[np.uint8]:
    """A view of ``[H, W, 3]`` after the turn; ``[W, H, 3]`` where it transposes."""
    if turn.transpose:
        image = image.transpose(1, 0, 2)
    return image[:: -1 if turn.mirror_y else 1, :: -1 if turn.mirror_x else 1]


def _pictures(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    """Good pictures in presentation order, then the end or CorruptVideoError."""
    delivered = 0
    for picture in _until_damage(container, stream, path):
        if not picture.is_corrupt:
            yield picture
            delivered += 1
        elif delivered:
            raise _damaged(path, delivered, "the decoder marks the next one as corrupt")


def _until_damage(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    """What the decoder puts out; where it refuses a packet, first the pictures before that which it still holds."""
    owed: set[int] = set()  # timestamps of packets whose pictures have not come out
    delivered, last = 0, -math.inf
    try:
        for packet in container.demux(stream):
            if packet.pts is not None and not packet.is_discard:
                owed.add(packet.pts)
            for picture in packet.decode():
                yield picture
                delivered, last = delivered + 1, last if picture.pts is None else picture.pts
                owed.discard(picture.pts or 0)
    except (av.FFmpegError, ValueError) as error:
        held = _held_before_gap(stream, sorted(pts for pts in owed if pts > last))
        yield from held
        raise _damaged(path, delivered + len(held), containers.error_reason(error)) from error


def _held_before_gap(stream: VideoStream, owed: list[int]) -> list[VideoFrame]:
    """The pictures in the decoder up to the first owed one that is missing: with threads, some may lie beyond it."""
    with contextlib.suppress(av.FFmpegError, ValueError):
        held = stream.codec_context.decode(None)
        return [picture for picture, pts in zip(held, owed, strict=False) if picture.pts == pts]
    return []


def _damaged(path: Path, delivered: int, reason: str) -> CorruptVideoError:
    return CorruptVideoError(
        f"{path} is damaged after {delivered} frames ({reason}); use what came before, or copy or encode the file again"
    )
