"""Shows what a task found: a table per video, JSON, subtitles, a picture; knows nothing of how it was found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import typer

from mmduet.annotations.subtitles import Cue
from mmduet.cli._events import printable
from mmduet.cli._task_options import Asked
from mmduet.cli._task_running import Viewing, viewings
from mmduet.cli._timeline import on_terminal
from mmduet.cli._watching import terminable
from mmduet.errors import MmduetError
from mmduet.files import write_json
from mmduet.tasks.base import Task, Watched
from mmduet.viz.task_plot import Drawing, Mark, draw

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

    ``more`` does what else was asked for with a video's findings, and returns what is to be told of it, a line each.
    """

    columns: tuple[str, ...]
    rows: Callable[[R], Sequence[Sequence[str]]]
    marks: Callable[[R], Sequence[Mark]]
    cues: Callable[[R], Sequence[Cue]] = lambda found: ()
    more: Callable[[Viewing, R], Sequence[str]] = lambda viewing, found: ()
    threshold: float | None = None  # drawn; None: that of speaking, where there is one


def carry_out(asked: Asked, task: Task[R], view: View[R]) -> None:
    """Watch, show, write. One video that fails raises its error; of several, each is told and the status is 1 in the end."""
    report: Json = {"task": task.name, "profile": asked.profile, "videos": []}
    failed = False
    with terminable(), ExitStack() as last:
        last.callback(write_report, asked.output, report)
        with screen(asked) as console:
            for viewing in viewings(asked, task):
                entry: Json = {"video": str(viewing.video)}
                if asked.several or viewing.watched is not None:
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


def show(console: Console, viewing: Viewing, task: Task[R], view: View[R], entry: Json) -> None:
    """Show what was found in one video, put it into ``entry``, write its files; then raise what ended it early."""
    if viewing.watched is not None:
        found = task.result(viewing.watched)
        entry |= described(viewing, viewing.watched, found)
        write_table(console, viewing, view.columns, view.rows(found))
        write_files(viewing, task, view, found)
        for line in view.more(viewing, found):
            console.print(line, markup=False, soft_wrap=True)
    if viewing.error is not None:
        raise viewing.error


def described(viewing: Viewing, watched: Watched, found: Any) -> Json:
    """How a video was watched, what was found and every score, as JSON has it."""
    scores = [
        {"time": score.time, "informative": score.informative, "relevance": score.relevance} for score in watched.scores
    ]
    how = {"model": viewing.model, "fps": viewing.setting.fps, "duration": watched.duration}
    return {**how, **asdict(found), "scores": scores}


@contextmanager
def screen(asked: Asked) -> Iterator[Console]:
    """Where tables go: a terminal as wide as it is, else text without colour; nowhere if quiet."""
    from rich.console import Console

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a letter that the terminal cannot show is no reason to stop
    if on_terminal(sys.stdout):
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


def write_table(console: Console, viewing: Viewing, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The video's name, how it was watched, and what was found in it; numbers on the right, words on the left."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    assert viewing.watched is not None
    frames = len(viewing.watched.scores)
    console.print(
        f"{printable(viewing.video.name)}: {frames} frame{'s' * (frames != 1)}, {viewing.watched.duration:.2f} s, "
        f"{printable(viewing.model)}",
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
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


def write_files(viewing: Viewing, task: Task[R], view: View[R], found: R) -> None:
    """Subtitles and the picture; nothing is drawn without a frame."""
    asked, watched = viewing.asked, viewing.watched
    assert watched is not None
    if asked.subtitles is not None:
        from mmduet.annotations.subtitles import write_subtitles

        write_subtitles(asked.named(asked.subtitles, viewing.video), view.cues(found))
    if asked.plot is not None and viewing.strip is not None and watched.scores:
        drawing = Drawing(
            title=viewing.video.name,
            remark=f"{task.name} by {viewing.model}",
            times=watched.times,
            curves={head: watched.curve((head,)) for head in task.heads},
            threshold=threshold(viewing, task, view),
            asked=[(query.time, query.text) for query in viewing.setting.queries],
            marks=view.marks(found),
            strip=viewing.strip,
        )
        draw(asked.named(asked.plot, viewing.video), drawing)


def threshold(viewing: Viewing, task: Task[R], view: View[R]) -> tuple[str, float] | None:
    """The head and the score that decide, where one alone does."""
    speak = viewing.setting.speak
    if view.threshold is not None:
        return task.heads[0], view.threshold
    return (speak.heads[0], speak.value) if speak.policy == "threshold" and len(speak.heads) == 1 else None


def seconds(time: float) -> str:
    """A time as it stands in a table."""
    return f"{time:.2f}"
