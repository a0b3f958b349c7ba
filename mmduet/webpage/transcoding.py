"""Makes a copy of a video that every browser plays: H.264 in MP4, small, with the times of the original."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import NoVideoStreamError
from mmduet.video import VideoFile
from mmduet.video.audio import AudioReader, has_audio
from mmduet.video.container import as_video_error
from mmduet.video.cutter import pixel_aspect
from mmduet.video.letterbox import fit_size
from mmduet.video.video_file import DecodedFrame, apply_orientation
from mmduet.video.writer import VideoWriter

MAX_SIDE = 720
"""Pixels of the longer side of a preview; smaller videos keep their size."""
CRF, PRESET, GOP = 26, "superfast", 60
MIN_FRAME_SECONDS = 1 / 31
"""A frame that follows the one before more quickly is left out."""
DEFAULT_FPS = 25.0
MAX_SECONDS = 1e6


def write_preview(source: Path, target: Path, on_time: Callable[[float], None]) -> None:
    """Write a preview of a video, complete or not at all.

    Frames are upright and keep their times, counted from the first one. Damaged frames are left out. ``on_time`` is called with
    the time of each frame; what it raises ends the work. Raises ``VideoError`` if the source cannot be read, or the target
    cannot be written.
    """
    with as_video_error(source), VideoFile(source) as file, ExitStack() as stack:
        size = _preview_size(file.info.height, file.info.width)
        writer, audio = _open_writer(file, target, size, stack)
        for frame, end in _with_ends(_drop_quick_frames(file.decode())):
            on_time(frame.time)
            try:
                image = _scale(frame, *size)
            except Exception as error:  # noqa: BLE001 - one frame that cannot be converted; the next one may be good
                file.skip(frame, error)
                continue
            writer.write(image, frame.time, end - frame.time)
            if audio is not None:
                writer.write_audio(audio.read_until(end))


def _preview_size(height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) of a preview."""
    return (height, width) if max(height, width) <= MAX_SIDE else fit_size(height, width, MAX_SIDE)


def _open_writer(
    file: VideoFile, target: Path, size: tuple[int, int], stack: ExitStack
) -> tuple[VideoWriter, AudioReader | None]:
    """Return the writer of the preview, and the reader of the video's sound if it has any; ``stack`` closes them."""
    first = next(file.decode(), None)
    if first is None:
        raise NoVideoStreamError(f"{file.path} has no frame that can be decoded; give a file with video")
    audio = None
    if has_audio(file.path):
        audio = stack.enter_context(closing(AudioReader(file.path, file.timeline, 0.0, MAX_SECONDS)))
    height, width = size
    writer = VideoWriter(
        target,
        width,
        height,
        file.info.fps or DEFAULT_FPS,
        CRF,
        PRESET,
        GOP,
        aspect=pixel_aspect(file.path, first),
        audio=audio is not None,
    )
    return stack.enter_context(writer), audio


def _drop_quick_frames(frames: Iterable[DecodedFrame]) -> Iterator[DecodedFrame]:
    """Yield the frames that follow the last one yielded after at least ``MIN_FRAME_SECONDS``."""
    last = -MIN_FRAME_SECONDS
    for frame in frames:
        if frame.time - last >= MIN_FRAME_SECONDS:
            last = frame.time
            yield frame


def _with_ends(frames: Iterable[DecodedFrame]) -> Iterator[tuple[DecodedFrame, float]]:
    """Yield every frame with the time at which the next one replaces it; the last one has its own duration."""
    previous: DecodedFrame | None = None
    for frame in frames:
        if previous is not None:
            yield previous, frame.time
        previous = frame
    if previous is not None:
        yield previous, previous.time + previous.duration


def _scale(frame: DecodedFrame, height: int, width: int) -> NDArray[np.uint8]:
    """Return the upright image of a frame, uint8 ``[height, width, 3]``."""
    stored = (width, height) if frame.orientation.transpose else (height, width)
    scaled = frame.av_frame.reformat(width=stored[1], height=stored[0], format="rgb24", threads=1)
    image = scaled.to_ndarray().astype(np.uint8, copy=False)
    return np.ascontiguousarray(apply_orientation(image, frame.orientation))
