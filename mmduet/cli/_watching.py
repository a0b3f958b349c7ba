"""What ``run`` and ``stream`` share: turns as they are typed, frames that go in, outputs that come out, files at the end."""

from __future__ import annotations

import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from mmduet.cli._events import Listener, Story
from mmduet.errors import OptionError, SessionClosedError
from mmduet.events import Context, Frame, Query, SessionFailed
from mmduet.options import SpeakOptions

if TYPE_CHECKING:
    from mmduet.tasks.base import Stream
    from mmduet.viz.run_plot import FilmStrip

TIMED = re.compile(r"(?P<text>.*)@(?P<time>[+-]?(\d+(\.\d*)?|\.\d+))\s*", re.DOTALL)
POLICIES = "threshold:V|sum:V|never"
HEADS = "Which decide: informative, relevance or both."
Turn = TypeVar("Turn", Query, Context)


def parse_turns(option: str, texts: Iterable[str] | None, kind: Callable[[str, float], Turn]) -> list[Turn]:
    """``TEXT@SECONDS`` or ``TEXT``, which stands at 0; an @ without a number after it belongs to the text."""
    return [kind(*parse_timed(option, text)) for text in texts or ()]


def parse_timed(option: str, text: str) -> tuple[str, float]:
    """Text and time of one turn. Raises ``OptionError`` where either cannot be used."""
    timed = TIMED.fullmatch(text)
    words, at = (timed["text"].rstrip(), float(timed["time"])) if timed else (text, 0.0)
    if at < 0 or not math.isfinite(at):
        raise OptionError(f"{option} {text!r} stands at {at} seconds; use a time from 0 up, as in 'What is this?@12.5'")
    if not words.strip():
        raise OptionError(f"{option} {text!r} has no text; write it before the time, as in 'What is this?@12.5'")
    return check_words(option, words), at


def check_words(option: str, words: str) -> str:
    """The words; raises ``OptionError`` where there are none, or where they are no text."""
    if not words.strip():
        raise OptionError(f"{option} {words!r} has no text; say what is asked")
    if not words.isascii() and any("\ud800" <= char <= "\udfff" for char in words):
        raise OptionError(f"{option} {words!r} is not valid UTF-8; encode it anew")
    return words


def given(**values: Any) -> Mapping[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def feed(
    items: Iterable[Frame | Query | Context], stream: Stream, stop: threading.Event, strip: FilmStrip | None
) -> None:
    """Push them until they end or nobody wants them; where a frame cannot be had, what came before is still watched."""
    with suppress(SessionClosedError):  # why it closed is told by its outputs
        try:
            for item in items:
                if stop.is_set():
                    return
                stream.push(item)
                if strip is not None and isinstance(item, Frame):
                    strip.add(item)
        finally:
            with suppress(SessionClosedError):
                stream.end()


def paced(frames: Iterable[Frame], stop: threading.Event) -> Iterator[Frame]:
    """Each frame no earlier than its time, counted from the first."""
    start = time.monotonic()
    for frame in frames:
        if stop.wait(max(start + frame.time - time.monotonic(), 0)):
            return
        yield frame


def tell(stream: Stream, listeners: tuple[Listener, ...]) -> SessionFailed | None:
    """Hand every output to every listener; returns the failure the session ended with, if it did."""
    failed = None
    for output in stream.outputs():
        for listen in listeners:
            listen(output)
        failed = output if isinstance(output, SessionFailed) else None
    return failed


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, with status 143."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: leave(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(status: int) -> NoReturn:
    """End the program from wherever it is."""
    raise SystemExit(status)


def film_strip(plot: Path | None) -> FilmStrip | None:
    """Where thumbnails are kept if something is to be drawn."""
    if plot is None:
        return None
    from mmduet.viz.run_plot import FilmStrip

    return FilmStrip()


def write_files(
    plot: Path | None,
    subtitles: Path | None,
    title: tuple[str, str],
    story: Story,
    strip: FilmStrip | None,
    speak: SpeakOptions,
) -> None:
    """The files that are written at the end, from what there is; nothing to draw without a frame."""
    if subtitles is not None:
        from mmduet.annotations.subtitles import cues_of, write_subtitles

        write_subtitles(subtitles, cues_of(story.replies))
    if plot is not None and strip is not None and story.scores:
        from mmduet.viz.run_plot import draw

        draw(plot, title, story, strip, speak)


def summary(story: Story, elapsed: float) -> str:
    """One line on what was watched."""
    frames, replies = len(story.scores), len(story.replies)
    pace = story.duration / elapsed if elapsed > 0 else 0.0
    return (
        f"{frames} frame{'s' * (frames != 1)}, {story.duration:.2f} s of video, "
        f"{replies} repl{'y' if replies == 1 else 'ies'}, {pace:.1f}x real time"
    )
