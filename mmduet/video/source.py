"""The description of a video source, and the protocol of sources that are read live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mmduet.events import Frame
from mmduet.video.damage import Damage


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a source that are known before its first frame.

    Attributes:
        name: Name of the source in messages.
        width: Width in pixels after rotation.
        height: Height in pixels after rotation.
        duration: Duration in seconds; None for a live source, or if the container does not declare it.
        fps: Average frame rate that the container declares, or None. Frames need not be evenly spaced.
        start: Time of the first frame in seconds from the container's start, where players begin: above 0 if another
            stream, such as the sound, starts earlier.
        codec: FFmpeg's name of the codec, such as ``h264``; None if it is not known.
    """

    name: str
    width: int
    height: int
    duration: float | None
    fps: float | None
    start: float = 0.0
    codec: str | None = None


class LiveSource(Protocol):
    """A webcam or network stream, which can be read once.

    With ``live`` true it runs whether or not it is read. With ``live`` false it ends, and waits for its reader, such as a file
    on a web server.
    """

    @property
    def info(self) -> VideoInfo:
        """The source's name and size."""
        ...

    @property
    def live(self) -> bool:
        """Whether frames that are not read in time are lost."""
        ...

    @property
    def retry_at(self) -> float | None:
        """When a broken connection is opened again, on the monotonic clock; None while there is a connection."""
        ...

    @property
    def damage(self) -> Damage:
        """What could not be decoded so far."""
        ...

    @property
    def read_duration(self) -> float | None:
        """The duration in seconds of a file that has been read to its end, else None."""
        ...

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Yield frames at ``fps`` (None: every frame), indexed from 0, with times in seconds from the first."""
        ...

    def close(self) -> None:
        """Stop reading. May be called from another thread."""
        ...
