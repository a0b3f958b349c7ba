"""``mmduet ask``: a question about a video, and every answer with its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmduet.cli._loading import Adapter, AllowPickle, Dtype, MaxConcurrent, Quantized
from mmduet.cli._task_options import (
    Encoded,
    Fps,
    Key,
    Model,
    Output,
    Plot,
    Profiles,
    Quiet,
    ServerUrl,
    Speak,
    Subtitles,
    TaskOptions,
    Videos,
)
from mmduet.cli._turns import parse_timed_text

if TYPE_CHECKING:
    from mmduet.cli._task_output import View
    from mmduet.tasks import Answers


def ask(
    videos: Videos,
    query: Annotated[
        str, Option(metavar="TEXT[@SECONDS]", help="The question, and when it is asked.", show_default=False)
    ],
    model: Model = None,
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    quantized: Quantized = None,
    dtype: Dtype = "float32",
    server: ServerUrl = None,
    key: Key = None,
    encoding: Encoded = "jpeg",
    fps: Fps = None,
    speak: Speak = None,
    profile: Profiles = "fixed",
    at_once: MaxConcurrent = 8,
    output: Output = None,
    plot: Plot = None,
    subtitles: Subtitles = None,
    quiet: Quiet = False,
) -> None:
    """Question answering: every answer to a question about each VIDEO, with its time.

    The same answer repeated within five seconds is one answer that lasts.

    The exit status is 1 if some of several videos failed.
    """
    options = TaskOptions.from_arguments(locals())
    question, at = parse_timed_text("--query", query)
    from mmduet.cli._task_output import run_and_report
    from mmduet.tasks import QuestionAnswering

    run_and_report(options, QuestionAnswering(question, at, profile), view())


def view() -> View[Answers]:
    """Show answers by time."""
    from mmduet.annotations.subtitles import Cue
    from mmduet.cli._task_output import View, seconds
    from mmduet.spans import CaptionedSpan
    from mmduet.viz.subtitle_timing import MAX_REPLY_SECONDS, enforce_min_cue

    return View(
        columns=("from", "to", "answer"),
        rows=lambda result: [(seconds(a.start), seconds(a.end), a.text) for a in result.answers],
        marks=lambda result: [CaptionedSpan(a.start, a.end, a.text) for a in result.answers],
        cues=lambda result: list(
            enforce_min_cue((Cue.from_text(a.start, a.end, a.text) for a in result.answers), MAX_REPLY_SECONDS)
        ),
    )
