"""``mmduet stream``: send a video or camera to a server frame by frame and display its replies as ``run`` does."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from mmduet.cli._connection import ConnectionReporter, QueueReporter, SourceReporter
from mmduet.cli._options import takes_options
from mmduet.cli._session_io import drop_none, exit_on_signals
from mmduet.cli._session_options import (
    HEADS_HELP,
    SPEAK_HELP,
    SPEAK_METAVAR,
    TOKENS_HELP,
    WINDOW_HELP,
    WINDOW_METAVAR,
    ResultOptions,
    SourceOptions,
    TurnOptions,
)
from mmduet.cli._session_run import SessionRun, run_and_write
from mmduet.cli._source_frames import SourceFrames
from mmduet.cli._standard_input import resolve_source
from mmduet.cli._warnings import frame_count, warn_if_extreme
from mmduet.errors import OptionError, ServerError
from mmduet.events import Context, Query
from mmduet.options import SpeakOptions, parse_window

if TYPE_CHECKING:
    from mmduet.client import RemoteStream
    from mmduet.video.source import LiveSource, VideoInfo

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
    realtime: Annotated[
        bool,
        Option("--realtime/--fast", help="Send at the speed of the video, as a camera would, or as fast as possible."),
    ] = True


@dataclass(frozen=True, kw_only=True)
class StreamOptions(TurnOptions, ServerOptions, SourceOptions, ResultOptions):
    """The options of ``mmduet stream``."""


@dataclass(frozen=True)
class StreamPlan:
    """What is sent, once the session is configured; ``turns`` are in order of time."""

    turns: tuple[Query | Context, ...]
    speak: SpeakOptions
    fps: float
    window: int | None


@takes_options(StreamOptions)
def stream(options: StreamOptions) -> None:
    """Send VIDEO to a server frame by frame and display the replies of its model. Lost connections are resumed.

    A live source is watched until Ctrl-C, --seconds or the line /quit. A line that is typed meanwhile is a query; /help lists
    the commands.
    """
    from mmduet.client import RemoteStream
    from mmduet.video.open_source import open_source

    options = replace(options, video=resolve_source(options.video))
    turns = validate(options)
    connection, reporter = ConnectionReporter(), SourceReporter(options.video)
    remote = RemoteStream(
        options.server,
        key=options.key,
        encoding=options.encoding,
        block_when_behind=not options.realtime,
        on_connection_change=connection,
        wait_seconds=options.wait,
        on_queued=QueueReporter(options.video),
    )
    with (
        exit_on_signals(),
        closing(
            open_source(options.video, options.transport, strict=options.strict_video, on_retry=reporter.on_retry)
        ) as source,
        remote,
    ):
        connection.video = source.info.name
        plan = configure(remote, options, source.info, turns)
        frames = SourceFrames(source, plan.fps, reporter, seconds=options.seconds, realtime=options.realtime)
        session = to_session_run(options, plan, source, frames, remote)
        failure = run_and_write(options, session, lambda: nullcontext(remote))
    if failure:
        error = ServerError(failure.message)
        error.code = failure.code
        raise error


def validate(options: StreamOptions) -> list[Query | Context]:
    """Return the turns. Raises ``OptionError`` for invalid options, before the server is contacted."""
    from mmduet.protocol.queue_events import MAX_WAIT_SECONDS
    from mmduet.video.sampling import check_rate

    turns = options.parse_turns()
    check_rate("--fps", options.fps)
    if options.wait is not None and not 0 <= options.wait <= MAX_WAIT_SECONDS:
        raise OptionError(f"--wait must be a number of seconds from 0 to {MAX_WAIT_SECONDS:g}, got {options.wait}")
    options.check_source()
    SpeakOptions().with_overrides(options.speak, options.score_heads)
    options.check_files(options.video)
    return turns


def configure(
    remote: RemoteStream, options: StreamOptions, video: VideoInfo, turns: list[Query | Context]
) -> StreamPlan:
    """Update the session with the user's options; everything else keeps the server's defaults."""
    defaults = remote.session.duet
    fps = options.fps if options.fps is not None else defaults.fps or video.fps or DEFAULT_FPS
    speak = SpeakOptions.from_dict(defaults.speak).with_overrides(options.speak, options.score_heads)
    if not options.query and not options.no_query and defaults.query:
        turns = [*turns, Query(defaults.query)]
    if not any(isinstance(turn, Query) for turn in turns):
        speak = replace(speak, speak_before_query=True)
    if (options.speak or options.score_heads) and speak.find_extreme() is None:  # of which the server warns
        warn_if_extreme(speak, frame_count(options.limit(video.duration), fps))
    window = defaults.window if options.window is None else parse_window(options.window, fps)
    duet: dict[str, Any] = {"fps": None, "speak": speak.to_dict(), "window": window}  # frames are sampled here
    remote.update(duet=duet, **drop_none(max_output_tokens=options.max_new_tokens))
    return StreamPlan(tuple(sorted(turns, key=lambda turn: turn.time)), speak, fps, window)


def to_session_run(
    options: StreamOptions, plan: StreamPlan, source: LiveSource, frames: SourceFrames, remote: RemoteStream
) -> SessionRun:
    """Return the session as ``run_and_write`` takes it."""
    from mmduet.tasks.streaming import merge_by_time

    return SessionRun(
        source=source,
        frames=frames,
        model=remote.session.model,
        speak=plan.speak,
        window=plan.window,
        duration=options.limit(source.info.duration),
        realtime=options.realtime or source.live,
        prepare=partial(merge_by_time, turns=plan.turns),
    )
