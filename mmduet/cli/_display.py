"""Display a session while it runs: live bars on a terminal, plain lines elsewhere."""

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

from mmduet.cli._transcript import OutputListener, PartialReply, turn_text
from mmduet.events import ContextRead, Output, QueryRead, Reply, ReplyDelta, ReplyStarted, Scores
from mmduet.text import to_printable

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
SCORE_LINE_WIDTH = 52  # columns of a score's line without its history
REFRESH_PER_SECOND = 12
MAX_HISTORY, MAX_STEP_TIMES = 512, 48  # frames in the sparkline, frames over which the speed is measured


@dataclass(frozen=True)
class DisplayOptions:
    """What the display shows of a session: its ``duration`` in seconds and its ``window`` in frames, if they are limited.

    ``typed_text`` returns what the user has typed of the next line, if the terminal does not echo it; ``hint`` is displayed
    while that is empty. With ``plain``, the display is not live, because the terminal echoes what is typed.
    """

    duration: float | None
    window: int | None
    realtime: bool = False
    scores: bool = False
    quiet: bool = False
    typed_text: Callable[[], str] | None = None
    hint: str = ""
    plain: bool = False


def is_live_display(*, quiet: bool) -> bool:
    """Return whether a session is displayed with live bars."""
    return not quiet and is_terminal(sys.stdout)


def open_display(options: DisplayOptions) -> AbstractContextManager[OutputListener]:
    """Return a listener that displays each output: live on a terminal, as plain lines elsewhere, not at all if quiet."""
    if options.quiet:
        return nullcontext(lambda output: None)
    replace_unencodable_characters()
    is_live = is_live_display(quiet=False) and not options.plain
    return _open_live_display(options) if is_live else _open_plain_display(options)


