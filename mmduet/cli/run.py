"""``mmduet run``: process a video or camera frame by frame with a local model and display its replies as they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from mmduet.cli._connection import SourceReporter
from mmduet.cli._display import spinner
from mmduet.cli._loading import (
    MODEL_HELP,
    MODEL_METAVAR,
    PROFILE_HELP,
    LoadingOptions,
    find,
)
from mmduet.cli._loading import load_engine as load_named_engine
from mmduet.cli._options import takes_options
from mmduet.cli._session_io import drop_none, exit_on_signals
from mmduet.cli._session_options import (
    HEADS_HELP,
    KEEP_HELP,
    PENALTY_HELP,
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
from mmduet.errors import OptionError
from mmduet.events import Context, Query
from mmduet.options import SessionOptions, parse_window
from mmduet.redaction import redact

if TYPE_CHECKING:
    from mmduet.engine import Engine
    from mmduet.engine.thread import Stream
    from mmduet.video.source import LiveSource, VideoInfo

FROM_MODEL = "the model's"
FILE_QUEUE_FRAMES, LIVE_QUEUE_FRAMES = 32, 2  # in the engine; those of a live source would become old there
FROM_MODEL_OR_0, FROM_MODEL_OR_NONE = "the model's; paper: 0", "the model's; paper: none"


@dataclass(frozen=True, kw_only=True)
class ModelOptions(LoadingOptions):
    """Which model runs, and how."""

    model: Annotated[str, Option(metavar=MODEL_METAVAR, help=MODEL_HELP)] = "nano"
    fps: Annotated[float | None, Option(help="Frames per second to process.", show_default=FROM_MODEL)] = None
    speak: Annotated[str | None, Option(metavar=SPEAK_METAVAR, help=SPEAK_HELP, show_default=FROM_MODEL)] = None
    score_heads: Annotated[str | None, Option(metavar="HEAD,...", help=HEADS_HELP, show_default=FROM_MODEL)] = None
    min_interval: Annotated[
        float | None, Option(help="Minimum number of seconds between two replies.", show_default=FROM_MODEL_OR_0)
    ] = None
    keep_replies: Annotated[
        bool,
        Option("--keep-replies/--remove-replies", help=KEEP_HELP),
    ] = False
    profile: Annotated[Literal["fixed", "paper"], Option(help=PROFILE_HELP)] = "fixed"
    window: Annotated[str | None, Option(metavar=WINDOW_METAVAR, help=WINDOW_HELP, show_default=FROM_MODEL_OR_NONE)] = (
        None
    )
    max_frames: Annotated[int | None, Option(help="Stop after this number of frames.", show_default="at the end")] = (
        None
    )
    max_new_tokens: Annotated[int | None, Option(help=TOKENS_HELP, show_default=FROM_MODEL)] = None
    temperature: Annotated[
        float | None, Option(help="Sampling temperature; 0 always picks the most likely token.", show_default="0")
    ] = None
    top_p: Annotated[
        float | None, Option(help="Sample from the most likely tokens with this total probability.", show_default="1")
    ] = None
    repetition_penalty: Annotated[float | None, Option(help=PENALTY_HELP, show_default="1")] = None
    seed: Annotated[int | None, Option(help="Random seed for sampling.", show_default="0")] = None
    realtime: Annotated[
        bool,
        Option(
            "--realtime",
            help="Process at the speed of the video, as if it came from a camera, instead of as fast as possible.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class RunOptions(TurnOptions, ModelOptions, SourceOptions, ResultOptions):
    """The options of ``mmduet run``."""


@dataclass(frozen=True)
class RunPlan:
    """What runs, once the model is loaded."""

    engine: Engine
    session: SessionOptions
    fps: float
    turns: tuple[Query | Context, ...]


@takes_options(RunOptions)
def run(options: RunOptions) -> None:
    """Process VIDEO as a stream: the model sees it frame by frame and decides when to speak.

    A live source is watched until Ctrl-C, --seconds or the line /quit. A line that is typed meanwhile is a query; /help lists
    the commands.
    """
    options = replace(options, video=resolve_source(options.video))
    turns = validate(options)
    reporter = SourceReporter(options.video)
    with exit_on_signals(), ExitStack() as opened:
        source = open_file(options)
        engine = load_engine(options)
        if source is None:
            source = opened.enter_context(closing(open_live(options, reporter)))
        plan = prepare(options, engine, source.info, turns)
        frames = SourceFrames(
            source,
            plan.fps,
            reporter,
            seconds=options.seconds,
            max_frames=options.max_frames,
            realtime=options.realtime,
        )
        failure = run_and_write(
            options, to_session_run(options, plan, source, frames), partial(open_stream, plan, source)
        )
    if failure:
        raise failure.as_error()


# preparation


def validate(options: RunOptions) -> list[Query | Context]:
    """Return the turns. Raises ``OptionError`` for invalid options, before anything is opened."""
    from mmduet.video.open_source import is_file_name
    from mmduet.video.sampling import check_frame_limit, check_rate

    turns = options.parse_turns()
    session_options(options, SessionOptions(), fps=1.0)
    check_rate("--fps", options.fps)
    check_frame_limit(options.max_frames)
    options.check_source()
    options.check_files(options.video)
    if options.profile == "paper" and not is_file_name(options.video):
        raise OptionError(f"--profile paper needs a video file, got {redact(options.video)}; use --profile fixed")
    return turns


def open_file(options: RunOptions) -> LiveSource | None:
    """Return the video if it is a file, None for any other source. Raises ``VideoError`` for an unreadable file."""
    from mmduet.video.open_source import is_file_name, open_source

    if not is_file_name(options.video):
        return None
    return open_source(options.video, strict=options.strict_video, profile=options.profile)


def open_live(options: RunOptions, reporter: SourceReporter) -> LiveSource:
    """Open a camera or stream, once the model is loaded, because its frames do not wait. Raises ``VideoError``."""
    from mmduet.video.open_source import open_source

    with spinner(f"connecting to {redact(options.video)}", options.quiet):
        return open_source(options.video, options.transport, strict=options.strict_video, on_retry=reporter.on_retry)


def load_engine(options: RunOptions) -> Engine:
    """Load the model. Raises ``MmduetError`` if that fails."""
    source = find(options.model, options.adapter, options.allow_pickle, options.quiet)
    with spinner(f"loading {options.model}", options.quiet) as progress:
        return load_named_engine(source, options, progress)


def prepare(options: RunOptions, engine: Engine, video: VideoInfo, turns: list[Query | Context]) -> RunPlan:
    """Complete the options with those that the model recommends. Raises ``OptionError`` for a window that does not fit."""
    from mmduet.engine import recommended_options

    recommended = engine.model.config.recommended
    if recommended.query and not options.query and not options.no_query:
        turns = [*turns, Query(recommended.query)]
    fps = recommended.fps if options.fps is None else options.fps
    session = session_options(options, recommended_options(recommended, options.profile), fps)
    if not any(isinstance(turn, Query) for turn in turns):
        session = session.without_query()
    if options.speak or options.score_heads:
        warn_if_extreme(session.speak, frame_count(options.limit(video.duration), fps, options.max_frames))
    engine.slot_tokens(session)  # raises if the window does not fit the model
    return RunPlan(engine, session, fps, tuple(turns))


def session_options(options: RunOptions, base: SessionOptions, fps: float) -> SessionOptions:
    """Return ``base`` with the options that the user gave. Raises ``OptionError`` for invalid values."""
    speak = replace(base.speak, **drop_none(min_interval=options.min_interval))
    decode = drop_none(
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        repetition_penalty=options.repetition_penalty,
        seed=options.seed,
    )
    return replace(
        base,
        speak=speak.with_overrides(options.speak, options.score_heads),
        decode=replace(base.decode, **decode),
        window=base.window if options.window is None else parse_window(options.window, fps),
        keep_replies=options.keep_replies,
        profile=options.profile,
    )


# processing


def to_session_run(options: RunOptions, plan: RunPlan, source: LiveSource, frames: SourceFrames) -> SessionRun:
    """Return the session as ``run_and_write`` takes it."""
    return SessionRun(
        source=source,
        frames=frames,
        model=plan.engine.model.config.name,
        speak=plan.session.speak,
        window=plan.session.window,
        duration=options.limit(source.info.duration),
        realtime=options.realtime or source.live,
    )


@contextmanager
def open_stream(plan: RunPlan, source: LiveSource) -> Iterator[Stream]:
    """Open the session and queue its turns. Raises ``MmduetError`` for a turn that the model cannot read."""
    from mmduet.engine import EngineThread

    with EngineThread(plan.engine) as thread:
        stream = thread.open(plan.session, LIVE_QUEUE_FRAMES if source.live else FILE_QUEUE_FRAMES)
        for turn in plan.turns:
            stream.push(turn)
        yield stream
