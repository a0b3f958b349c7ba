"""Show and write the results of a task: a table per video, JSON, subtitles, a plot."""

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
WORDS = frozenset({"caption", "answer", ""})  # columns of text, aligned to the left
PLAIN_WIDTH = 100  # characters, where there is no terminal
FAILED = 1  # exit status if some of several videos failed


@dataclass(frozen=True)
class View(Generic[R]):
    """How a task's result is shown: table ``rows`` for ``columns``, ``marks`` of the plot, subtitle ``cues``.

    ``more`` does further work with the result of a video and returns lines to print.
    """

    columns: tuple[str, ...]
    rows: Callable[[R], Sequence[Sequence[str]]]
    marks: Callable[[R], Sequence[CaptionedSpan]]
    cues: Callable[[R], Sequence[Cue]] = lambda result: ()
    more: Callable[[VideoRun, R], Sequence[str]] = lambda run, result: ()
    threshold: float | None = None  # drawn in the plot; None: the threshold of the speak policy, if it has one


def run_and_report(options: TaskOptions, task: Task[R], view: View[R]) -> None:
    """Run a task over the videos, show and write its results.

    The error of a single video is raised. Of several videos, errors are reported and the exit status is 1.
    """
    report: Json = {"task": task.name, "profile": options.profile, "videos": []}
    failed = False
    with exit_on_sigterm(), ExitStack() as last:
        last.callback(write_report, options.output, report)
        with open_console(options) as console:
            for run in run_task_videos(options, task):
                entry: Json = {"video": str(run.video)}
                if options.several or run.result is not None:
                    report["videos"].append(entry)
                try:
                    show(console, run, task, view, entry)
                except MmduetError as error:
                    entry["error"] = {"code": error.code, "message": str(error)}
                    if not options.several:
                        raise
                    failed = True
                    typer.echo(f"{run.video}: error[{error.code}]: {error}", err=True)
    if failed:
        raise typer.Exit(FAILED)


def write_report(path: Path | None, report: Json) -> None:
    """Write the results so far; without any, an existing file stays as it is."""
    if path is not None and report["videos"]:
        write_json(path, report, 2)


def show(console: Console, run: VideoRun, task: Task[R], view: View[R], entry: Json) -> None:
    """Show one video's result, add it to ``entry`` and write its files; then raise the error that ended it early."""
    if run.result is not None:
        result = task.result(run.result)
        entry |= to_json_entry(run, run.result, result)
        write_table(console, run, view.columns, view.rows(result))
        write_files(run, task, view, result)
        for line in view.more(run, result):
            console.print(line, markup=False, soft_wrap=True)
    if run.error is not None:
        raise run.error


def to_json_entry(run: VideoRun, stream: StreamResult, result: Any) -> Json:
    """Return the settings, the result and every score of a video as JSON values."""
    scores = [
        {"time": score.time, "informative": score.informative, "relevance": score.relevance} for score in stream.scores
    ]
    settings = {"model": run.model, "fps": run.config.fps, "duration": stream.duration}
    return {**settings, **result.to_dict(), "scores": scores}


@contextmanager
def open_console(options: TaskOptions) -> Iterator[Console]:
    """Yield the console for tables: the terminal, or plain text of fixed width; silent with ``--quiet``."""
    from rich.console import Console

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # characters that the terminal lacks are replaced
    if is_terminal(sys.stdout):
        yield Console(highlight=False, quiet=options.quiet)
    else:
        yield Console(
            highlight=False,
            quiet=options.quiet,
            force_terminal=False,
            color_system=None,
            width=PLAIN_WIDTH,
            no_color=True,
        )


def write_table(console: Console, run: VideoRun, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the video's name, length and model, then the rows; numbers are aligned right, text left."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    assert run.result is not None
    frames = len(run.result.scores)
    console.print(
        f"{to_printable(run.video.name)}: {frames} frame{'s' * (frames != 1)}, {run.result.duration:.2f} s, "
        f"{to_printable(run.model)}",
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


def write_files(run: VideoRun, task: Task[R], view: View[R], result: R) -> None:
    """Write subtitles and the plot; there is no plot without a frame."""
    options, stream = run.options, run.result
    assert stream is not None
    if options.subtitles is not None:
        from mmduet.annotations.subtitles import write_subtitles

        write_subtitles(options.named(options.subtitles, run.video), view.cues(result))
    if options.plot is not None and run.strip is not None and stream.scores:
        plot = TaskPlot(
            title=run.video.name,
            remark=f"{task.name} by {run.model}",
            times=stream.times,
            curves={head: stream.mean_scores((head,)) for head in task.heads},
            threshold=threshold(run, task, view),
            queries=[TimedText(query.time, query.text) for query in run.config.queries],
            spans=view.marks(result),
            strip=run.strip,
        )
        save_task_plot(options.named(options.plot, run.video), plot)


def threshold(run: VideoRun, task: Task[R], view: View[R]) -> tuple[str, float] | None:
    """Return the head and its threshold, None if the decision depends on more than one score."""
    speak = run.config.speak
    if view.threshold is not None:
        return task.heads[0], view.threshold
    return (speak.heads[0], speak.value) if speak.policy == "threshold" and len(speak.heads) == 1 else None


def seconds(time: float) -> str:
    """Return a time in seconds as text for a table."""
    return f"{time:.2f}"
