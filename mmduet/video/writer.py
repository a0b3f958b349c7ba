"""Write RGB frames and audio as an H.264 MP4 that is either complete or absent.

Colours are BT.601 and tagged as such, so that readers that use the tag and readers that ignore it (OpenCV) agree.
"""

from __future__ import annotations

import contextlib
import math
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mmduet.errors import OptionError, VideoWriteError
from mmduet.video.demuxing import error_reason
from mmduet.video.letterbox import check_image
from mmduet.video.sampling import check_rate

TIME_BASE = Fraction(1, 90000)
MATRIX_BT601 = 6  # H.264's number of the matrix; PyAV's Colorspace has those of the scaler
MAX_SIDE = 16384  # limit of libx264
AUDIO_RATE = 48_000  # samples per second
AUDIO_LAYOUT = "stereo"


class VideoWriter:
    """Writes to a temporary file, which becomes ``path`` when the ``with`` block succeeds and is deleted otherwise.

    H.264 4:2:0 needs even sides: an odd side is extended by a copy of its last line. ``gop`` is the maximum number of frames
    between key frames (None: the encoder's 250), ``aspect`` a pixel's width divided by its height, ``audio`` whether audio will
    be written. Raises OptionError for invalid sizes, rates and images, and VideoWriteError if the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        fps: float,
        crf: int = 23,
        preset: str = "ultrafast",
        gop: int | None = None,
        *,
        aspect: Fraction | None = None,
        audio: bool = False,
    ) -> None:
        check_rate("fps", fps)
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise OptionError(f"video size {width}x{height} cannot be encoded; give 1 to {MAX_SIDE} pixels a side")
        self.path = Path(path)
        self._size = (height, width)
        self._fps = fps
        self._frame_count = 0
        self._last_tick = -1
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}-{id(self):x}.part")
        self._container: OutputContainer | None = None
        # No B-frames: with variable frame durations they make the duration of the track wrong.
        options = {"crf": str(crf), "preset": preset, "bf": "0"} | ({} if gop is None else {"g": str(gop)})
        try:
            self._container = av.open(f"file:{self._part}", "w", format="mp4", options={"movflags": "faststart"})
            self._stream = _add_video_stream(self._container, self._size, fps, options)
            self._stream.codec_context.sample_aspect_ratio = aspect or Fraction(0)  # 0: unspecified
            self._audio_stream = _add_audio_stream(self._container) if audio else None
            self._sample_count = 0  # audio samples written
            self._container.start_encoding()  # here, so that an invalid folder or preset fails before the first frame
        except (av.FFmpegError, OSError, ValueError) as error:
            self.abort()
            reason = self._reason(error)
            raise VideoWriteError(f"{self.path} cannot be written ({reason}); check the folder and options") from error

    def write(self, image: NDArray[np.uint8], time: float | None = None, duration: float | None = None) -> None:
        """Add RGB uint8 ``[H, W, 3]``, shown from ``time`` seconds, by default its number divided by the rate.

        ``time`` must be after that of the last frame. ``duration`` is in seconds, by default 1/fps, for the last frame.
        """
        if self._container is None:
            raise VideoWriteError(f"{self.path} is closed; open a new writer")
        self._check_size(image)
        frame = _to_yuv(image)
        frame.pts, frame.time_base = self._next_tick(time), TIME_BASE
        frame.duration = round((1 / self._fps if duration is None else duration) / TIME_BASE)
        self._encode(self._container, self._stream, frame)
        self._frame_count += 1

    def write_audio(self, samples: NDArray[np.float32]) -> None:
        """Append audio samples, float32 ``[2, N]`` from -1 to 1, at ``AUDIO_RATE``."""
        if self._container is None or self._audio_stream is None:
            raise VideoWriteError(
                f"{self.path} is closed or was opened without audio; open a new writer with audio=True"
            )
        if not samples.shape[1]:
            return
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=AUDIO_LAYOUT)
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, self._sample_count, Fraction(1, AUDIO_RATE)
        self._encode(self._container, self._audio_stream, frame)
        self._sample_count += samples.shape[1]

    def close(self) -> None:
        """Complete the file; a second call does nothing. Raises VideoWriteError if no frame was written."""
        if self._container is None:
            return
        try:
            if not self._frame_count:
                raise VideoWriteError(f"{self.path} has no frames; write at least one")
            for stream in (self._stream, self._audio_stream):
                if stream is not None:
                    self._encode(self._container, stream, None)
            self._finish(self._container)
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop and delete the partial file; after ``close`` this does nothing."""
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(av.FFmpegError, OSError):
                container.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _check_size(self, image: NDArray[np.uint8]) -> None:
        check_image(image)
        if image.shape[:2] != self._size:
            height, width = self._size
            raise OptionError(
                f"frame of {image.shape[1]}x{image.shape[0]} in a video of {width}x{height}; scale it first"
            )

    def _next_tick(self, time: float | None) -> int:
        seconds = self._frame_count / self._fps if time is None else time
        tick = round(seconds / TIME_BASE) if math.isfinite(seconds) else -1
        if tick <= self._last_tick:
            last = float(self._last_tick * TIME_BASE) if self._frame_count else 0.0
            raise OptionError(f"frame time {seconds} s is not after the last one, {last:.6f} s; write in order of time")
        self._last_tick = tick
        return tick

    def _encode(
        self, container: OutputContainer, stream: VideoStream | AudioStream, frame: VideoFrame | AudioFrame | None
    ) -> None:
        try:
            container.mux(stream.encode(frame))  # type: ignore[arg-type]  # a union for each stream's own frame type
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoWriteError(
                f"{self.path}: frame {self._frame_count} cannot be written ({self._reason(error)}); "
                "check that the disk is not full"
            ) from error

    def _reason(self, error: Exception) -> str:
        """Return the error's message without its number and the name of the temporary file."""
        return error_reason(error).replace(f"file:{self._part}", str(self.path))

    def _finish(self, container: OutputContainer) -> None:
        try:
            container.close()
            self._container = None
            self._part.replace(self.path)
        except (av.FFmpegError, OSError) as error:
            raise VideoWriteError(
                f"{self.path} cannot be completed ({self._reason(error)}); check that the disk is not full"
            ) from error


def _add_video_stream(
    container: OutputContainer, size: tuple[int, int], fps: float, options: dict[str, str]
) -> VideoStream:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000), options=options)
    context = stream.codec_context
    context.height, context.width = (side + side % 2 for side in size)
    context.flags |= Flags.frame_duration
    context.pix_fmt, context.time_base, context.thread_count = "yuv420p", TIME_BASE, 1
    context.colorspace, context.color_range = MATRIX_BT601, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.SMPTE170M, ColorTrc.SMPTE170M
    return stream


def _add_audio_stream(container: OutputContainer) -> AudioStream:
    stream = container.add_stream("aac", rate=AUDIO_RATE)
    stream.codec_context.layout = AUDIO_LAYOUT
    return stream


def _to_yuv(image: NDArray[np.uint8]) -> VideoFrame:
    """Convert uint8 ``[H, W, 3]`` to a yuv420p frame with even sides; the last line of an odd side is repeated."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rgb = VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
    return rgb.reformat(
        format="yuv420p", dst_colorspace=Colorspace.SMPTE170M, dst_color_range=ColorRange.MPEG, threads=1
    )
