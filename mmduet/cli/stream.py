"""``mmduet stream``: send a video or camera to a server frame by frame and display its replies as ``run`` does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from mmduet.cli._connection import ConnectionReporter, QueueReporter
from mmduet.cli._display import DisplayOptions, open_display
from mmduet.cli._json_lines import open_json_lines
from mmduet.cli._options import takes_options
from mmduet.cli._session_io import (
    at_realtime,
    drop_none,
    exit_on_sigterm,
    run_session,
    write_plot,
    write_subtitle_file,
)
from mmduet.cli._session_options import (
    HEADS_HELP,
    SPEAK_HELP,
    SPEAK_METAVAR,
    TOKENS_HELP,
    WINDOW_HELP,
    WINDOW_METAVAR,
    ResultOptions,
    TurnOptions,
)
from mmduet.cli._standard_input import resolve_video
from mmduet.cli._transcript import LateTurns, OutputListener, Transcript
from mmduet.cli._warnings import frame_count, print_session_warnings, warn_about_damage, warn_if_extreme
from mmduet.errors import OptionError, ServerError
from mmduet.events import Context, Frame, Query
from mmduet.options import SpeakOptions, parse_window
from mmduet.viz.film_strip import FilmStrip

if TYPE_CHECKING:
    from mmduet.client import RemoteStream
    from mmduet.video.source import LiveSource

FROM_SERVER = "the server's"
DEFAULT_FPS = 2.0  # frames per second, if neither user, server nor source has a rate


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Which server processes the video, and how."""

    server: Annotated[str, Option(metavar="URL", help="Address of `mmduet serve`.")] = "ws://127.0.0.1:8765"
    key: Annotated[
        str | None, Option(envvar="MMDUET_KEY", help="API key of the server, if it requires one.", show_default=False)
    ] = None
    wait: Annotated[
        float | None,
        Option(
            metavar="SECONDS", help="Wait at most this long for a session if the server is full.", show_default="not"
        ),
    ] = None
    fps: Annotated[float | None, Option(help="Frames per second to send.", show_default=FROM_SERVER)] = None
    speak: Annotated[str | None, Option(metavar=SPEAK_METAVAR, help=SPEAK_HELP, show_default=FROM_SERVER)] = None
    score_heads: Annotated[str | None, Option(metavar="HEAD,...", help=HEADS_HELP, show_default=FROM_SERVER)] = None
    window: Annotated[str | None, Option(metavar=WINDOW_METAVAR, help=WINDOW_HELP, show_default=FROM_SERVER)] = None
    max_new_tokens: Annotated[int | None, Option(help=TOKENS_HELP, show_default=FROM_SERVER)] = None
    encoding: Annotated[Literal["jpeg", "png", "raw"], Option(help="Encoding of the frames that are sent.")] = "jpeg"
    transport: Annotated[Literal["tcp", "udp"], Option(help="Transport protocol of an RTSP camera.")] = "tcp"
    seconds: Annotated[
        float | None, Option(help="Stop after this number of seconds of video.", show_default="at the end")
    ] = None
    realtime: Annotated[
        bool,
        Option("--realtime/--fast", help="Send at the speed of the video, as a camera would, or as fast as possible."),
    ] = True


@dataclass(frozen=True, kw_only=True)
class StreamOptions(TurnOptions, ServerOptions, ResultOptions):
    """The options of ``mmduet stream``."""

    video: Annotated[
        str,
        Argument(
            metavar="VIDEO",
            help="A file, - for standard input, webcam[:N], or an rtsp:// or http(s):// address.",
            show_default=False,
        ),
    ]


@dataclass(frozen=True)
class StreamPlan:
    """What is sent, once the session is configured."""

    source: LiveSource
    turns: tuple[Query | Context, ...]
    speak: SpeakOptions
    fps: float
    window: int | None
    model: str


@takes_options(StreamOptions)
def stream(options: StreamOptions) -> None:
    """Send VIDEO to a server frame by frame and display the replies of its model. Lost connections are resumed.

    A live source is displayed as it arrives, until Ctrl-C or --seconds.
    """
    from mmduet.client import RemoteStream
    from mmduet.video.open_source import open_source

    options = replace(options, video=str(resolve_video(Path(options.video))) if options.video == "-" else options.video)
    turns = validate(options)
    transcript, strip = Transcript(), FilmStrip() if options.plot is not None else None
    reporter = ConnectionReporter()
    remote = RemoteStream(
        options.server,
        key=options.key,
        encoding=options.encoding,
        block_when_behind=not options.realtime,
        on_connection_change=reporter,
        wait_seconds=options.wait,
        on_queued=QueueReporter(options.video),
    )
    with (
        exit_on_sigterm(),
        closing(open_source(options.video, options.transport, strict=options.strict_video)) as source,
        remote,
    ):
        reporter.video = source.info.name
        plan = configure(remote, options, source, turns)
        show_stream(options, plan, remote, transcript, strip)


