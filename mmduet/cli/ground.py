"""``mmduet ground``: the times in a video that match a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmduet.cli._options import takes_options
from mmduet.cli._task_options import TaskOptions
from mmduet.cli._turns import check_text

if TYPE_CHECKING:
    from mmduet.cli._task_output import View
    from mmduet.options import Profile
    from mmduet.tasks import GroundingResult, OnlineGroundingResult


@dataclass(frozen=True, kw_only=True)
class GroundOptions(TaskOptions):
    """The options of ``mmduet ground``."""

    query: Annotated[str, Option(metavar="TEXT", help="What to find, in words.", show_default=False)]
    online: Annotated[
        bool, Option("--online", help="Decide frame by frame, and report when each start and end was decided.")
    ] = False
    threshold: Annotated[
        float, Option(min=0.0, max=1.0, help="A frame belongs to a span if its relevance is above this.")
    ] = 0.5  # fmt: skip


@takes_options(GroundOptions)
def ground(options: GroundOptions) -> None:
    """Find the times in each VIDEO that match a query (temporal grounding).

    The exit status is 1 if some of several videos failed.
    """
    options.check()
    query, profile, threshold = check_text("--query", options.query), options.profile, options.threshold
    from mmduet.cli._task_output import run_and_report
    from mmduet.tasks import OnlineGrounding, TemporalGrounding

    if options.online:
        from mmduet.tasks.online_grounding import Hysteresis

        run_and_report(options, OnlineGrounding(query, Hysteresis.from_threshold(threshold), profile), online_view())
    else:
        run_and_report(options, TemporalGrounding(query, profile, threshold), view(profile, threshold))


def view(profile: Profile, threshold: float) -> View[GroundingResult]:
    """Return the view of spans: by time, with the best one marked.

    Under ``paper`` no threshold is drawn, because it applies to rescaled scores.
    """
    from mmduet.cli._task_output import View, seconds
    from mmduet.spans import CaptionedSpan

    def rows(result: GroundingResult) -> list[tuple[str, ...]]:
        best = ["best" if span == result.best else "" for span in result.spans]
        return [
            (seconds(s.start), seconds(s.end), f"{s.score:.2f}", b) for s, b in zip(result.spans, best, strict=True)
        ]

    def marks(result: GroundingResult) -> list[CaptionedSpan]:
        return [
            CaptionedSpan(s.start, s.end, f"relevance {s.score:.2f}{', the best' if s == result.best else ''}")
            for s in result.spans
        ]

    return View(("start", "end", "relevance", ""), rows, marks, threshold=None if profile == "paper" else threshold)


def online_view() -> View[OnlineGroundingResult]:
    """Return the view of online spans: by time, with the times at which starts and ends were decided."""
    from mmduet.cli._task_output import View, seconds
    from mmduet.spans import CaptionedSpan

    return View(
        columns=("start", "end", "start decided", "end decided"),
        rows=lambda result: [
            tuple(map(seconds, (s.start, s.end, s.start_decided, s.end_decided))) for s in result.spans
        ],
        marks=lambda result: [
            CaptionedSpan(
                s.start, s.end, f"start decided at {seconds(s.start_decided)} s, end at {seconds(s.end_decided)} s"
            )
            for s in result.spans
        ],
    )
