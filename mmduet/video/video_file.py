"""Read a video file with FFmpeg as timed, upright RGB frames.

Pixels are used as they are stored: non-square pixels are not stretched, so anamorphic video stays squeezed. The published
checkpoints were trained on frames read by OpenCV, which does the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakSet

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from mmduet.errors import CorruptVideoError, NoVideoStreamError, VideoError
from mmduet.events import Frame
from mmduet.video import container as containers
from mmduet.video.animated_webp import is_animated_webp, read_animated_webp
from mmduet.video.damage import Damage, DamageLog
from mmduet.video.decoder_threads import decoder_threads
from mmduet.video.decoding import Decoder, FrameTiming, PacketCounter, TimedFrame
from mmduet.video.demuxing import error_reason
from mmduet.video.letterbox import letterbox
from mmduet.video.row_conversion import convert_letterboxed
from mmduet.video.sampling import Sampler
from mmduet.video.selective_decoding import select_frames
from mmduet.video.source import VideoInfo
from mmduet.video.structure import is_truncated
from mmduet.video.timeline import Timeline, is_discontinuous, scan_timeline


class OrientationCache:
    """The orientations of a stream's frames, by their rotation.

    Reading the display matrix of a frame makes a reference cycle in PyAV, which keeps its image in memory until the garbage
    collector runs. Therefore it is read only when the rotation is new.
    """

    def __init__(self) -> None:
        self._by_rotation: dict[int, Orientation] = {}

    def orientation_of(self, frame: VideoFrame) -> Orientation:
        """Return the orientation of a frame."""
        rotation = frame.rotation
        if rotation not in self._by_rotation:
            self._by_rotation[rotation] = orientation_of(frame)
        return self._by_rotation[rotation]


@dataclass(frozen=True, eq=False)
class DecodedFrame:
    """A decoded frame that is not yet converted to RGB; ``index`` is from 0, ``time`` in seconds from the first frame."""

    index: int
    time: float
    av_frame: VideoFrame
    duration: float = 0.0  # seconds: its own, or else the average
    orientations: OrientationCache = field(default_factory=OrientationCache)

    @property
    def orientation(self) -> Orientation:
        """How to make the stored image upright."""
        return self.orientations.orientation_of(self.av_frame)

    def to_rgb(self) -> NDArray[np.uint8]:
        """Return the upright image, uint8 ``[H, W, 3]``; 10-bit, grey and alpha formats become 8-bit RGB."""
        stored = self.av_frame.to_ndarray(
            format="rgb24", threads=1
        )  # one thread: starting more costs more than it saves
        return np.ascontiguousarray(apply_orientation(stored.astype(np.uint8, copy=False), self.orientation))

    def to_letterboxed(self, size: int) -> NDArray[np.uint8]:
        """Return the upright image letterboxed to uint8 ``[size, size, 3]``: that of ``to_rgb``, but rows are only converted
        if they are used."""
        if self.orientation == Orientation() and (image := convert_letterboxed(self.av_frame, size)) is not None:
            return image
        return letterbox(self.to_rgb(), size)


@dataclass
class _Progress:
    """What an iteration has read: damage, numbers of packets and frames, and the end of the last one in seconds."""

    log: DamageLog = field(default_factory=DamageLog)
    packets: PacketCounter = field(default_factory=PacketCounter)
    frames: int = 0
    end: float = 0.0


class VideoFile:
    """A video file whose frames can be iterated over many times, each time from the first.

    Opening decodes one frame, so that a file without frames fails early. Raises VideoNotFoundError, NoVideoStreamError (audio
    only, no frames), NoDecoderError, CorruptVideoError (empty, not a video, cut off before its index, no frame that can be
    decoded) or VideoError (a directory, no permission).

    Damaged frames further in are skipped: data that the decoder rejects, and frames that it marks as corrupt. ``damage`` has
    them, and where the file breaks off. With ``strict``, iteration raises CorruptVideoError instead, after the frames before
    the damage. Damage that the decoder conceals within a frame is not detected. What comes before the first key frame is not
    damage: a recording may start anywhere.

    ``on_read`` is called before each read of the file while it is opened, and between the frames of an animation. The read
    fails with what it raises. ``threads`` limits the threads of the decoder, by default 2, at most the CPU cores. With
    ``decodes_all`` or ``strict``, frames that ``decode`` does not return are decoded too, so that damage in them is detected.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        strict: bool = False,
        on_read: Callable[[], None] | None = None,
        threads: int | None = None,
        decodes_all: bool = False,
    ) -> None:
        self.path = Path(path)
        self._threads, self._decodes_all = decoder_threads(threads), decodes_all or strict
        self._on_read = on_read
        self._strict = strict
        self._closed = False
        self._iterations: WeakSet[Generator[DecodedFrame]] = WeakSet()
        self._progress = _Progress()  # of the latest iteration
        self.timeline = Timeline()
        with containers.as_video_error(self.path):
            self._info = self._probe()

    @property
    def info(self) -> VideoInfo:
        """The file's name, upright size, duration and average rate."""
        return self._info

    @property
    def damage(self) -> Damage:
        """What the latest iteration could not read, as far as it has come."""
        return self._progress.log.damage

    @property
    def frames_read(self) -> int:
        """The number of frames that the latest iteration has yielded."""
        return self._progress.frames

    @property
    def packets_decoded(self) -> int:
        """The number of packets that the latest iteration has decoded; 0 for animated WebP."""
        return self._progress.packets.decoded

    @property
    def read_until(self) -> float:
        """The end of the last frame that the latest iteration has decoded, in seconds."""
        return self._progress.end

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame in presentation order, in RGB."""
        for frame in self.decode():
            with containers.as_video_error(self.path):
                image = frame.to_rgb()
            yield Frame(frame.index, frame.time, image, frame.index)

    def decode(self, sampler: Sampler | None = None) -> Iterator[DecodedFrame]:
        """Return every frame in presentation order; a frame is converted to RGB only when its ``to_rgb`` is called.

        With ``sampler``, only the frames that it accepts are returned, and what they do not depend on is not decoded, unless
        ``decodes_all``. Their times and numbers are the same as without.
        """
        if self._closed:
            raise VideoError(f"{self.path} was closed; open it again to read it")
        frames = self._frames(sampler)
        self._iterations.add(frames)
        return frames

    def skip(self, frame: DecodedFrame, error: Exception) -> None:
        """Record a frame that cannot be converted to RGB as damaged. Raises CorruptVideoError if damage is an error."""
        log = self._progress.log
        log.add_reason(error_reason(error))
        log.add_frames(1, frame.time, frame.time + frame.duration)
        self._check_strict(log, frame.index)

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
        if is_animated_webp(self.path):
            return self._probe_animation()
        with containers.open_container(self.path, self._on_read) as container:
            stream = containers.select_video_stream(container, self.path)
            duration, fps = containers.get_duration(container, stream), stream.average_rate
            codec = containers.codec_name(stream)
            log, container_start, discontinuous = (
                DamageLog(),
                containers.start_time(container),
                is_discontinuous(container),
            )
            decoder = Decoder(container, stream, log, path=self.path)
            first = next(decoder.frames(), None)
            if first is None and is_truncated(container, stream, self.path, failed=False, last_packet=None):
                log.add_reason("the file is cut off or overwritten")
        if first is None:
            raise self._no_frames_error(log)
        self._check_strict(log, 0)
        origin = decoder.clock.origin
        if discontinuous:
            self.timeline = self._scan_timeline()
            duration = duration if self.timeline.end is None else float(self.timeline.end - origin)
        self.timeline = replace(self.timeline, origin=origin)
        width, height = first.av_frame.width, first.av_frame.height
        if orientation_of(first.av_frame).transpose:
            width, height = height, width
        start = max(float(origin) - container_start, 0.0)
        return VideoInfo(self.path.name, width, height, duration, float(fps) if fps else None, start, codec)

    def _probe_animation(self) -> VideoInfo:
        log, count, last = DamageLog(), 0, None
        for last in read_animated_webp(self.path, log):  # noqa: B007 - the last one is used below
            count += 1
            if self._on_read is not None:
                self._on_read()
        if last is None:
            raise self._no_frames_error(log)
        size, duration = last.av_frame, last.time + last.duration
        return VideoInfo(self.path.name, size.width, size.height, duration, count / duration, codec="webp")

    def _scan_timeline(self) -> Timeline:
        with containers.open_container(self.path, self._on_read) as container, contextlib.suppress(CorruptVideoError):
            return scan_timeline(container, containers.select_video_stream(container, self.path))
        return Timeline()

    def _no_frames_error(self, log: DamageLog) -> VideoError:
        if log.reason:
            return CorruptVideoError(
                f"{self.path} is damaged after 0 frames ({log.reason}): no frame can be decoded; copy or encode the file again"
            )
        return NoVideoStreamError(f"{self.path} has a video stream without frames; give a file with video")

    def _frames(self, sampler: Sampler | None) -> Generator[DecodedFrame]:
        progress, orientations = _Progress(), OrientationCache()
        self._progress = progress
        with containers.as_video_error(self.path), contextlib.closing(self._read(progress, sampler)) as frames:
            for frame in frames:
                if self._closed:
                    return
                self._check_strict(progress.log, progress.frames)
                progress.frames, progress.end = progress.frames + 1, frame.time + frame.duration
                is_selected = sampler is None or sampler.accept(frame.time)
                if is_selected and isinstance(frame, TimedFrame):
                    yield DecodedFrame(progress.frames - 1, frame.time, frame.av_frame, frame.duration, orientations)
            self._check_strict(progress.log, progress.frames)

    def _read(self, progress: _Progress, sampler: Sampler | None) -> Generator[FrameTiming]:
        """Yield the good frames, without images where ``sampler`` selects none; the log is complete after the last."""
        if is_animated_webp(self.path):
            yield from read_animated_webp(self.path, progress.log)
            return
        with containers.open_container(self.path) as container:
            stream = containers.select_video_stream(container, self.path, self._threads)
            decoder = Decoder(container, stream, progress.log, path=self.path, counter=progress.packets)
            is_cut_after = partial(is_truncated, container, stream, self.path)
            if sampler is None or self._decodes_all:
                yield from decoder.frames()
            else:
                yield from select_frames(decoder, stream, sampler, partial(is_cut_after, failed=False))
            decoder.finish(is_cut_after(failed=decoder.fails_at_end, last_packet=decoder.last_packet))

    def _check_strict(self, log: DamageLog, delivered: int) -> None:
        """Raise CorruptVideoError if there is damage and damage is an error."""
        if not self._strict or not (damage := log.damage):
            return
        if damage.skipped:
            reason = f"is damaged after {delivered} frames ({log.reason})"
        else:
            reason = f"is cut off at {damage.truncated_at:.2f} s"
        raise CorruptVideoError(f"{self.path} {reason}; read it without strict checking, or copy or encode it again")


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
