"""Read a video file as frames for the engine: sampled, converted to RGB, and renumbered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal

from mmduet.errors import VideoError
from mmduet.events import Frame
from mmduet.video.sampling import check_frame_limit, check_rate, sample_by_clock, sample_by_pts
from mmduet.video.video_file import DecodedFrame, VideoFile

Profile = Literal["fixed", "paper"]


def open_frames(
    path: str | os.PathLike[str], fps: float | None, profile: Profile = "fixed", max_frames: int | None = None
) -> Iterator[Frame]:
    """Open a file and return its frames at ``fps`` (None: every frame), at most ``max_frames``, indexed from 0.

    ``fixed`` samples by timestamp and keeps each frame's own time; ``paper`` samples and times frames by the reference's clock.
    ``decoded_index`` is the frame's number in the file. Invalid options and unreadable files raise here; damage inside the file
    raises CorruptVideoError during iteration. The file is closed when the iteration ends or is dropped.
    """
    check_rate("fps", fps)
    check_frame_limit(max_frames)
    return read_frames(VideoFile(path), fps, profile, max_frames)


def read_frames(file: VideoFile, fps: float | None, profile: Profile, max_frames: int | None) -> Iterator[Frame]:
    """Yield the frames of an open file as ``open_frames`` does, then close it. Only selected frames are converted to RGB."""
    with file:
        for index, (time, frame) in enumerate(_sample(file, fps, profile, max_frames)):
            yield Frame(index, time, frame.to_rgb(), frame.index)


def _sample(
    file: VideoFile, fps: float | None, profile: Profile, max_frames: int | None
) -> Iterator[tuple[float, DecodedFrame]]:
    if profile == "fixed":
        return ((frame.time, frame) for frame in sample_by_pts(file.decode(), fps, max_frames))
    if file.info.fps is None:
        raise VideoError(f"{file.path} declares no frame rate, which the paper profile needs; use the fixed profile")
    return sample_by_clock(file.decode(), file.info.fps, fps, max_frames)
