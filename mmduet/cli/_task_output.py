"""Show and write the results of a task: for each video a table, JSON, subtitles and a plot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import typer

from mmduet.annotations.subtitles import Cue
from mmduet.cli._display import is_terminal
from mmduet.cli._session_io import exit_on_signals
from mmduet.cli._standard_input import resolve_video
from mmduet.cli._task_options import ReplyTaskOptions, TaskOptions
from mmduet.cli._task_results import task_results
from mmduet.cli._warnings import print_warning, warn_about_damage
from mmduet.errors import MmduetError
from mmduet.events import SessionWarning
from mmduet.files import write_json
from mmduet.options import SpeakOptions
from mmduet.pipelines.jobs import VideoResult
from mmduet.redaction import redact
from mmduet.spans import CaptionedSpan
from mmduet.tasks.base import RunConfig, StreamResult, Task
from mmduet.text import to_printable
from mmduet.video.damage import Damage
from mmduet.viz.run_plot import TimedText
from mmduet.viz.task_plot import TaskPlot, save_task_plot

if TYPE_CHECKING:
    from rich.console import Console

    from mmduet.viz.film_strip import FilmStrip

R = TypeVar("R")
Json = dict[str, Any]
TEXT_COLUMNS = frozenset({"caption", "answer", ""})  # aligned to the left
PLAIN_WIDTH = 100  # characters per line of output that does not go to a terminal
FAILED = 1  # exit status if some of several videos failed


@dataclass(frozen=True)
class View(Generic[R]):
    """How a task's result is shown: table ``rows`` for ``columns``, ``marks`` of the plot, subtitle ``cues``.

    ``postprocess`` is called with each video and its result, for example to cut clips, and returns lines to print.
    """

    columns: tuple[str, ...]
    rows: Callable[[R], Sequence[Sequence[str]]]
    marks: Callable[[R], Sequence[CaptionedSpan]]
    cues: Callable[[R], Sequence[Cue]] = lambda result: ()
    postprocess: Callable[[Path, R], Sequence[str]] = lambda video, result: ()
    threshold: float | None = None  # drawn in the plot; None: the threshold of the speak policy, if it has one


def run_and_report(options: TaskOptions, task: Task[R], view: View[R]) -> None:
    """Run a task over the videos, show and write its results.

    The error of a single video is raised. Of several videos, errors are reported and the exit status is 1.
    """
    options = replace(options, videos=[resolve_video(video) for video in options.videos])
    report: Json = {"task": task.name, "profile": options.profile, "videos": []}
    failed = False
    with exit_on_signals(), ExitStack() as at_exit:
        at_exit.callback(write_report, options.output, report)
        with open_console(options) as console:
            reporter = Reporter(console, options, task, view)
            for result, strip in task_results(options, task):
                entry: Json = {"video": redact(str(result.video)), "warnings": warnings_to_json(result.warnings)}
                reporter.warn(result)
                if options.several or result.output is not None:
                    report["videos"].append(entry)
                try:
                    reporter.add(result, strip, entry)
                except MmduetError as error:
                    entry["error"] = {"code": error.code, "message": str(error)}
                    if not options.several:
                        raise
                    failed = True
                    typer.echo(f"{redact(str(result.video))}: error[{error.code}]: {error}", err=True)
    if failed:
        raise typer.Exit(FAILED)


def write_report(path: Path | None, report: Json) -> None:
    """Write the results so far, if any; otherwise leave an existing file unchanged."""
    if path is not None and report["videos"]:
        write_json(path, report, 2)


@dataclass(frozen=True)
class Reporter(Generic[R]):
    """Shows and writes the results of one command."""

    console: Console
    options: TaskOptions
    task: Task[R]
    view: View[R]
    warned: set[str] = field(default_factory=set)  # codes of the warnings that have been printed

    def warn(self, result: VideoResult[Path, R]) -> None:
        """Print the warnings of a video on stderr; of several videos with the same warning, only the first one's."""
        for warning in result.warnings:
            if warning.code not in self.warned:
                self.warned.add(warning.code)
                print_warning(warning.code, warning.message, result.video)

    def add(self, result: VideoResult[Path, R], strip: FilmStrip | None, entry: Json) -> None:
        """Show one video's result, add it to ``entry`` and write its files; then raise the error that ended it early."""
        output, stream, config = result.output, result.stream, result.config
        if output is not None and stream is not None and config is not None:
            entry |= to_json_entry(result.model, config, stream, output, result.damage)
            write_title(self.console, result.video.name, result.model, stream)
            write_table(self.console, self.view.columns, self.view.rows(output))
            self._write_subtitles(result, stream, output)
            if strip is not None and stream.scores:
                self._write_plot(result.video, self._to_plot(result, config, stream, output, strip))
            for line in self.view.postprocess(result.video, output):
                self.console.print(line, markup=False, soft_wrap=True)
        if result.error is None:
            warn_about_damage(result.video, result.damage)
        result.raise_for_error()

    def _write_subtitles(self, result: VideoResult[Path, R], stream: StreamResult, output: R) -> None:
        if isinstance(self.options, ReplyTaskOptions) and self.options.subtitles is not None:
            from mmduet.annotations.subtitles import shift_cues, write_subtitles

            start = 0.0 if result.info is None else result.info.start
            cues = shift_cues(self.view.cues(output), stream.duration, start)
            write_subtitles(self.options.path_for(self.options.subtitles, result.video), cues)

    def _write_plot(self, video: Path, plot: TaskPlot) -> None:
        if self.options.plot is not None:
            save_task_plot(self.options.path_for(self.options.plot, video), plot)

    def _to_plot(
        self, result: VideoResult[Path, R], config: RunConfig, stream: StreamResult, output: R, strip: FilmStrip
    ) -> TaskPlot:
        return TaskPlot(
            title=result.video.name,
            remark=f"{self.task.name} by {result.model}",
            times=stream.times,
            curves={head: stream.mean_scores((head,)) for head in self.task.heads},
            threshold=self._threshold(config.speak),
            queries=[TimedText(query.time, query.text) for query in config.queries],
            spans=self.view.marks(output),
            strip=strip,
        )

    def _threshold(self, speak: SpeakOptions) -> tuple[str, float] | None:
        """Return the head and its threshold, None if the decision depends on more than one score."""
        if self.view.threshold is not None:
            return self.task.heads[0], self.view.threshold
        return (speak.heads[0], speak.value) if speak.policy == "threshold" and len(speak.heads) == 1 else None


