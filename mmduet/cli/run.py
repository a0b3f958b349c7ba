"""``mmduet run`` narrates a video file as it plays: joins file, engine and screen, and knows none of them inside."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from mmduet.cli._events import Listener, Story, json_lines
from mmduet.cli._files import check_files
from mmduet.cli._loading import Adapter, NumberType, Pickles, Quantized, load
from mmduet.cli._timeline import Screening, busy, open_timeline
from mmduet.cli._watching import (
    HEADS,
    POLICIES,
    feed,
    film_strip,
    given,
    paced,
    parse_turns,
    summary,
    tell,
    terminable,
    write_files,
)
from mmduet.errors import OptionError
from mmduet.events import Context, Query
from mmduet.options import SessionOptions, parse_window

if TYPE_CHECKING:
    from mmduet.engine import Engine
    from mmduet.video import VideoInfo
    from mmduet.viz.run_plot import FilmStrip

MODELS_OWN, MODELS_OR_0, MODELS_OR_NONE = "the model's", "the model's; paper: 0", "the model's; paper: none"


def run(
    video: Annotated[Path, Argument(metavar="VIDEO", help="The video to watch.", show_default=False)],
    query: Annotated[list[str] | None, Option(metavar="TEXT[@SECONDS]", help="Ask this; repeatable.")] = None,
    no_query: Annotated[bool, Option("--no-query", help="Ask nothing, not even the model's own query.")] = False,
    context: Annotated[list[str] | None, Option(metavar="TEXT[@SECONDS]", help="Tell this; repeatable.")] = None,
    model: Annotated[str, Option(metavar="NAME|DIR", help="A bundled model or a checkpoint's directory.")] = "nano",
    adapter: Adapter = None,
    allow_pickle: Pickles = False,
    quantized: Quantized = None,
    dtype: NumberType = "float32",
    fps: Annotated[float | None, Option(help="Frames watched per second.", show_default=MODELS_OWN)] = None,
    speak: Annotated[str | None, Option(metavar=POLICIES, help="When to speak.", show_default=MODELS_OWN)] = None,
    score_heads: Annotated[str | None, Option(metavar="HEAD,...", help=HEADS, show_default=MODELS_OWN)] = None,
    min_interval: Annotated[float | None, Option(help="Seconds between replies.", show_default=MODELS_OR_0)] = None,
    keep_replies: Annotated[bool, Option("--keep-replies/--remove-replies", help="Let replies stay in view.")] = False,
    profile: Annotated[Literal["fixed", "paper"], Option(help="The duet format, or exactly as published.")] = "fixed",
    window: Annotated[
        str | None, Option(metavar="N|SECONDSs|none", help="In view.", show_default=MODELS_OR_NONE)
    ] = None,
    max_frames: Annotated[int | None, Option(help="Stop after so many frames.")] = None,
    max_new_tokens: Annotated[int | None, Option(help="Longest reply.", show_default=MODELS_OWN)] = None,
    temperature: Annotated[float | None, Option(help="0 always takes the likeliest token.", show_default="0")] = None,
    top_p: Annotated[float | None, Option(help="Sample within this probability mass.", show_default="1")] = None,
    repetition_penalty: Annotated[float | None, Option(help="Above 1 avoids repetition.", show_default="1")] = None,
    seed: Annotated[int | None, Option(help="Of the sampling.", show_default="0")] = None,
    realtime: Annotated[bool, Option("--realtime", help="Play as a live camera would, not at full speed.")] = False,
    output: Annotated[Path | None, Option(metavar="FILE.jsonl", help="Write every event as a line of JSON.")] = None,
    plot: Annotated[Path | None, Option(metavar="FILE.png", help="Draw scores and replies over time.")] = None,
    subtitles: Annotated[Path | None, Option(metavar="FILE.vtt|.srt", help="Write the replies as subtitles.")] = None,
    scores: Annotated[bool, Option("--scores", help="Show a line per frame as well.")] = False,
    quiet: Annotated[bool, Option("--quiet", help="Show nothing but errors.")] = False,
    threads: Annotated[int | None, Option(min=1, help="Processor threads to compute with.")] = None,
) -> None:
    """Narrate VIDEO as it plays: the model watches frame by frame and decides when to speak."""
    narrate(Asked(**locals()))


@dataclass(frozen=True)
class Asked:
    """The command line as it was given; None where nothing was said."""

    video: Path
    query: list[str] | None
    no_query: bool
    context: list[str] | None
    model: str
    adapter: Path | None
    allow_pickle: bool
    quantized: Literal["int8", "nf4"] | None
    dtype: Literal["stored", "float32", "bfloat16", "float16"]
    fps: float | None
    speak: str | None
    score_heads: str | None
    min_interval: float | None
    keep_replies: bool
    profile: Literal["fixed", "paper"]
    window: str | None
    max_frames: int | None
    max_new_tokens: int | None
    temperature: float | None
    top_p: float | None
    repetition_penalty: float | None
    seed: int | None
    realtime: bool
    output: Path | None
    plot: Path | None
    subtitles: Path | None
    scores: bool
    quiet: bool
    threads: int | None


@dataclass(frozen=True)
class Plan:
    """What is going to be done, once the model is known."""

    engine: Engine
    options: SessionOptions
    fps: float
    turns: tuple[Query | Context, ...]
    video: VideoInfo


def narrate(asked: Asked) -> None:
    """Watch and tell; whatever ends it, what was told until then is written before the error is."""
    plan = prepare(asked)
    story, strip = Story(), film_strip(asked.plot)
    begun = time.monotonic()
    with terminable(), ExitStack() as last:
        title = (plan.video.name, f"watched by {plan.engine.model.config.name}")
        last.callback(write_files, asked.plot, asked.subtitles, title, story, strip, plan.options.speak)
        if not asked.quiet:
            last.callback(lambda: typer.echo(summary(story, time.monotonic() - begun), err=True))
        screening = Screening(plan.video.duration, plan.options.window, asked.realtime, asked.scores, asked.quiet)
        with json_lines(asked.output) as log, open_timeline(screening) as show:
            begun = time.monotonic()
            watch(asked, plan, (story.add, log, show), strip)


# before


def prepare(asked: Asked) -> Plan:
    """Refuse what cannot be done, the cheapest to find out first, then load the model."""
    turns: list[Query | Context] = [*parse_turns("--context", asked.context, Context)]
    turns += parse_turns("--query", asked.query, Query)
    overlaid(asked, SessionOptions(), fps=1.0)
    check_files({"--output": asked.output, "--plot": asked.plot, "--subtitles": asked.subtitles}, asked.video)
    if asked.no_query and asked.query:
        raise OptionError("--no-query and --query contradict each other; give one of them")
    if asked.threads is not None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(asked.threads)  # read when torch is loaded
    with busy(f"loading {asked.model}", asked.quiet) as report:
        video = look_at(asked)
        from mmduet.engine import Engine, recommended_options

        loaded = load(asked.model, asked.adapter, asked.allow_pickle, asked.dtype, asked.quantized, report)
        engine = Engine(loaded)
    best = engine.model.config.recommended
    if best.query and not asked.query and not asked.no_query:
        turns.append(Query(best.query))
    fps = best.fps if asked.fps is None else asked.fps
    options = overlaid(asked, recommended_options(best, asked.profile), fps)
    if not any(isinstance(turn, Query) for turn in turns):
        options = options.never_asked()
    engine.slot_tokens(options)  # refuses a window that the model has no room for
    return Plan(engine, options, fps, tuple(turns), video)


def overlaid(asked: Asked, base: SessionOptions, fps: float) -> SessionOptions:
    """``base`` with what the user said over it, at ``fps``. Raises ``OptionError`` for what no session can use."""
    speak = replace(base.speak, **given(min_interval=asked.min_interval)).revised(asked.speak, asked.score_heads)
    names = ("max_new_tokens", "temperature", "top_p", "repetition_penalty", "seed")
    decode = replace(base.decode, **given(**{name: getattr(asked, name) for name in names}))
    window = base.window if asked.window is None else parse_window(asked.window, fps)
    base = replace(base, keep_replies=asked.keep_replies, profile=asked.profile)
    return replace(base, speak=speak, decode=decode, window=window)


def look_at(asked: Asked) -> VideoInfo:
    """What the file says of itself; raises for one that cannot be watched and for rates that cannot be."""
    from mmduet.video import VideoFile
    from mmduet.video.sampling import check_cap, check_rate

    check_rate("--fps", asked.fps)
    check_cap(asked.max_frames)
    with VideoFile(asked.video) as file:
        return file.info


# while it plays


def watch(asked: Asked, plan: Plan, listeners: tuple[Listener, ...], strip: FilmStrip | None) -> None:
    """Frames go in from a thread of their own, what comes out goes to the listeners; raises what ended it early."""
    from mmduet.engine import EngineThread
    from mmduet.video import open_frames

    frames = open_frames(asked.video, plan.fps, asked.profile, asked.max_frames)
    stop = threading.Event()
    with EngineThread(plan.engine) as thread, ThreadPoolExecutor(1, "mmduet-source") as pool:
        stream = thread.open(plan.options)
        for turn in plan.turns:
            stream.push(turn)
        feeding = pool.submit(feed, paced(frames, stop) if asked.realtime else frames, stream, stop, strip)
        try:
            failed = tell(stream, listeners)
        finally:
            stop.set()
            stream.close()
        feeding.result()
    if failed:
        raise failed.as_error()
