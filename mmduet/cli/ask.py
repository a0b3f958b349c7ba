"""``mmduet ask``: a question about a video, and every answer with its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmduet.cli._options import takes_options
from mmduet.cli._task_options import ReplyTaskOptions
from mmduet.cli._turns import parse_timed_text

if TYPE_CHECKING:
    from mmduet.cli._task_output import View
    from mmduet.tasks import Answers


@dataclass(frozen=True, kw_only=True)
class AskOptions(ReplyTaskOptions):
    """The options of ``mmduet ask``."""

    query: Annotated[
        str, Option(metavar="TEXT[@SECONDS]", help="The question, and from when on it is asked.", show_default=False)
    ]


@takes_options(AskOptions)
def ask(options: AskOptions) -> None:
    """Answer a question about each VIDEO, with the time of every answer.

    An answer that is repeated within five seconds is listed once, from its first time to its last.

    The exit status is 1 if some of several videos failed.
    """
    options.check()
    question, time = parse_timed_text("--query", options.query)
    from mmduet.cli._task_output import run_and_report
    from mmduet.tasks import QuestionAnswering

    run_and_report(options, QuestionAnswering(question, time, options.profile), view())


def view() -> View[Answers]:
    """Return the view of answers: by time."""
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
