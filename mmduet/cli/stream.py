"""``mmduet stream`` sends a video to a server as it plays and shows what comes back, as ``run`` shows it; no model here."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from mmduet.cli._events import Listener, Story, json_lines
from mmduet.cli._files import check_files
from mmduet.cli._timeline import Screening, open_timeline
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
from mmduet.errors import ServerError
from mmduet.events import Context, Query
from mmduet.options import SpeakOptions, parse_window

if TYPE_CHECKING:
    from mmduet.client import RemoteStream
    from mmduet.video.source import LiveSource
    from mmduet.viz.run_plot import FilmStrip

SERVERS_OWN = "the server's"


def stream(
    video: Annotated[
        str,
        Argument(metavar="VIDEO", help="A file, webcam[:N], or an rtsp:// or http(s):// address.", show_default=False),
    ],
    server: Annotated[str, Option(metavar="URL", help="Where `mmduet serve` listens.")] = "ws://127.0.0.1:8765",
    key: Annotated[str | None, Option(envvar="MMDUET_KEY", help="Key for the server.", show_default=False)] = None,
    query: Annotated[list[str] | None, Option(metavar="TEXT[@SECONDS]", help="Ask this; repeatable.")] = None,
    no_query: Annotated[bool, Option("--no-query", help="Ask nothing: the model speaks of itself.")] = False,
    context: Annotated[list[str] | None, Option(metavar="TEXT[@SECONDS]", help="Tell this; repeatable.")] = None,
    fps: Annotated[float | None, Option(help="Frames sent per second.", show_default=SERVERS_OWN)] = None,
    speak: Annotated[str | None, Option(metavar=POLICIES, help="When to speak.", show_default=SERVERS_OWN)] = None,
    score_heads: Annotated[str | None, Option(metavar="HEAD,...", help=HEADS, show_default=SERVERS_OWN)] = None,
    window: Annotated[str | None, Option(metavar="N|SECONDSs|none", help="In view.", show_default=SERVERS_OWN)] = None,
    max_new_tokens: Annotated[int | None, Option(help="Longest reply.", show_default=SERVERS_OWN)] = None,
    encoding: Annotated[Literal["jpeg", "png", "raw"], Option(help="How frames travel.")] = "jpeg",
    transport: Annotated[Literal["tcp", "udp"], Option(help="How an RTSP camera sends.")] = "tcp",
    seconds: Annotated[float | None, Option(help="Stop after so many seconds of video.", show_default="never")] = None,
    realtime: Annotated[bool, Option("--realtime/--fast", help="As a camera would, or as fast as it goes.")] = True,
    output: Annotated[Path | None, Option(metavar="FILE.jsonl", help="Write every event as a line of JSON.")] = None,
    plot: Annotated[Path | None, Option(metavar="FILE.png", help="Draw scores and replies over time.")] = None,
    subtitles: Annotated[Path | None, Option(metavar="FILE.vtt|.srt", help="Write the replies as subtitles.")] = None,
    scores: Annotated[bool, Option("--scores", help="Show a line per frame as well.")] = False,
    quiet: Annotated[bool, Option("--quiet", help="Show nothing but errors.")] = False,
) -> None:
    """Send VIDEO to a server frame by frame and show when the model there speaks; lost connections are resumed.

    What is live is shown as it comes, until Ctrl-C or --seconds.
    """
    show_remotely(Asked(**locals()))


@dataclass(frozen=True)
class Asked:
    """The command line as it was given; None where nothing was said."""

    video: str
    server: str
    key: str | None
    query: list[str] | None
    no_query: bool
    context: list[str] | None
    fps: float | None
    speak: str | None
    score_heads: str | None
    window: str | None
    max_new_tokens: int | None
    encoding: Literal["jpeg", "png", "raw"]
    transport: Literal["tcp", "udp"]
    seconds: float | None
    realtime: bool
    output: Path | None
    plot: Path | None
    subtitles: Path | None
    scores: bool
    quiet: bool


@dataclass(frozen=True)
class Plan:
    """What is going to be sent, once the server has said what it runs."""

    source: LiveSource
    turns: tuple[Query | Context, ...]
    speak: SpeakOptions
    fps: float
    window: int | None
    model: str


def show_remotely(asked: Asked) -> None:
    """Send and tell; whatever ends it, what was told until then is written before the error is."""
    from mmduet.client import RemoteStream
    from mmduet.video.named import open_source

    turns = look(asked)
    story, strip = Story(), film_strip(asked.plot)
    remote = RemoteStream(asked.server, key=asked.key, encoding=asked.encoding, patient=not asked.realtime)
    with terminable(), closing(open_source(asked.video, asked.transport)) as source, remote, ExitStack() as last:
        plan = configured(remote, asked, source, turns)
        title = (source.info.name, f"watched by {plan.model}")
        last.callback(write_files, asked.plot, asked.subtitles, title, story, strip, plan.speak)
        begun = time.monotonic()
        if not asked.quiet:
            last.callback(lambda: typer.echo(summary(story, time.monotonic() - begun), err=True))
        screening = Screening(length(source, asked), plan.window, asked.realtime, asked.scores, asked.quiet)
        with json_lines(asked.output) as log, open_timeline(screening) as show:
            watch(asked, plan, remote, (story.add, log, show), strip)


def look(asked: Asked) -> list[Query | Context]:
    """Refuse what cannot be done before a server is asked; returns what is to be said."""
    from mmduet.errors import OptionError
    from mmduet.video.sampling import check_rate

    turns: list[Query | Context] = [*parse_turns("--context", asked.context, Context)]
    turns += parse_turns("--query", asked.query, Query)
    if asked.no_query and asked.query:
        raise OptionError("--no-query and --query contradict each other; give one of them")
    check_rate("--fps", asked.fps)
    if asked.seconds is not None and not asked.seconds > 0:
        raise OptionError(f"--seconds {asked.seconds} leaves nothing to watch; give a number above 0")
    SpeakOptions().revised(asked.speak, asked.score_heads)
    check_files({"--output": asked.output, "--plot": asked.plot, "--subtitles": asked.subtitles}, Path(asked.video))
    return turns


def length(source: LiveSource, asked: Asked) -> float | None:
    """Seconds of video that are going to be sent, where that is known."""
    ends = [end for end in (source.info.duration, asked.seconds) if end is not None]
    return min(ends, default=None)


def configured(remote: RemoteStream, asked: Asked, source: LiveSource, turns: list[Query | Context]) -> Plan:
    """Set the session as it was asked for, over what the server does by itself."""
    own = remote.session.duet
    fps = asked.fps if asked.fps is not None else own.fps or source.info.fps or 2.0
    speak = SpeakOptions(**{**own.speak, "heads": tuple(own.speak["heads"])}).revised(asked.speak, asked.score_heads)
    if not asked.query and not asked.no_query and own.query:
        turns = [*turns, Query(own.query)]
    if not any(isinstance(turn, Query) for turn in turns):
        speak = SpeakOptions(**{**asdict(speak), "unasked": True})
    window = own.window if asked.window is None else parse_window(asked.window, fps)
    duet: dict[str, Any] = {"fps": None, "speak": asdict(speak), "window": window}  # frames are sampled here
    remote.update(duet=duet, **given(max_output_tokens=asked.max_new_tokens))
    ordered = tuple(sorted(turns, key=lambda turn: turn.time))
    return Plan(source, ordered, speak, fps, window, remote.session.model)


def watch(
    asked: Asked, plan: Plan, remote: RemoteStream, listeners: tuple[Listener, ...], strip: FilmStrip | None
) -> None:
    """Frames go out from a thread of their own, what comes back goes to the listeners; raises what ended it early."""
    from mmduet.tasks.base import interleaved

    frames = plan.source.frames(plan.fps)
    if asked.seconds is not None:
        end = asked.seconds
        frames = takewhile(lambda frame: frame.time < end, frames)
    stop = threading.Event()
    with ThreadPoolExecutor(1, "mmduet-source") as pool:
        plays_itself = plan.source.live or not asked.realtime
        sent = interleaved(frames if plays_itself else paced(frames, stop), plan.turns)
        feeding = pool.submit(feed, sent, remote, stop, strip)
        try:
            failed = tell(remote, listeners)
        finally:
            stop.set()
            plan.source.close()
            remote.close()
        feeding.result()
    if failed:
        error = ServerError(failed.message)
        error.code = failed.code
        raise error
