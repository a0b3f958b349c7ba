"""Knows what a video container tells about itself: its streams, its length and whether it is whole; never decodes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from mmduet.errors import CorruptVideoError, NoVideoStreamError, VideoError, VideoNotFoundError

TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
"""What FFmpeg takes plain text for: it would render a text file as a film of letters."""

THREADS = 2
"""Decoder threads: a server has a file per stream to spread over its cores, and with many threads FFmpeg drops errors
in the last pictures of a file."""

SHORTFALL = 0.1
"""The part of the promised length that may be missing before the file counts as cut off, and never under half a second:
containers round, and the last frame's length is a guess."""


def open_container(path: Path) -> InputContainer:
    """Open for reading; use it in a ``with`` block. Raises a VideoError that names the file and the remedy."""
    if not path.exists():
        raise VideoNotFoundError(f"{path} does not exist; check the name")
    if path.is_dir():
        raise VideoError(f"{path} is a directory; give a video file inside it")
    if path.stat().st_size == 0:
        raise CorruptVideoError(f"{path} is empty; copy or record it anew")
    try:
        # A playlist in disguise must not reach for the network; "file:" keeps a colon in a name from being a protocol.
        return av.open(f"file:{path}", "r", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, ValueError) as error:
        raise _unreadable(path, error) from error


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is not a cover picture, set to decode on several threads."""
    if container.format.name in TEXT_FORMATS:
        raise CorruptVideoError(f"{path} is text, not a video; give a video file")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_type, stream.thread_count = "AUTO", THREADS
            return stream
    raise NoVideoStreamError(f"{path} has no video stream; give a file that has pictures")


def duration_of(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds from the first frame to the end, as the stream or else the container has it; None where neither does."""
    promised = promised_length(container, stream)
    if promised is None and container.duration is not None:
        return container.duration / av.time_base
    return promised


def promised_length(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds the container vouches for in *this* stream; None where only another stream might be that long."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    start = float((stream.start_time or 0) * (stream.time_base or Fraction(0)))
    tag = next((text for name, text in stream.metadata.items() if name.upper().startswith("DURATION")), None)
    if tag is not None and (end := _clock_text(tag)) is not None:
        return max(end - start, 0.0)  # Matroska counts from zero, not from the stream's start
    if len(container.streams) == 1 and container.duration:
        return max(container.duration / av.time_base - max(start, 0.0), 0.0)
    return None


def check_end(container: InputContainer, stream: VideoStream, end: float, path: Path) -> None:
    """Raise CorruptVideoError if the file stops before the last sample of its index, or well before its length."""
    entries = stream.index_entries
    if len(entries) and entries[-1].pos + entries[-1].size > path.stat().st_size:
        raise CorruptVideoError(
            f"{path} is cut off at {end:.2f} s: its index goes on past the end of the file; copy it anew"
        )
    promised = promised_length(container, stream)
    if promised is not None and promised - end > max(SHORTFALL * promised, 0.5):
        raise CorruptVideoError(f"{path} ends at {end:.2f} s of the {promised:.2f} s it promises; copy it anew")


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, without its number."""
    return getattr(error, "strerror", None) or str(error)


def _clock_text(text: str) -> float | None:
    """Seconds of "HH:MM:SS.fraction"; None if it is not that."""
    try:
        hours, minutes, seconds = (float(part) for part in text.split(":"))
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds


def _unreadable(path: Path, error: Exception) -> VideoError:
    if isinstance(error, PermissionError):
        return VideoError(f"{path} may not be read; change its permissions")
    return CorruptVideoError(
        f"{path} is no video FFmpeg can read, or is cut off before its index ({reason(error)}); copy or encode it anew"
    )
