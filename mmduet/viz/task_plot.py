"""The picture of a task's result: the spans that were found as bars over the scores, and a list of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmduet.spans import CaptionedSpan, Span
from mmduet.text import to_printable
from mmduet.viz.film_strip import FilmStrip
from mmduet.viz.run_plot import TimedText
from mmduet.viz.score_timeline import ScoreTimeline
from mmduet.viz.sheet import CONTENT_WIDTH, MAX_ENTRIES, ListEntry
from mmduet.viz.span_bars import LANE_HEIGHT, assign_lanes, draw_span_bars, lane_count, numbers_fit
from mmduet.viz.video_plot import GAP, Panel, VideoPlot, save_video_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes


QUERY_LABEL = "Q"


@dataclass(frozen=True)
class TaskPlot:
    """What the picture of a task's result shows; ``strip`` and ``times`` have at least one frame.

    Attributes:
        title: The name of the video.
        remark: What was done, by which model.
        times: Presentation times of the frames in seconds.
        curves: Scores by head, one value per frame.
        threshold: The head and the score that decide, or None.
        queries: Queries with their times.
        spans: What was found, in the order in which it is numbered.
        strip: Thumbnails of the video.
    """

    title: str
    remark: str
    times: Sequence[float]
    curves: Mapping[str, Sequence[float]]
    threshold: tuple[str, float] | None
    queries: Sequence[TimedText]
    spans: Sequence[CaptionedSpan]
    strip: FilmStrip


def save_task_plot(path: Path, plot: TaskPlot) -> None:
    """Draw ``plot`` into ``path``, whose suffix is the format (png, pdf or svg). Raises ``OptionError`` if it cannot."""
    spans = [Span(span.start, span.end) for span in plot.spans]
    timeline = ScoreTimeline(
        times=plot.times,
        curves=plot.curves,
        threshold=plot.threshold,
        query_times=[query.time for query in plot.queries],
        query_label=QUERY_LABEL,
        spans=spans,
    )
    lanes = assign_lanes(spans)
    number_row = not numbers_fit(spans, lanes, timeline.span, CONTENT_WIDTH)

    def draw_bars(axes: Axes) -> None:
        draw_span_bars(axes, spans, lanes, timeline.span, CONTENT_WIDTH, number_row=number_row)

    panel = Panel(LANE_HEIGHT * (max(lane_count(lanes), 1) + number_row), GAP, draw_bars)
    save_video_plot(path, VideoPlot(plot.title, plot.remark, plot.strip, timeline, list_spans(plot), panel))


def list_spans(plot: TaskPlot) -> list[ListEntry]:
    """Return the queries, then the spans by number; spans beyond ``MAX_ENTRIES`` are only counted."""
    entries = [ListEntry(query.time, QUERY_LABEL, to_printable(query.text).strip(), True) for query in plot.queries]
    listed = plot.spans[:MAX_ENTRIES]
    for number, (start, end, caption) in enumerate(listed, 1):
        text = to_printable(caption).strip()
        entries.append(ListEntry(start, str(number), text, False, end if end > start else None))
    if more := len(plot.spans) - len(listed):
        rest = plot.spans[len(listed) :]
        start, end = min(span.start for span in rest), max(span.end for span in rest)
        entries.append(ListEntry(start, "…", f"and {more} more", False, end))
    return entries