def warnings_to_json(warnings: Sequence[SessionWarning]) -> list[Json]:
    """Return warnings as JSON values."""
    return [{"code": warning.code, "message": warning.message, "time": warning.time} for warning in warnings]


def to_json_entry(model: str, config: RunConfig, stream: StreamResult, output: Any, damage: Damage) -> Json:
    """Return the settings, the result and every score of a video as JSON values."""
    scores = [
        {"time": score.time, "informative": score.informative, "relevance": score.relevance} for score in stream.scores
    ]
    settings = {"model": model, "fps": config.fps, "duration": stream.duration}
    return {**settings, "damage": damage.to_dict(), **output.to_dict(), "scores": scores}


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


def write_title(console: Console, video: str, model: str, stream: StreamResult) -> None:
    """Print the video's name, length and model."""
    frames = len(stream.scores)
    title = (
        f"{to_printable(video)}: {frames} frame{'s' * (frames != 1)}, {stream.duration:.2f} s, {to_printable(model)}"
    )
    console.print(title, markup=False, style="bold")


def write_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows; numbers are aligned right, text left."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    if not rows:
        console.print("  nothing found", markup=False)
        return
    table = Table(box=SIMPLE, show_edge=False, pad_edge=True)
    for column in columns:
        words = column in TEXT_COLUMNS
        table.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in rows:
        table.add_row(*(Text(to_printable(cell)) for cell in row))
    console.print(table)


def seconds(time: float) -> str:
    """Return a time in seconds as text for a table."""
    return f"{time:.2f}"
