"""Checks an uploaded file: whether it is a video that can be decoded, and whether it is within the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic

from mmduet.errors import ProtocolError, VideoError
from mmduet.server.media import MediaLoader
from mmduet.video import VideoFile
from mmduet.video import container as containers
from mmduet.video.animated_webp import is_animated_webp
from mmduet.video.demuxing import demux
from mmduet.video.hls_playlist import is_playlist
from mmduet.webpage.playback import browser_media_type

HEAD_BYTES = 64
MAX_CHECK_SECONDS = 20.0
"""Longest time to read a file for its check; the largest files take a few seconds."""
ENCRYPTION_PACKETS = 16
"""Packets of the video that are looked at for the mark of encryption."""
MAX_FRAMES_PER_SECOND = 240.0
"""Together with the longest duration this bounds the number of frames of a video."""

MAX_DECLARED_SHARE = 1.1
"""Declared durations up to this multiple of the measured one are believed; players show the last frame for so long."""


@dataclass(frozen=True)
class UploadedVideo:
    """Properties of a video that has passed the check.

    Attributes:
        duration: Duration in seconds.
        width, height: Size in pixels after rotation.
        start: Time of the first frame, in seconds from the beginning of the container.
        media_type: Media type under which browsers play the file; None if they do not play it.
    """

    duration: float
    width: int
    height: int
    start: float
    media_type: str | None


def check_upload(path: Path, name: str, media: MediaLoader, max_seconds: float) -> UploadedVideo:
    """Return the properties of an uploaded file; errors call it ``name``. Blocking.

    Raises ``VideoError`` if it is not a video that can be decoded or its frames are too large, and ``ProtocolError`` if it is
    encrypted or too long, or the check takes more than ``MAX_CHECK_SECONDS``.
    """
    deadline = Deadline(MAX_CHECK_SECONDS, name)
    with named_errors(path, name), deadline.applied():
        _check_not_playlist(path, name)
        _check_not_encrypted(path, name, deadline.check)
        with VideoFile(path, on_read=deadline.check) as file:
            info = file.info
        media.check_size(info)
        is_exact = file.timeline.end is not None or is_animated_webp(path)  # all of the file was read for it
        measured = _measure_duration(path, max_seconds, deadline.check)
        duration = _choose_duration(info.duration, measured, is_exact)
        if duration > max_seconds:
            raise ProtocolError(
                f"{name} lasts {duration:.0f} s and at most {max_seconds:g} s are accepted; upload a shorter video",
                "video_too_long",
            )
        return UploadedVideo(duration, info.width, info.height, info.start, browser_media_type(path))


class Deadline:
    """The end of the time for checking a file, which errors call ``name``."""

    def __init__(self, seconds: float, name: str) -> None:
        self._seconds, self._name, self._end = seconds, name, monotonic() + seconds

    def check(self) -> None:
        """Raise ``ProtocolError`` after the deadline."""
        if monotonic() > self._end:
            raise ProtocolError(
                f"{self._name} cannot be checked within {self._seconds:g} s; encode it again, or upload a shorter video",
                "video_check_timeout",
            )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace an error of the block after the deadline, which FFmpeg reports as damage, by that of the deadline."""
        try:
            yield
        except VideoError:
            self.check()
            raise


@contextmanager
def named_errors(path: Path, name: str) -> Iterator[None]:
    """Replace the path of a file by ``name`` in the errors of the block."""
    try:
        yield
    except VideoError as error:
        raise type(error)(str(error).replace(str(path), name)) from None


def _check_not_playlist(path: Path, name: str) -> None:
    with path.open("rb") as file:
        if is_playlist(file.read(HEAD_BYTES)):
            raise VideoError(f"{name} is a list of other files; upload the video itself")


def _check_not_encrypted(path: Path, name: str, on_read: Callable[[], None]) -> None:
    """Raise ``ProtocolError`` if the packets of the video are encrypted, which a decoder would report as damage."""
    with suppress(VideoError), containers.as_video_error(path), containers.open_container(path, on_read) as container:
        stream = containers.select_video_stream(container, path)
        packets = islice(demux(container, [stream]), ENCRYPTION_PACKETS)
        if any(packet.has_sidedata("encryption_info") for packet in packets):
            raise ProtocolError(
                f"{name} is encrypted (DRM) and cannot be decoded; upload a copy that is not", "encrypted_video"
            )


def _choose_duration(declared: float | None, measured: float, is_exact: bool) -> float:
    """Return the declared duration if it is exact or may be true, else the measured one, in seconds."""
    if declared is None:
        return measured
    is_plausible = measured <= declared <= measured * MAX_DECLARED_SHARE + 1.0
    return declared if is_exact or is_plausible or not measured else measured


def _measure_duration(path: Path, max_seconds: float, on_read: Callable[[], None]) -> float:
    """Return the time from the first to the end of the last frame in seconds, which containers may not declare.

    Nothing is decoded. Raises ``ProtocolError`` for more frames than ``max_seconds`` can have.
    """
    limit = max_seconds * MAX_FRAMES_PER_SECOND
    with containers.as_video_error(path), containers.open_container(path, on_read) as container:
        stream = containers.select_video_stream(container, path)
        rate = stream.average_rate
        first: float | None = None
        end, count = 0.0, 0
        for packet in demux(container, [stream]):
            on_read()
            count += 1
            if count > limit:
                raise ProtocolError(
                    f"the video has more than {limit:.0f} frames; upload a shorter video", "video_too_long"
                )
            if packet.pts is not None:
                time = float(packet.pts * packet.time_base)
                first = time if first is None else min(first, time)
                end = max(end, time + float((packet.duration or 0) * packet.time_base))
    if first is None:  # a raw stream without timestamps
        return count / float(rate) if rate else 0.0
    return end - first