@contextmanager
def spinner(message: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Display ``message`` while the block runs, if stderr is a terminal; yield a function ``(done, total)`` for progress."""
    if quiet or not is_terminal(sys.stderr):
        yield lambda done, total: None
        return
    from rich.console import Console

    with Console(stderr=True).status(message) as status:
        yield lambda done, total: status.update(f"{message} {done / total:.0%}")


def is_terminal(stream: object) -> bool:
    """Return whether ``stream`` is a terminal that can move the cursor."""
    return bool(getattr(stream, "isatty", bool)()) and os.environ.get("TERM") not in ("dumb", "unknown")


def replace_unencodable_characters() -> None:
    """Let stdout write a question mark for a character that its encoding lacks, instead of raising."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


# plain lines


@contextmanager
def _open_plain_display(options: DisplayOptions) -> Iterator[OutputListener]:
    display = PlainDisplay(options.scores)
    try:
        yield display.add
    finally:
        display.flush()


class PlainDisplay:
    """Print one line per finished turn and, with ``scores``, one per frame."""

    def __init__(self, scores: bool) -> None:
        self._scores = scores
        self._reply: PartialReply | None = None

    def add(self, output: Output) -> None:
        """Print the line of one output, if it has one."""
        match output:
            case Scores() if self._scores:
                self._print(output.time, "scores", format_scores(output))
            case QueryRead(query=query, time=time):
                self._print(time, "user", turn_text(query, time))
            case ContextRead(context=context, time=time):
                self._print(time, "system", turn_text(context, time))
            case ReplyStarted(time=time):
                self._reply = PartialReply(time)
            case ReplyDelta(text=text) if self._reply:
                self._reply.text += text
            case Reply(time=time, text=text, finish=finish):
                self._reply = PartialReply(time, text, finish)
                self.flush()

    def flush(self) -> None:
        """Print the current reply, complete or not."""
        if self._reply:
            self._print(self._reply.time, "assistant", self._reply.display_text)
        self._reply = None

    def _print(self, at: float, role: str, text: str) -> None:
        typer.echo(f"{at:8.2f}s  {role:<9}  {to_printable(text)}".rstrip())


# live


@contextmanager
def _open_live_display(options: DisplayOptions) -> Iterator[OutputListener]:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    display = LiveDisplay(options)
    with Live(
        display,
        console=console,
        refresh_per_second=REFRESH_PER_SECOND,
        transient=True,
        redirect_stderr=is_terminal(sys.stderr),  # warnings appear above the live region, unless they go to a file
    ) as live:
        display.live = live
        try:
            yield display.add
        finally:
            display.flush()


class LiveDisplay:
    """Finished turns scroll by; below them stay the reply being written, the scores and the speed."""

    live: Live

    def __init__(self, options: DisplayOptions) -> None:
        self._options = options
        self._reply: PartialReply | None = None
        self._reply_count = 0
        self._frame_count = 0
        self._history: deque[Scores] = deque(maxlen=MAX_HISTORY)
        self._step_times: deque[float] = deque(maxlen=MAX_STEP_TIMES)  # when the latest frames were scored
        self._start = time.monotonic()

    def add(self, output: Output) -> None:
        """Record one output; print a finished turn above the live region."""
        match output:
            case Scores():
                self._add_scores(output)
            case QueryRead(query=query, time=at):
                self.live.console.print(turn_row(at, "user", turn_text(query, at)))
            case ContextRead(context=context, time=at):
                self.live.console.print(turn_row(at, "system", turn_text(context, at)))
            case ReplyStarted(time=at):
                self._reply = PartialReply(at)
            case ReplyDelta(text=text) if self._reply:
                self._reply.text += text
            case Reply(time=at, text=text, finish=finish):
                self._reply, self._reply_count = PartialReply(at, text, finish), self._reply_count + 1
                self.flush()

    def flush(self) -> None:
        """Print the current reply above the live region, complete or not."""
        reply, self._reply = self._reply, None
        if reply:
            self.live.console.print(turn_row(reply.time, "assistant", reply.display_text))

    def _add_scores(self, scores: Scores) -> None:
        now = time.monotonic()
        self._start = self._start if self._frame_count else now - scores.time
        self._step_times.append(now)
        self._history.append(scores)
        self._frame_count += 1
        if self._options.scores:
            self.live.console.print(turn_row(scores.time, "scores", format_scores(scores)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the live region. Rich calls this in its own thread, so state that changes is copied first."""
        reply, history = self._reply, list(self._history)
        if reply:
            yield turn_row(reply.time, "assistant", to_printable(reply.text).strip() + " ▌")
        yield ""
        if history:
            yield self._position_row(history[-1].time)
            for head in ("informative", "relevance"):
                yield score_row(head, history, options.max_width)
        yield self._speed_row(history[-1].time if history else 0.0)
        if self._options.typed_text is not None:
            yield typed_row(self._options.typed_text(), self._options.hint, options.max_width)

    def _position_row(self, at: float) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 2, 0, 0))
        total = self._options.duration
        clock = Text.assemble((f"{at:8.2f}s", "bold"), (f" / {total:.2f}s" if total else "", "dim"))
        if total:
            row.add_row(clock, ProgressBar(total, min(at, total), width=BAR_WIDTH, complete_style="white"))
        else:
            row.add_row(clock)
        return row

    def _speed_row(self, at: float) -> RenderableType:
        from rich.text import Text

        return Text(" " * 10 + "  ·  ".join(self._figures(at)), style="dim", no_wrap=True, overflow="ellipsis")

    def _figures(self, at: float) -> Iterator[str]:
        times, window = list(self._step_times), self._options.window
        elapsed = time.monotonic() - self._start
        if len(times) > 1 and times[-1] > times[0]:
            yield f"{(len(times) - 1) / (times[-1] - times[0]):.1f} frames/s"
        if self._options.realtime and elapsed - at > 1:
            yield f"{elapsed - at:.1f} s behind"
        elif times and elapsed > 0 and not self._options.realtime:
            yield f"{at / elapsed:.1f}x real time"
        frames = self._frame_count
        yield f"{frames if window is None else f'{min(frames, window)} of {window}'} frames in view"
        yield f"{self._reply_count} {'reply' if self._reply_count == 1 else 'replies'}"


def format_scores(scores: Scores) -> str:
    """Return both scores as text."""
    return f"informative {scores.informative:.3f}  relevance {scores.relevance:.3f}"


def turn_row(at: float, role: str, text: str) -> RenderableType:
    """Return a row of time, role and text; long text wraps within its column."""
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(justify="right", width=9, style="dim", no_wrap=True)
    row.add_column(width=9, style=STYLES.get(role, "dim"), no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row(f"{at:.2f}s", role, Text(to_printable(text)))
    return row


def typed_row(text: str, hint: str, width: int) -> RenderableType:
    """Return a row with the end of the text that is being typed, as much of it as fits, or with ``hint``."""
    from rich.cells import cell_len
    from rich.text import Text

    if not text:
        return Text.assemble(("> ▌ ", "bold cyan"), (hint, "dim"), no_wrap=True, overflow="ellipsis")
    visible = to_printable(text)[-width:]
    while cell_len(visible) > max(width - len("> ▌ "), 1):
        visible = visible[1:]
    return Text.assemble(("> ", "bold cyan"), visible, ("▌", "bold cyan"), no_wrap=True, overflow="crop")


def score_row(head: str, history: list[Scores], width: int) -> RenderableType:
    """Return a row of a head's name, bar, value and history, as much of it as fits into ``width`` columns."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    value, style = float(getattr(history[-1], head)), STYLES[head]
    row = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=1.0, completed=value, width=BAR_WIDTH, complete_style=style, finished_style=style)
    recent = history[-max(width - SCORE_LINE_WIDTH, 1) :]
    row.add_row(Text(f"{head:>20}", style=style), bar, f"{value:.2f}", sparkline(head, recent))
    return row


def sparkline(head: str, history: list[Scores]) -> Text:
    """Return a block per frame, as high as its score; frames after which the model spoke are highlighted."""
    from rich.text import Text

    line = Text(no_wrap=True, overflow="crop")
    for scores in history:
        height = min(max(round(float(getattr(scores, head)) * (len(BLOCKS) - 1)), 0), len(BLOCKS) - 1)
        line.append(BLOCKS[height], style="bold yellow" if scores.speak else STYLES[head])
    return line