def validate(options: StreamOptions) -> list[Query | Context]:
    """Return the turns. Raises ``OptionError`` for invalid options, before the server is contacted."""
    from mmduet.protocol.queue_events import MAX_WAIT_SECONDS
    from mmduet.video.sampling import check_rate

    turns = options.parse_turns()
    check_rate("--fps", options.fps)
    if options.wait is not None and not 0 <= options.wait <= MAX_WAIT_SECONDS:
        raise OptionError(f"--wait must be a number of seconds from 0 to {MAX_WAIT_SECONDS:g}, got {options.wait}")
    if options.seconds is not None and not options.seconds > 0:
        raise OptionError(f"--seconds must be greater than 0, got {options.seconds}")
    SpeakOptions().with_overrides(options.speak, options.score_heads)
    options.check_files(Path(options.video))
    return turns


def configure(
    remote: RemoteStream, options: StreamOptions, source: LiveSource, turns: list[Query | Context]
) -> StreamPlan:
    """Update the session with the user's options; everything else keeps the server's defaults."""
    defaults = remote.session.duet
    fps = options.fps if options.fps is not None else defaults.fps or source.info.fps or DEFAULT_FPS
    speak = SpeakOptions.from_dict(defaults.speak).with_overrides(options.speak, options.score_heads)
    if not options.query and not options.no_query and defaults.query:
        turns = [*turns, Query(defaults.query)]
    if not any(isinstance(turn, Query) for turn in turns):
        speak = replace(speak, speak_before_query=True)
    if (options.speak or options.score_heads) and speak.find_extreme() is None:  # of which the server warns
        durations = [end for end in (source.info.duration, options.seconds) if end is not None]
        warn_if_extreme(speak, frame_count(min(durations, default=None), fps))
    window = defaults.window if options.window is None else parse_window(options.window, fps)
    duet: dict[str, Any] = {"fps": None, "speak": speak.to_dict(), "window": window}  # frames are sampled here
    remote.update(duet=duet, **drop_none(max_output_tokens=options.max_new_tokens))
    ordered = tuple(sorted(turns, key=lambda turn: turn.time))
    return StreamPlan(source, ordered, speak, fps, window, remote.session.model)


def show_stream(
    options: StreamOptions, plan: StreamPlan, remote: RemoteStream, transcript: Transcript, strip: FilmStrip | None
) -> None:
    """Run the session; write files and summary whatever ends it."""
    start = time.monotonic()

    def write_files() -> None:
        info = plan.source.info
        duration = plan.source.read_duration or info.duration
        write_subtitle_file(options.subtitles, transcript, duration, info.start)
        write_plot(options.plot, plan.source.info.name, f"watched by {plan.model}", transcript, strip, plan.speak)

    with ExitStack() as at_exit:
        at_exit.callback(write_files)
        if not options.quiet:
            at_exit.callback(
                lambda: typer.echo(transcript.summarize(time.monotonic() - start, plan.source.read_duration), err=True)
            )
        duration = min((end for end in (plan.source.info.duration, options.seconds) if end is not None), default=None)
        display = DisplayOptions(duration, plan.window, options.realtime, options.scores, options.quiet)
        if not options.strict_video:
            at_exit.callback(lambda: warn_about_damage(plan.source.info.name, plan.source.damage))
        with (
            open_json_lines(options.output, lambda: plan.source.damage) as write_json_line,
            open_display(display) as show,
        ):
            warn = print_session_warnings(plan.source.info.name)
            listeners = (LateTurns(transcript.add), write_json_line, LateTurns(show), warn)
            process(options, plan, remote, listeners, strip)


def process(
    options: StreamOptions,
    plan: StreamPlan,
    remote: RemoteStream,
    listeners: tuple[OutputListener, ...],
    strip: FilmStrip | None,
) -> None:
    """Send the video and handle the outputs. Raises what ended the session early."""
    from mmduet.tasks.streaming import merge_by_time

    stop = threading.Event()

    def close() -> None:
        plan.source.close()
        remote.close()

    items = merge_by_time(frames_to_send(options, plan, stop), plan.turns)
    failure = run_session(remote, items, listeners, strip=strip, stop=stop, close=close)
    if failure:
        error = ServerError(failure.message)
        error.code = failure.code
        raise error


def frames_to_send(options: StreamOptions, plan: StreamPlan, stop: threading.Event) -> Iterator[Frame]:
    """Return the sampled frames up to ``--seconds``, at the speed at which they are sent."""
    frames = plan.source.frames(plan.fps)
    if (end := options.seconds) is not None:
        frames = takewhile(lambda frame: frame.time < end, frames)
    return at_realtime(frames, stop) if options.realtime and not plan.source.live else frames
