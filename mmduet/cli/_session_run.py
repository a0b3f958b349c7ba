"""What ``run`` and ``stream`` share: run a session on a source, display it, and write its files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from mmduet.cli._display import DisplayOptions, is_live_display, is_terminal, open_display
from mmduet.cli._json_lines import open_json_lines
from mmduet.cli._session_io import run_session, write_plot, write_subtitle_file
from mmduet.cli._session_options import ResultOptions
from mmduet.cli._source_frames import SourceFrames
from mmduet.cli._transcript import LateTurns, OutputListener, Transcript
from mmduet.cli._typed_commands import HINT, TypedCommands
from mmduet.cli._typed_lines import TypedLines, open_typed_lines
from mmduet.cli._warnings import print_session_warnings, warn_about_damage
from mmduet.events import Context, Frame, Query, SessionFailed
from mmduet.options import SpeakOptions
from mmduet.text import to_printable
from mmduet.viz.film_strip import FilmStrip

if TYPE_CHECKING:
    from mmduet.tasks.streaming import InteractiveStream
    from mmduet.video.source import LiveSource


@dataclass(frozen=True, kw_only=True)
class SessionRun:
    """A session that is ready to run on a source, and how it is displayed.

    Attributes:
        duration: Seconds of video that are processed at most, None if unknown.
        realtime: Whether frames come at the speed of the video.
        prepare: Returns what is pushed to the stream for these frames, such as the frames and the turns between them.
    """

    source: LiveSource
    frames: SourceFrames
    model: str
    speak: SpeakOptions
    window: int | None
    duration: float | None
    realtime: bool
    prepare: Callable[[Iterable[Frame]], Iterable[Frame | Query | Context]] = iter


def run_and_write(
    options: ResultOptions, session: SessionRun, open_stream: Callable[[], AbstractContextManager[InteractiveStream]]
) -> SessionFailed | None:
    """Run the session to its end; then write files and summary, even if it fails or is interrupted.

    Return the failure that ended the session, if any. Raise what the source raised.
    """
    transcript, strip = Transcript(), FilmStrip() if options.plot is not None else None
    start = time.monotonic()
    with ExitStack() as at_exit:
        at_exit.callback(_write_files, options, session, transcript, strip)
        if not options.quiet:
            at_exit.callback(lambda: typer.echo(_summarize(session, transcript, time.monotonic() - start), err=True))
        if not options.strict_video:
            at_exit.callback(lambda: warn_about_damage(session.source.info.name, session.source.damage))
        with (
            open_json_lines(
                options.output, lambda: session.source.damage, lambda: session.frames.dropped
            ) as write_json_line,
            open_typed_lines(edits=is_live_display(quiet=options.quiet)) as typed,
            open_display(_display_options(options, session, typed)) as show,
            open_stream() as stream,
        ):
            start = time.monotonic()
            warn = print_session_warnings(session.source.info.name)
            listeners: list[OutputListener] = [LateTurns(transcript.add), write_json_line, LateTurns(show), warn]
            if typed is not None:
                listeners.append(_accept_commands(options, session, typed, stream))
            return _feed(session, stream, listeners, strip)


def _feed(
    session: SessionRun, stream: InteractiveStream, listeners: list[OutputListener], strip: FilmStrip | None
) -> SessionFailed | None:
    def close() -> None:
        session.frames.close()
        stream.close()

    items = session.prepare(session.frames)
    return run_session(stream, items, listeners, strip=strip, stop=session.frames.stopped, close=close)


def _accept_commands(
    options: ResultOptions, session: SessionRun, typed: TypedLines, stream: InteractiveStream
) -> OutputListener:
    """Execute the lines that are typed; return the listener that the commands need."""
    commands = TypedCommands(stream, session.speak, session.frames.stop)

    def on_line(line: str) -> None:
        if (message := commands.execute(line)) is not None:
            text = "\n".join(map(to_printable, message.split("\n")))
            typer.echo(text, err=not typed.edits)  # a live display is on standard output

    if not typed.edits and not options.quiet and is_terminal(sys.stderr):
        typer.echo(f"({HINT})", err=True)
    typed.start(on_line)
    return commands.on_output


def _display_options(options: ResultOptions, session: SessionRun, typed: TypedLines | None) -> DisplayOptions:
    """Return what is displayed: below the live bars also what is being typed, if the terminal does not echo it."""
    display = DisplayOptions(session.duration, session.window, session.realtime, options.scores, options.quiet)
    if typed is None:
        return display
    if not typed.edits:
        return replace(display, plain=True)
    return replace(display, typed_text=lambda: typed.text, hint=HINT)


def _write_files(options: ResultOptions, session: SessionRun, transcript: Transcript, strip: FilmStrip | None) -> None:
    info = session.source.info
    write_subtitle_file(options.subtitles, transcript, session.source.read_duration or info.duration, info.start)
    write_plot(options.plot, info.name, f"watched by {session.model}", transcript, strip, session.speak)


def _summarize(session: SessionRun, transcript: Transcript, elapsed: float) -> str:
    return transcript.summarize(elapsed, session.source.read_duration, session.frames.dropped or 0)
