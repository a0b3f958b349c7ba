"""Shows what a task found: a table per video, JSON, subtitles, a picture; knows nothing of how it was found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import typer

from mmduet.annotations.subtitles import Cue
from mmduet.cli._display import is_terminal
from mmduet.cli._session_io import exit_on_sigterm
from mmduet.cli._task_options import TaskOptions
from mmduet.cli._task_running import VideoRun, run_task_videos
from mmduet.errors import MmduetError
from mmduet.files import write_json
from mmduet.spans import CaptionedSpan
from mmduet.tasks.base import StreamResult, Task
from mmduet.text import to_printable
from mmduet.viz.run_plot import TimedText
from mmduet.viz.task_plot import TaskPlot, save_task_plot

if TYPE_CHECKING:
    from rich.console import Console

R = TypeVar("R")
Json = dict[str, Any]
WORDS = frozenset({"caption", "answer", ""})  # columns that are read, not compared
PLAIN_WIDTH = 100  # columns where there is no terminal
FAILED = 1  # the exit status where some of several videos could not be watched


@dataclass(frozen=True)
class View(Generic[R]):
    """How what a task finds is shown. ``rows`` are ``columns`` in words, ``marks`` what is drawn, ``cues`` what is subtitled.

    ``more`` does what else was asked for with a video's findings, and returns the lines to print about it.
    """

    columns: tuple[str, ...]
    rows: Callable[[R], Sequence[Sequence[str]]]
    marks: Callable[[R], Sequence[CaptionedSpan]]
    cues: Callable[[R], Sequence[Cue]] = lambda found: ()
    more: Callable[[VideoRun, R], Sequence[str]] = lambda viewing, found: ()
    threshold: float | None = None  # drawn; None: that of speaking, where there is one


def run_and_report(asked: TaskOptions, task: Task[R], view: View[R]) -> None:
    """Run a task over the videos, show and write its results.

    The error of a single video is raised. Of several videos, errors are reported and the exit status is 1.
    """
    report: Json = {"task": task.name, "profile": asked.profile, "videos": []}
    failed = False
    with exit_on_sigterm(), ExitStack() as last:
        last.callback(write_report, asked.output, report)
        with screen(asked) as console:
            for viewing in run_task_videos(asked, task):
                entry: Json = {"video": str(viewing.video)}
                if asked.several or viewing.result is not None:
                    report["videos"].append(entry)
                try:
                    show(console, viewing, task, view, entry)
                except MmduetError as error:
                    entry["error"] = {"code": error.code, "message": str(error)}
                    if not asked.several:
                        raise
                    failed = True
                    typer.echo(f"{viewing.video}: error[{error.code}]: {error}", err=True)
    if failed:
        raise typer.Exit(FAILED)


def write_report(path: Path | None, report: Json) -> None:
    """What was found until now; a run that found nothing out leaves the last one's file as it was."""
    if path is not None and report["videos"]:
        write_json(path, report, 2)


def show(console: Console, viewing: VideoRun, task: Task[R], view: View[R], entry: Json) -> None:
    """Show what was found in one video, put it into ``entry``, write its files; then raise what ended it early."""
    if viewing.result is not None:
        found = task.result(viewing.result)
        entry |= described(viewing, viewing.result, found)
        write_table(console, viewing, view.columns, view.rows(found))
        write_files(viewing, task, view, found)
        for line in view.more(viewing, found):
            console.print(line, markup=False, soft_wrap=True)
    if viewing.error is not None:
        raise viewing.error


def described(viewing: VideoRun, watched: StreamResult, found: Any) -> Json:
    """How a video was watched, what was found and every score, as JSON has it."""
    scores = [
        {"time": score.time, "informative": score.informative, "relevance": score.relevance} for score in watched.scores
    ]
    how = {"model": viewing.model, "fps": viewing.setting.fps, "duration": watched.duration}
    return {**how, **found.to_dict(), "scores": scores}


@contextmanager
def screen(asked: TaskOptions) -> Iterator[Console]:
    """Where tables go: a terminal as wide as it is, else text without colour; nowhere if quiet."""
    from rich.console import Console

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a letter that the terminal cannot show does not end the command
    if is_terminal(sys.stdout):
        yield Console(highlight=False, quiet=asked.quiet)
    else:
        yield Console(
            highlight=False,
            quiet=asked.quiet,
            force_terminal=False,
            color_system=None,
            width=PLAIN_WIDTH,
            no_color=True,
        )


def write_table(console: Console, viewing: VideoRun, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The video's name, how it was watched, and what was found in it; numbers on the right, words on the left."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    assert viewing.result is not None
    frames = len(viewing.result.scores)
    console.print(
        f"{to_printable(viewing.video.name)}: {frames} frame{'s' * (frames != 1)}, {viewing.result.duration:.2f} s, "
        f"{to_printable(viewing.model)}",
        markup=False, style="bold",
    )  # fmt: skip
    if not rows:
        console.print("  nothing found", markup=False)
        return
    table = Table(box=SIMPLE, show_edge=False, pad_edge=True)
    for column in columns:
        words = column in WORDS
        table.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in rows:
        table.add_row(*(Text(to_printable(cell)) for cell in row))
    console.print(table)


def write_files(viewing: VideoRun, task: Task[R], view: View[R], found: R) -> None:
    """Subtitles and the picture; nothing is drawn without a frame."""
    asked, watched = viewing.options, viewing.result
    assert watched is not None
    if asked.subtitles is not None:
        from mmduet.annotations.subtitles import write_subtitles

        write_subtitles(asked.named(asked.subtitles, viewing.video), view.cues(found))
    if asked.plot is not None and viewing.strip is not None and watched.scores:
        plot = TaskPlot(
            title=viewing.video.name,
            remark=f"{task.name} by {viewing.model}",
            times=watched.times,
            curves={head: watched.mean_scores((head,)) for head in task.heads},
            threshold=threshold(viewing, task, view),
            queries=[TimedText(query.time, query.text) for query in viewing.setting.queries],
            spans=view.marks(found),
            strip=viewing.strip,
        )
        save_task_plot(asked.named(asked.plot, viewing.video), plot)


def threshold(viewing: VideoRun, task: Task[R], view: View[R]) -> tuple[str, float] | None:
    """The head and the score that decide, where one alone does."""
    speak = viewing.setting.speak
    if view.threshold is not None:
        return task.heads[0], view.threshold
    return (speak.heads[0], speak.value) if speak.policy == "threshold" and len(speak.heads) == 1 else None


def seconds(time: float) -> str:
    """A time as it stands in a table."""
    return f"{time:.2f}"
