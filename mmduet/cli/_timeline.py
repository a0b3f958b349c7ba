"""Knows how a run looks while it goes on: live on a terminal, plain lines elsewhere; nothing of files or engines."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import TextIOWrapper
from typing import TYPE_CHECKING

import typer

from mmduet.cli._events import Listener, Said, printable
from mmduet.events import ContextRead, Output, QueryRead, Reply, ReplyDelta, ReplyStarted, Scores

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live
    from rich.text import Text

STYLES = {
    "user": "bold cyan",
    "system": "bold magenta",
    "assistant": "bold green",
    "informative": "blue",
    "relevance": "bright_red",
}
BLOCKS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 20
SPARK_ROOM = 52  # what stands on a score's line besides its history


@dataclass(frozen=True)
class Screening:
    """What the screen is told of the run before it begins."""

    duration: float | None
    window: int | None
    realtime: bool = False
    scores: bool = False
    quiet: bool = False


def open_timeline(screening: Screening) -> AbstractContextManager[Listener]:
    """Shows each output it is called with: nothing if quiet, live on a terminal, else as plain lines."""
    if screening.quiet:
        return nullcontext(lambda output: None)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a letter that the terminal cannot show is no reason to stop
    return _live(screening) if on_terminal(sys.stdout) else _plain(screening)


@contextmanager
def busy(message: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Says what one is waiting for, where a person is waiting, and how far it is: call what is yielded (done, total)."""
    if quiet or not on_terminal(sys.stderr):
        yield lambda done, total: None
        return
    from rich.console import Console

    with Console(stderr=True).status(message) as status:
        yield lambda done, total: status.update(f"{message} {done / total:.0%}")


def on_terminal(stream: object) -> bool:
    return bool(getattr(stream, "isatty", bool)()) and os.environ.get("TERM") not in ("dumb", "unknown")


# plain


@contextmanager
def _plain(screening: Screening) -> Iterator[Listener]:
    plain = Plain(screening.scores)
    try:
        yield plain.show
    finally:
        plain.flush()


class Plain:
    """One line per turn when it is over, and if asked to one per frame."""

    def __init__(self, scores: bool) -> None:
        self._scores = scores
        self._reply: Said | None = None

    def show(self, output: Output) -> None:
        """Print what is to be printed of one output."""
        match output:
            case Scores() if self._scores:
                self._line(output.time, "scores", in_words(output))
            case QueryRead(query=query, time=at):
                self._line(at, "user", query.text)
            case ContextRead(context=context, time=at):
                self._line(at, "system", context.text)
            case ReplyStarted(time=at):
                self._reply = Said(at)
            case ReplyDelta(text=text) if self._reply:
                self._reply.text += text
            case Reply(time=at, text=text, finish=finish):
                self._reply = Said(at, text, finish)
                self.flush()

    def flush(self) -> None:
        """Print the reply at hand, finished or not."""
        if self._reply:
            self._line(self._reply.time, "assistant", self._reply.shown)
        self._reply = None

    def _line(self, at: float, role: str, text: str) -> None:
        typer.echo(f"{at:8.2f}s  {role:<9}  {printable(text)}".rstrip())


# live


@contextmanager
def _live(screening: Screening) -> Iterator[Listener]:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    screen = Screen(screening)
    with Live(screen, console=console, refresh_per_second=12, transient=True) as live:
        screen.live = live
        try:
            yield screen.show
        finally:
            screen.flush()


