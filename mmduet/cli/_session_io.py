"""Run one session for ``run`` and ``stream``: push frames from a thread, dispatch outputs, write the files at the end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mmduet.cli._transcript import OutputListener, Transcript, turn_text
from mmduet.events import Context, Frame, Query, SessionFailed
from mmduet.options import SpeakOptions

if TYPE_CHECKING:
    from mmduet.tasks.streaming import Stream
    from mmduet.viz.film_strip import FilmStrip

Item = Frame | Query | Context


def drop_none(**values: Any) -> Mapping[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def run_session(
    stream: Stream,
    items: Iterable[Item],
    listeners: Sequence[OutputListener],
    *,
    strip: FilmStrip | None,
    stop: threading.Event,
    close: Callable[[], None],
) -> SessionFailed | None:
    """Push ``items`` from a thread and hand every output to every listener, until the session ends.

    ``close`` closes stream and source and is called in any case; ``stop`` is set before. Return the failure that ended the
    session, if any. Raise what the source raised, after the outputs for the items before it.
    """
    from mmduet.tasks.streaming import feed

    with ThreadPoolExecutor(1, "mmduet-source") as pool:
        pushing = pool.submit(feed, stream, items, stop, strip.add if strip is not None else None)
        try:
            failure = dispatch_outputs(stream, listeners)
        finally:
            stop.set()
            close()
        pushing.result()
    return failure


def at_realtime(frames: Iterable[Frame], stop: threading.Event) -> Iterator[Frame]:
    """Yield each frame no earlier than its time after the first one; end early if ``stop`` is set."""
    start = time.monotonic()
    for frame in frames:
        if stop.wait(max(start + frame.time - time.monotonic(), 0)):
            return
        yield frame


def dispatch_outputs(stream: Stream, listeners: Sequence[OutputListener]) -> SessionFailed | None:
    """Hand every output to every listener; return the failure that ended the session, if any."""
    failure = None
    for output in stream.outputs():
        for listen in listeners:
            listen(output)
        failure = output if isinstance(output, SessionFailed) else None
    return failure


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Let SIGTERM end the block with exit status 143, as Ctrl-C does with 130, and SIGHUP (a closed terminal) with 129.

    Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # no SIGHUP on Windows
    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    previous = {number: signal.signal(number, _raise_system_exit) for number in handled}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise_system_exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def write_subtitle_file(
    path: Path | None, transcript: Transcript, duration: float | None = None, start: float = 0.0
) -> None:
    """Write the replies as subtitles, if there is a path; blank replies have no cue.

    Cues end with the video after ``duration`` seconds. They count from the container's start, ``start`` seconds before it.
    """
    if path is None:
        return
    from mmduet.annotations.subtitles import shift_cues, write_subtitles
    from mmduet.viz.subtitle_timing import reply_cues

    replies = [(reply.time, reply.display_text) for reply in transcript.replies if reply.text.strip()]
    write_subtitles(path, shift_cues(reply_cues(replies), duration, start))


def write_plot(
    path: Path | None, title: str, remark: str, transcript: Transcript, strip: FilmStrip | None, speak: SpeakOptions
) -> None:
    """Draw the session, if there is a path and at least one scored frame."""
    if path is None or strip is None or not transcript.scores:
        return
    from mmduet.viz.run_plot import RunPlot, TimedText, save_run_plot

    queries = [TimedText(read.time, turn_text(read.query, read.time)) for read in transcript.queries]
    replies = [TimedText(reply.time, reply.display_text) for reply in transcript.replies]
    save_run_plot(path, RunPlot(title, remark, transcript.scores, queries, replies, speak, strip))
