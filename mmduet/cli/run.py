"""``mmduet run``: process one video frame by frame with a local model and display its replies as they come."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from mmduet.cli._display import DisplayOptions, open_display, spinner
from mmduet.cli._json_lines import open_json_lines
from mmduet.cli._loading import (
    MODEL_HELP,
    MODEL_METAVAR,
    PROFILE_HELP,
    Adapter,
    AllowPickle,
    Dtype,
    Quantized,
    Threads,
    find,
    load,
)
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
    KEEP_HELP,
    PENALTY_HELP,
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
from mmduet.events import Context, Query
from mmduet.options import SessionOptions, parse_window
from mmduet.viz.film_strip import FilmStrip

if TYPE_CHECKING:
    from mmduet.engine import Engine
    from mmduet.video import FrameReader, VideoInfo

FROM_MODEL = "the model's"
FROM_MODEL_OR_0, FROM_MODEL_OR_NONE = "the model's; paper: 0", "the model's; paper: none"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model runs, and how."""

    model: Annotated[str, Option(metavar=MODEL_METAVAR, help=MODEL_HELP)] = "nano"
    adapter: Adapter = None
    allow_pickle: AllowPickle = False
    quantized: Quantized = None
    dtype: Dtype = "float32"
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
    threads: Threads = None


@dataclass(frozen=True, kw_only=True)
class RunOptions(TurnOptions, ModelOptions, ResultOptions):
    """The options of ``mmduet run``."""

    video: Annotated[
        Path, Argument(metavar="VIDEO", help="The video file to process; - reads standard input.", show_default=False)
    ]


@dataclass(frozen=True)
class RunPlan:
    """What runs, once the model is loaded."""

    engine: Engine
    session: SessionOptions
    fps: float
    turns: tuple[Query | Context, ...]
    video: VideoInfo


@takes_options(RunOptions)
def run(options: RunOptions) -> None:
    """Process VIDEO as a stream: the model sees it frame by frame and decides when to speak."""
    options = replace(options, video=resolve_video(options.video))
    plan = prepare(options)
    frames = open_video(options, plan)
    transcript, strip = Transcript(), FilmStrip() if options.plot is not None else None
    start = time.monotonic()
    with exit_on_sigterm(), ExitStack() as at_exit:  # files and summary are written whatever ends the run

        def write_files() -> None:
            write_subtitle_file(options.subtitles, transcript, frames.duration, plan.video.start)
            remark = f"watched by {plan.engine.model.config.name}"
            write_plot(options.plot, plan.video.name, remark, transcript, strip, plan.session.speak)

        at_exit.callback(write_files)
        if not options.quiet:
            at_exit.callback(
                lambda: typer.echo(transcript.summarize(time.monotonic() - start, frames.read_duration), err=True)
            )
        display = DisplayOptions(
            plan.video.duration, plan.session.window, options.realtime, options.scores, options.quiet
        )
        if not options.strict_video:
            at_exit.callback(lambda: warn_about_damage(plan.video.name, frames.damage))
        with (
            open_json_lines(options.output, lambda: frames.damage) as write_json_line,
            open_display(display) as show,
        ):
            start = time.monotonic()
            warn = print_session_warnings(plan.video.name)
            listeners = (LateTurns(transcript.add), write_json_line, LateTurns(show), warn)
            process(options, plan, frames, listeners, strip)


# preparation


def prepare(options: RunOptions) -> RunPlan:
    """Check the options, the cheapest checks first, then load the model.

    Raises:
        MmduetError: An option is invalid, the video cannot be read, or the model cannot be loaded.
    """
    turns = options.parse_turns()
    session_options(options, SessionOptions(), fps=1.0)
    options.check_files(options.video)
    video = probe(options)
    source = find(options.model, options.adapter, options.allow_pickle, options.quiet)
    with spinner(f"loading {options.model}", options.quiet) as progress:
        from mmduet.engine import Engine, recommended_options

        loaded = load(
            source, None, options.allow_pickle, options.dtype, options.quantized, progress, threads=options.threads
        )
        engine = Engine(loaded)
    recommended = engine.model.config.recommended
    if recommended.query and not options.query and not options.no_query:
        turns.append(Query(recommended.query))
    fps = recommended.fps if options.fps is None else options.fps
    session = session_options(options, recommended_options(recommended, options.profile), fps)
    if not any(isinstance(turn, Query) for turn in turns):
        session = session.without_query()
    if options.speak or options.score_heads:
        warn_if_extreme(session.speak, frame_count(video.duration, fps, options.max_frames))
    engine.slot_tokens(session)  # raises if the window does not fit the model
    return RunPlan(engine, session, fps, tuple(turns), video)


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


def probe(options: RunOptions) -> VideoInfo:
    """Return the metadata of the video. Raises ``VideoError`` for an unreadable file, ``OptionError`` for invalid rates."""
    from mmduet.video import VideoFile
    from mmduet.video.sampling import check_frame_limit, check_rate

    check_rate("--fps", options.fps)
    check_frame_limit(options.max_frames)
    with VideoFile(options.video, strict=options.strict_video) as file:
        return file.info


# processing


def open_video(options: RunOptions, plan: RunPlan) -> FrameReader:
    """Return the sampled frames. Raises ``VideoError`` for an unreadable file."""
    from mmduet.video import open_frames

    return open_frames(options.video, plan.fps, options.profile, options.max_frames, strict=options.strict_video)


def process(
    options: RunOptions,
    plan: RunPlan,
    frames: FrameReader,
    listeners: tuple[OutputListener, ...],
    strip: FilmStrip | None,
) -> None:
    """Run the session to its end. Raises what ended it early."""
    from mmduet.engine import EngineThread

    stop = threading.Event()
    with EngineThread(plan.engine) as thread:
        stream = thread.open(plan.session)
        for turn in plan.turns:
            stream.push(turn)
        items = at_realtime(frames, stop) if options.realtime else frames
        failure = run_session(stream, items, listeners, strip=strip, stop=stop, close=stream.close)
    if failure:
        raise failure.as_error()
