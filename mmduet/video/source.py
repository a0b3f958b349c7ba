"""Protocols of video sources: a description and timed frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from mmduet.events import Frame


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a source that are known before its first frame.

    Attributes:
        name: Name of the source in messages.
        width: Width in pixels after rotation.
        height: Height in pixels after rotation.
        duration: Duration in seconds; None for a live source, or if the container does not declare it.
        fps: Average frame rate that the container declares, or None. Frames need not be evenly spaced.
    """

    name: str
    width: int
    height: int
    duration: float | None
    fps: float | None


@runtime_checkable
class FrameSource(Protocol):
    """A source of frames that can be iterated over, such as a file or a queue of pushed frames."""

    @property
    def info(self) -> VideoInfo:
        """The source's name, size, duration and rate."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame in presentation order, with its time in seconds from the start of the stream."""
        ...

    def close(self) -> None:
        """Close the source; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


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

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Yield frames at ``fps`` (None: every frame), indexed from 0, with times in seconds from the first."""
        ...

    def close(self) -> None:
        """Stop reading. May be called from another thread."""
        ...
