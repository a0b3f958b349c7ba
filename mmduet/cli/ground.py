"""``mmduet ground``: when in a video is what a query says?"""

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
    TaskOptions,
    Videos,
)

if TYPE_CHECKING:
    from mmduet.cli._task_showing import View
    from mmduet.options import Profile
    from mmduet.tasks import GroundingResult, OnlineGroundingResult


def ground(
    videos: Videos,
    query: Annotated[str, Option(metavar="TEXT", help="What to look for.", show_default=False)],
    online: Annotated[bool, Option("--online", help="Decide while it plays, and say when it was known.")] = False,
    threshold: Annotated[float, Option(min=0.0, max=1.0, help="What relevance has to exceed.")] = 0.5,
    model: Model = None,
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    quantized: Quantized = None,
    dtype: Dtype = "float32",
    server: ServerUrl = None,
    key: Key = None,
    encoding: Encoded = "jpeg",
    fps: Fps = None,
    profile: Profiles = "fixed",
    at_once: MaxConcurrent = 8,
    output: Output = None,
    plot: Plot = None,
    quiet: Quiet = False,
) -> None:
    """Temporal grounding: the spans of each VIDEO that a query is about.

    Exit status 1 if some of several videos could not be watched.
    """
    asked = TaskOptions.from_arguments(locals())
    from mmduet.cli._task_showing import run_and_report
    from mmduet.tasks import OnlineGrounding, TemporalGrounding

    if online:
        from mmduet.tasks.online_grounding import Hysteresis

        run_and_report(asked, OnlineGrounding(query, Hysteresis.from_threshold(threshold), profile), online_view())
    else:
        run_and_report(asked, TemporalGrounding(query, profile, threshold), view(profile, threshold))


def view(profile: Profile, threshold: float) -> View[GroundingResult]:
    """Spans by time, the best one marked. Under ``paper`` it is decided on what no picture shows: scores as they lie."""
    from mmduet.cli._task_showing import View, seconds
    from mmduet.spans import CaptionedSpan

    def rows(found: GroundingResult) -> list[tuple[str, ...]]:
        best = ["best" if span == found.best else "" for span in found.spans]
        return [(seconds(s.start), seconds(s.end), f"{s.score:.2f}", b) for s, b in zip(found.spans, best, strict=True)]

    def marks(found: GroundingResult) -> list[CaptionedSpan]:
        return [
            CaptionedSpan(s.start, s.end, f"relevance {s.score:.2f}{', the best' if s == found.best else ''}")
            for s in found.spans
        ]

    return View(("start", "end", "relevance", ""), rows, marks, threshold=None if profile == "paper" else threshold)


def online_view() -> View[OnlineGroundingResult]:
    """Spans by time, and when their starts and ends were known."""
    from mmduet.cli._task_showing import View, seconds
    from mmduet.spans import CaptionedSpan

    return View(
        columns=("start", "end", "start told", "end told"),
        rows=lambda found: [tuple(map(seconds, (s.start, s.end, s.start_decided, s.end_decided))) for s in found.spans],
        marks=lambda found: [
            CaptionedSpan(
                s.start, s.end, f"told at {seconds(s.start_decided)} s, its end at {seconds(s.end_decided)} s"
            )
            for s in found.spans
        ],
    )
