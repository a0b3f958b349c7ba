"""Open video containers, read their streams and duration, and check that files are complete; nothing is decoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from mmduet.errors import CorruptVideoError, NoVideoStreamError, VideoError, VideoNotFoundError
from mmduet.redaction import redact
from mmduet.video.local_file import open_local

TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
"""Formats that FFmpeg detects in plain text: it would render a text file as a video of letters."""

DECODER_THREADS = 2
"""Threads per decoder: a server decodes many files at once, and with many threads FFmpeg drops errors in a file's last
frames."""

MAX_MISSING_SHARE = 0.1
"""Share of the declared duration that may be missing, at least half a second, before a file counts as cut off: containers
round, and the last frame's duration is an estimate."""


def open_container(path: Path) -> InputContainer:
    """Open a file for reading, as a context manager. Raises ``VideoError`` naming the file and what to do."""
    if not path.exists():
        raise VideoNotFoundError(f"{redact(str(path))} does not exist; check the name")
    if path.is_dir():
        raise VideoError(f"{path} is a directory; give a video file inside it")
    if path.stat().st_size == 0:
        raise CorruptVideoError(f"{path} is empty; copy or record it again")
    try:
        return open_local(path)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise _open_error(path, error) from error


def select_video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the first video stream that is not a cover image, set to decode on several threads."""
    if container.format.name in TEXT_FORMATS:
        raise CorruptVideoError(f"{path} is text, not a video; give a video file")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_type, stream.thread_count = "AUTO", DECODER_THREADS
            return stream
    raise NoVideoStreamError(f"{path} has no video stream; give a file with video")


def get_duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the duration in seconds from the first frame, of the stream or else of the container; None if unknown."""
    declared = declared_duration(container, stream)
    if declared is None and container.duration is not None:
        return container.duration / av.time_base
    return declared


def declared_duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the declared duration of *this* stream in seconds; None if the container may mean another stream."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    start = float((stream.start_time or 0) * (stream.time_base or Fraction(0)))
    tag = next((text for name, text in stream.metadata.items() if name.upper().startswith("DURATION")), None)
    if tag is not None and (end := _parse_clock_time(tag)) is not None:
        return max(end - start, 0.0)  # Matroska counts from zero, not from the stream's start
    if len(container.streams) == 1 and container.duration:
        return max(container.duration / av.time_base - max(start, 0.0), 0.0)
    return None


def check_complete(container: InputContainer, stream: VideoStream, end: float, path: Path) -> None:
    """Raise CorruptVideoError if the file, decoded up to ``end`` seconds, ends before its index or declared duration does."""
    entries = stream.index_entries
    if len(entries) and entries[-1].pos + entries[-1].size > path.stat().st_size:
        raise CorruptVideoError(
            f"{path} is cut off at {end:.2f} s: its index continues past the end of the file; copy it again"
        )
    declared = declared_duration(container, stream)
    if declared is not None and declared - end > max(MAX_MISSING_SHARE * declared, 0.5):
        raise CorruptVideoError(f"{path} ends at {end:.2f} s of its declared {declared:.2f} s; copy it again")


def error_reason(error: Exception) -> str:
    """Return FFmpeg's error message without its number."""
    return getattr(error, "strerror", None) or str(error)


def _parse_clock_time(text: str) -> float | None:
    """Return the seconds of "HH:MM:SS.fraction", or None for other text."""
    try:
        hours, minutes, seconds = (float(part) for part in text.split(":"))
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds


def _open_error(path: Path, error: Exception) -> VideoError:
    if isinstance(error, PermissionError):
        return VideoError(f"{path} cannot be read: permission denied; change its permissions")
    return CorruptVideoError(
        f"{path} is not a video that FFmpeg can read, or is cut off before its index ({error_reason(error)}); "
        "copy or encode it again"
    )
