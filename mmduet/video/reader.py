"""Read a video file as frames for the engine: sampled, converted to RGB, and renumbered."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Literal

from mmduet.errors import VideoError
from mmduet.events import Frame
from mmduet.video.container import as_video_error
from mmduet.video.damage import Damage
from mmduet.video.letterbox import check_size
from mmduet.video.sampling import (
    ClockSampler,
    FrameSampler,
    check_frame_limit,
    check_rate,
    first_n,
    with_clock,
)
from mmduet.video.source import VideoInfo
from mmduet.video.video_file import DecodedFrame, VideoFile

Profile = Literal["fixed", "paper"]
ROUNDING_SECONDS = 1e-3  # by which containers round


class FrameReader(Iterator[Frame]):
    """The sampled frames of a file, which is closed after the last one, by ``close``, or when the reader is dropped.

    ``damage`` and ``duration`` are complete after the last frame.
    """

    def __init__(
        self,
        file: VideoFile,
        fps: float | None,
        profile: Profile,
        max_frames: int | None,
        size: int | None = None,
        *,
        expected_frames: int | None = None,
    ) -> None:
        """Read ``max_frames`` frames at most, and ``expected_frames`` of what lies before the declared end."""
        self._file = file
        self._frames = _read(file, _sample(file, fps, profile, max_frames, expected_frames), size)
        self._max_frames = max_frames
        self._last: Frame | None = None
        self._is_complete = False

    def __next__(self) -> Frame:
        """Return the next frame. Raises ``VideoError``."""
        try:
            self._last = next(self._frames)
        except StopIteration:
            self._is_complete = self._last is not None and self._last.index + 1 != self._max_frames
            raise
        return self._last

    @property
    def info(self) -> VideoInfo:
        """The file's name, size, declared duration and rate."""
        return self._file.info

    @property
    def damage(self) -> Damage:
        """What could not be read so far."""
        return self._file.damage

    @property
    def packets_decoded(self) -> int:
        """The number of packets that have been decoded; 0 for animated WebP."""
        return self._file.packets_decoded

    @property
    def duration(self) -> float | None:
        """The declared duration in seconds, but never less than what was read, and no more than that of a truncated file."""
        declared, read = self.info.duration, self._file.read_until
        if self.damage.truncated_at is not None:
            return self.damage.truncated_at
        return read if read > (declared or 0.0) + ROUNDING_SECONDS else declared

    @property
    def read_duration(self) -> float | None:
        """The duration in seconds if all frames have been returned, None if reading has ended earlier."""
        return self.duration if self._is_complete else None

    @property
    def last_frame_end(self) -> float | None:
        """The end of the last frame that was returned, in seconds; None if other frames of the file follow it."""
        is_last = self._last is not None and self._last.decoded_index + 1 == self._file.frames_read
        return self._file.read_until if is_last else None

    def close(self) -> None:
        """Close the file. May be called from another thread."""
        self._file.close()


def open_frames(
    path: str | os.PathLike[str],
    fps: float | None,
    profile: Profile = "fixed",
    max_frames: int | None = None,
    *,
    size: int | None = None,
    strict: bool = False,
    threads: int | None = None,
    decodes_all: bool = False,
) -> FrameReader:
    """Open a file and return its frames at ``fps`` (None: every frame), at most ``max_frames``, indexed from 0.

    ``fixed`` samples by timestamp and keeps each frame's own time; ``paper`` samples and times frames by the reference's clock.
    ``decoded_index`` is the frame's number in the file. Damaged frames are skipped and listed in ``damage``; with ``strict``,
    damage raises CorruptVideoError during iteration. Invalid options and unreadable files raise here. The file is closed when
    the iteration ends or is dropped.

    With ``size``, images are letterboxed to ``[size, size, 3]``, as ``letterbox`` does, in less time.

    Frames that are neither selected nor needed for selected ones are not decoded, so damage in them is not detected; with
    ``decodes_all`` or ``strict`` it is. ``threads`` limits the decoder's threads: by default 2, at most the CPU cores.
    """
    check_rate("fps", fps)
    check_frame_limit(max_frames)
    if size is not None:
        check_size(size)
    file = VideoFile(path, strict=strict, threads=threads, decodes_all=decodes_all)
    return FrameReader(file, fps, profile, max_frames, size)


def _read(file: VideoFile, samples: Iterator[tuple[float, DecodedFrame]], size: int | None) -> Generator[Frame]:
    """Yield the sampled frames, then close the file. Only selected frames are converted to RGB."""
    index, failure = 0, None
    with file:
        for time, decoded in samples:
            try:
                image = decoded.to_rgb() if size is None else decoded.to_letterboxed(size)
            except Exception as error:  # noqa: BLE001 - whatever a converter raises for one frame, the next one may be good
                failure = error
                file.skip(decoded, error)
            else:
                yield Frame(index, time, image, decoded.index)
                index += 1
    if failure is not None and not index:
        with as_video_error(file.path):
            raise failure


def _sample(
    file: VideoFile, fps: float | None, profile: Profile, max_frames: int | None, expected_frames: int | None
) -> Iterator[tuple[float, DecodedFrame]]:
    if profile == "paper":
        return _sample_by_clock(file, fps, max_frames, expected_frames)
    check_frame_limit(max_frames)
    frames = file.decode(None if fps is None else FrameSampler(fps))
    return ((frame.time, frame) for frame in first_n(frames, max_frames))


def _sample_by_clock(
    file: VideoFile, fps: float | None, max_frames: int | None, expected_frames: int | None
) -> Iterator[tuple[float, DecodedFrame]]:
    """Yield pairs of time and frame as ``sample_by_clock`` does."""
    input_fps = file.info.fps
    if input_fps is None:
        raise VideoError(f"{file.path} declares no frame rate, which the paper profile needs; use the fixed profile")
    check_frame_limit(max_frames)
    frames = file.decode(None if fps is None else ClockSampler(input_fps, fps))
    expected = _first_expected(frames, expected_frames, file.info.duration or 0.0)
    return first_n(with_clock(expected, fps or input_fps), max_frames)


def _first_expected(frames: Iterator[DecodedFrame], count: int | None, declared_end: float) -> Iterator[DecodedFrame]:
    """Yield the first ``count`` frames, and more only if the file continues after its declared end, which is then wrong."""
    for number, frame in enumerate(frames):
        if count is not None and number >= count and frame.time < declared_end:
            return
        yield frame