class Screen:
    """Turns scroll by above; below stay the reply being written, the scores and the pace."""

    live: Live

    def __init__(self, screening: Screening) -> None:
        self._screening = screening
        self._reply: Said | None = None
        self._replies = 0
        self._frames = 0
        self._history: deque[Scores] = deque(maxlen=512)
        self._stamps: deque[float] = deque(maxlen=48)  # when the latest frames were scored
        self._start = time.monotonic()

    def show(self, output: Output) -> None:
        """Take in one output; turns that are over are printed for good."""
        match output:
            case Scores():
                self._scored(output)
            case QueryRead(query=query, time=at):
                self.live.console.print(turn(at, "user", query.text))
            case ContextRead(context=context, time=at):
                self.live.console.print(turn(at, "system", context.text))
            case ReplyStarted(time=at):
                self._reply = Said(at)
            case ReplyDelta(text=text) if self._reply:
                self._reply.text += text
            case Reply(time=at, text=text, finish=finish):
                self._reply, self._replies = Said(at, text, finish), self._replies + 1
                self.flush()

    def flush(self) -> None:
        """Print the reply at hand for good, finished or not."""
        said, self._reply = self._reply, None
        if said:
            self.live.console.print(turn(said.time, "assistant", said.shown))

    def _scored(self, scores: Scores) -> None:
        now = time.monotonic()
        self._start = self._start if self._frames else now - scores.time
        self._stamps.append(now)
        self._history.append(scores)
        self._frames += 1
        if self._screening.scores:
            self.live.console.print(turn(scores.time, "scores", in_words(scores)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The region that stays: drawn by the screen's own thread, so what changes is copied first."""
        reply, history = self._reply, list(self._history)
        if reply:
            yield turn(reply.time, "assistant", printable(reply.text).strip() + " ▌")
        yield ""
        if history:
            yield self._position(history[-1].time)
            for head in ("informative", "relevance"):
                yield score_line(head, history, options.max_width)
        yield self._pace(history[-1].time if history else 0.0)

    def _position(self, at: float) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = Table.grid(padding=(0, 2, 0, 0))
        total = self._screening.duration
        clock = Text.assemble((f"{at:8.2f}s", "bold"), (f" / {total:.2f}s" if total else "", "dim"))
        if total:
            line.add_row(clock, ProgressBar(total, min(at, total), width=BAR_WIDTH, complete_style="white"))
        else:
            line.add_row(clock)
        return line

    def _pace(self, at: float) -> RenderableType:
        from rich.text import Text

        return Text(" " * 10 + "  ·  ".join(self._facts(at)), style="dim", no_wrap=True, overflow="ellipsis")

    def _facts(self, at: float) -> Iterator[str]:
        stamps, window = list(self._stamps), self._screening.window
        elapsed = time.monotonic() - self._start
        if len(stamps) > 1 and stamps[-1] > stamps[0]:
            yield f"{(len(stamps) - 1) / (stamps[-1] - stamps[0]):.1f} frames/s"
        if self._screening.realtime and elapsed - at > 1:
            yield f"{elapsed - at:.1f} s behind"
        elif stamps and elapsed > 0 and not self._screening.realtime:
            yield f"{at / elapsed:.1f}x real time"
        yield f"{self._frames if window is None else f'{min(self._frames, window)} of {window}'} frames in view"
        yield f"{self._replies} {'reply' if self._replies == 1 else 'replies'}"


def in_words(scores: Scores) -> str:
    """The two scores as they stand on a line of their own."""
    return f"informative {scores.informative:.3f}  relevance {scores.relevance:.3f}"


def turn(at: float, role: str, text: str) -> RenderableType:
    """A turn's time, who speaks, and the words, wrapped beside them."""
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(justify="right", width=9, style="dim", no_wrap=True)
    line.add_column(width=9, style=STYLES.get(role, "dim"), no_wrap=True)
    line.add_column(overflow="fold")
    line.add_row(f"{at:.2f}s", role, Text(printable(text)))
    return line


def score_line(head: str, history: list[Scores], width: int) -> RenderableType:
    """A score's name, bar and number, and its history as far as it fits; frames after which it spoke stand out."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    value, style = float(getattr(history[-1], head)), STYLES[head]
    line = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=1.0, completed=value, width=BAR_WIDTH, complete_style=style, finished_style=style)
    lately = history[-max(width - SPARK_ROOM, 1) :]
    line.add_row(Text(f"{head:>20}", style=style), bar, f"{value:.2f}", sparkline(head, lately))
    return line


def sparkline(head: str, history: list[Scores]) -> Text:
    """A block per frame, as high as its score."""
    from rich.text import Text

    line = Text(no_wrap=True, overflow="crop")
    for scores in history:
        height = min(max(round(float(getattr(scores, head)) * (len(BLOCKS) - 1)), 0), len(BLOCKS) - 1)
        line.append(BLOCKS[height], style="bold yellow" if scores.speak else STYLES[head])
    return line
