"""``mmduet caption``: what happens in a video, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmduet.cli._options import takes_options
from mmduet.cli._task_options import ReplyTaskOptions
from mmduet.cli._turns import check_text

if TYPE_CHECKING:
    from mmduet.cli._task_output import View
    from mmduet.tasks import Captions


@dataclass(frozen=True, kw_only=True)
class CaptionOptions(ReplyTaskOptions):
    """The options of ``mmduet caption``."""

    query: Annotated[
        str | None, Option(metavar="TEXT", help="What the model shall describe.", show_default="the model's own")
    ] = None


@takes_options(CaptionOptions)
def caption(options: CaptionOptions) -> None:
    """Describe what happens in each VIDEO, from when to when (dense captioning).

    The exit status is 1 if some of several videos failed.
    """
    options.check()
    if options.query is not None:
        check_text("--query", options.query)
    from mmduet.cli._task_output import run_and_report
    from mmduet.tasks import DenseCaptioning

    run_and_report(options, DenseCaptioning(options.query, options.profile), view())


def view() -> View[Captions]:
    """Return the view of captions: segments by time."""
    from mmduet.annotations.subtitles import Cue
    from mmduet.cli._task_output import View, seconds
    from mmduet.spans import CaptionedSpan
    from mmduet.viz.subtitle_timing import enforce_min_cue

    return View(
        columns=("start", "end", "caption"),
        rows=lambda result: [(seconds(s.start), seconds(s.end), s.caption) for s in result.segments],
        marks=lambda result: [CaptionedSpan(s.start, s.end, s.caption) for s in result.segments],
        cues=lambda result: list(enforce_min_cue(Cue.from_text(s.start, s.end, s.caption) for s in result.segments)),
    )
