"""Protocols of video sources: a description and timed frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from mmduet.events import Frame


@dataclass(frozen=True)
class VideoInfo:
    """What is known before the first frame: ``width`` and ``height`` in pixels after rotation, ``duration`` in seconds.

    ``duration`` is None for a live source, and for a file whose container does not tell; ``fps`` is the container's
    average, None where it gives none, and no promise that the frames are evenly spaced.
    """

    name: str
    width: int
    height: int
    duration: float | None
    fps: float | None


@runtime_checkable
class FrameSource(Protocol):
    """A file, a webcam, a network stream or a queue of pushed frames."""

    @property
    def info(self) -> VideoInfo:
        """The source's name, size, duration and rate."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Every frame in presentation order, with its time in seconds from the start of the stream."""
        ...

    def close(self) -> None:
        """End the source; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveSource(Protocol):
    """A webcam or network stream: read once, and running whether or not it is read.

    A source with ``live`` False ends on its own and waits for its reader, such as a file on a web server.
    """

    @property
    def info(self) -> VideoInfo:
        """The source's name and size."""
        ...

    @property
    def live(self) -> bool:
        """Whether frames that are not taken in time are gone."""
        ...

    def frames(self, fps: float | None) -> Iterator[Frame]:
        """Frames at ``fps`` (None: every frame), indexed from 0, times in seconds from the first."""
        ...

    def close(self) -> None:
        """Stop reading; from another thread, too."""
        ...
