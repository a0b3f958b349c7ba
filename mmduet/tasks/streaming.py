"""Feed videos to a stream, local or remote, and run a task on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from threading import Event
from typing import Protocol, TypeVar

from mmduet.errors import SessionClosedError
from mmduet.events import Context, Frame, Output, Query
from mmduet.options import SpeakOptions
from mmduet.tasks.base import RunConfig, StreamResult, Task

R = TypeVar("R")


class Stream(Protocol):
    """A session that frames are pushed to; implemented by ``engine.Stream`` and ``client.RemoteStream``."""

    def push(self, item: Frame | Query | Context) -> None: ...
    def end(self) -> None: ...
    def outputs(self) -> Iterator[Output]: ...


class InteractiveStream(Stream, Protocol):
    """A stream that a user controls while it runs, from any thread; implemented by the same classes."""

    def speak_now(self) -> None: ...
    def update_speak(self, speak: SpeakOptions) -> None: ...
    def close(self) -> None: ...


def feed(
    stream: Stream,
    items: Iterable[Frame | Query | Context],
    stop: Event | None = None,
    on_frame: Callable[[Frame], None] | None = None,
) -> None:
    """Push the items until they end or ``stop`` is set, then end the stream.

    ``on_frame`` is called with every frame that has been pushed. The stream is also ended if ``items`` raises, so that what
    came before is still processed. A stream that has closed is not an error here: its ``outputs`` report why.
    """
    with suppress(SessionClosedError):
        try:
            for item in items:
                if stop is not None and stop.is_set():
                    return
                stream.push(item)
                if on_frame is not None and isinstance(item, Frame):
                    on_frame(item)
        finally:
            with suppress(SessionClosedError):
                stream.end()


def run_stream(stream: Stream, frames: Iterable[Frame], turns: Sequence[Query | Context] = ()) -> Iterator[Output]:
    """Feed frames and turns to the stream in order of time, then yield its outputs.

    Outputs are bounded by the inputs, so reading them only after the last frame does not block the stream.
    """
    feed(stream, merge_by_time(frames, turns))
    yield from stream.outputs()


def run_task(
    task: Task[R], config: RunConfig, stream: Stream, frames: Iterable[Frame], duration: float | None = None
) -> R:
    """Run a task on a stream that was opened with ``config``; raise the error that ended the stream early."""
    return task.result(StreamResult.from_outputs(run_stream(stream, frames, config.queries), duration))


def merge_by_time(frames: Iterable[Frame], turns: Sequence[Query | Context]) -> Iterator[Frame | Query | Context]:
    """Yield frames and turns in order: each turn before the first frame at or after its time, later turns at the end."""
    pending = sorted(turns, key=lambda turn: turn.time)
    for frame in frames:
        while pending and pending[0].time <= frame.time:
            yield pending.pop(0)
        yield frame
    yield from pending
