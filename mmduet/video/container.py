"""Open video containers and read their streams and duration; nothing is decoded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from mmduet.errors import (
    CorruptVideoError,
    MmduetError,
    NoDecoderError,
    NoVideoStreamError,
    VideoError,
    VideoNotFoundError,
)
from mmduet.files import is_special_file
from mmduet.redaction import redact
from mmduet.video.decoder_threads import decoder_threads
from mmduet.video.demuxing import error_reason
from mmduet.video.local_file import open_local
from mmduet.video.structure import is_cut
from mmduet.video.webcam import is_webcam

TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
"""Formats that FFmpeg detects in plain text: it would render a text file as a video of letters."""

HEADER_BYTES = 1 << 20  # read at both ends of a file to find the name of its codec

PREVIEW_SHARE = 0.25
"""Share of the largest stream's pixels up to which a stream counts as a preview of it, even if it is marked as the default:
writers mark the first stream."""

NO_VIDEO = (
    Disposition.attached_pic
    | Disposition.timed_thumbnails
    | Disposition.dependent
    | Disposition.metadata
    | Disposition.descriptions
)
_ADDRESS = re.compile(r"(https?|rtsps?):/+", re.IGNORECASE)
_OTHER_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)
CODEC_PATTERNS = (
    rb"vide.{0,4096}?stsd.{12}([ -~]{4})",  # MP4: the sample description of the video track
    rb"\x86[\x81-\x9f](V_[A-Z0-9/_]+)",  # Matroska: the element CodecID
    rb"vids([ -~]{4})",  # AVI: the stream header
    rb"^DKIF.{4}([ -~]{4})",  # IVF: the file header
    rb"^\x30\x26\xb2\x75.{0,4096}?\0\0.{8}\x01\0[\x01-\x20]\0([ -~]{4})",  # WMV: the bitmap header of the video stream
)


def open_container(path: Path, on_read: Callable[[], None] | None = None) -> InputContainer:
    """Open a file for reading, as a context manager. ``on_read`` is called before each read, which fails with what it raises.

    Raises ``VideoError`` naming the file and what to do.
    """
    if not path.exists():
        raise VideoNotFoundError(_describe_missing(path))
    if path.is_dir():
        raise VideoError(f"{path} is a directory; give a video file inside it")
    if is_special_file(path):
        raise VideoError(f"{path} is a pipe or a device, which can be read only once; send it to `mmduet run -`")
    if path.stat().st_size == 0:
        raise CorruptVideoError(f"{path} is empty; copy or record it again")
    try:
        return open_local(path, on_read)
    except MmduetError:
        raise
    except Exception as error:
        raise _open_error(path, error) from error


def _describe_missing(path: Path) -> str:
    """Return why there is no file of this name. A path has lost one of the slashes of an address."""
    name = str(path)
    if is_webcam(name):
        return f"{name} is a camera, not a file; use it with `mmduet stream`, which sends it to a server"
    if _ADDRESS.match(name):
        address = redact(_ADDRESS.sub(r"\1://", name, count=1))
        return (
            f"{address} is an address, not a file; use it with `mmduet stream`, which sends it to a server, "
            "or download the video"
        )
    if found := _OTHER_ADDRESS.match(name):
        address = redact(f"{found[1]}://{name[found.end() :]}")
        return f"{address} is an address with the unsupported scheme {found[1]}, not a file; give a video file"
    return f"{redact(name)} does not exist; check the name"


@contextmanager
def as_video_error(path: Path | str) -> Iterator[None]:
    """Turn any exception of a library in the block into a ``VideoError`` that names the file."""
    try:
        yield
    except MmduetError:
        raise
    except Exception as error:
        raise CorruptVideoError(
            f"{path} cannot be read ({error_reason(error)}); copy or encode the file again"
        ) from error


def select_video_stream(container: InputContainer, path: Path | str, threads: int | None = None) -> VideoStream:
    """Return the video stream to read, set to decode on ``threads`` threads; the other streams are not read.

    Threads share a frame, if its encoder has divided it into slices. With several frames at once (FFmpeg's frame threads), a
    frame may be returned before it is known to be damaged, and comes out one packet late.

    That is the stream marked as the default, unless it is a preview, or else the largest one; never a cover image, and a still
    picture only if there is nothing else. Raises ``VideoError`` if there is none, or no decoder for any.
    """
    if container.format.name in TEXT_FORMATS:
        raise CorruptVideoError(f"{path} is text, not a video; give a video file")
    streams = [stream for stream in container.streams.video if not stream.disposition & NO_VIDEO]
    if not streams:
        if isinstance(path, Path) and is_cut(container, path):
            raise CorruptVideoError(f"{path} is cut off before its index; copy or record it again")
        raise NoVideoStreamError(f"{path} has no video stream; give a file with video")
    decodable = [stream for stream in streams if has_decoder(stream)]
    if not decodable:
        raise NoDecoderError(
            f"{path} cannot be decoded: no decoder for {_codec_name(path)}; encode it again, for example as H.264"
        )
    selected = max(decodable, key=lambda stream: _rank(stream, max(map(_pixels, decodable))))
    for stream in container.streams:
        if stream is not selected:
            stream.discard = Discard.all
    selected.thread_type, selected.thread_count = "SLICE", decoder_threads(threads)
    return selected


def has_decoder(stream: Stream) -> bool:
    """Return whether FFmpeg can decode the stream."""
    return getattr(stream, "codec_context", None) is not None


def codec_name(stream: VideoStream) -> str:
    """Return FFmpeg's name of the stream's codec, such as ``h264``."""
    return str(stream.codec_context.codec.canonical_name)


def _pixels(stream: VideoStream) -> int:
    return stream.width * stream.height


def _rank(stream: VideoStream, most_pixels: int) -> tuple[bool, bool, int]:
    is_still = stream.frames == 1 and stream.duration is None  # the cover of an animated AVIF
    is_preview = _pixels(stream) <= PREVIEW_SHARE * most_pixels < most_pixels
    is_default = bool(stream.disposition & Disposition.default) and not is_preview
    return not is_still, is_default, _pixels(stream)


def _codec_name(path: Path | str) -> str:
    """Return "codec" and its name as the file states it; FFmpeg does not report it without a decoder."""
    if isinstance(path, str):
        return "the codec of its video stream"
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        data = file.read(HEADER_BYTES)
        file.seek(max(size - HEADER_BYTES, 0))
        data += file.read(HEADER_BYTES)
    for pattern in CODEC_PATTERNS:
        if found := re.search(pattern, data, re.DOTALL):
            return f"codec {found[1].decode()}"
    return "the codec of its video stream"


def get_duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the duration in seconds from the first frame, of the stream or else of the container; None if unknown."""
    declared = declared_duration(container, stream)
    if declared is None and container.duration is not None:
        return container.duration / av.time_base
    return declared


def start_time(container: InputContainer) -> float:
    """Return the timestamp in seconds at which the earliest stream starts."""
    return (container.start_time or 0) / av.time_base


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
