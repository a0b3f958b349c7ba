"""The picture of a training sample: its frames, its turns, and the labels of both heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmduet.events import Query
from mmduet.spans import AnnotatedReply, Span
from mmduet.text import to_printable
from mmduet.viz.film_strip import FilmStrip
from mmduet.viz.score_timeline import ScoreTimeline, mean_interval
from mmduet.viz.sheet import MAX_ENTRIES, ListEntry
from mmduet.viz.style import HEAD_COLOURS
from mmduet.viz.turn_flags import draw_turn_flags, flags_height
from mmduet.viz.video_plot import Panel, VideoPlot, save_video_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class SamplePlot:
    """What the picture of a sample shows. Times are in seconds from its first frame.

    Attributes:
        remark: One line below the title.
        times: Times of the frames, at least one.
        labels: For each head 0 or 1 per frame, None where a frame is not labelled.
        queries: A time after the last frame stands for its end.
        replies: Annotated replies, of which some may not be learned.
        spans: Annotated spans of a grounding query.
    """

    title: str
    remark: str
    times: Sequence[float]
    labels: Mapping[str, Sequence[int | None]]
    queries: Sequence[Query]
    replies: Sequence[AnnotatedReply]
    spans: Sequence[Span]
    strip: FilmStrip


def save_sample_plot(path: Path, plot: SamplePlot) -> None:
    """Draw ``plot`` into ``path``, whose suffix is the format (png, pdf or svg). Raises ``OptionError`` if it cannot."""
    timeline = _timeline(plot)
    entries = list_sample_turns(plot)
    flags = [entry for entry in entries if entry.end is None]

    def draw_flags(axes: Axes) -> None:
        draw_turn_flags(axes, flags, timeline.span)

    panel = Panel(flags_height(flags, timeline.span), 0.0, draw_flags)
    save_video_plot(path, VideoPlot(plot.title, plot.remark, plot.strip, timeline, entries, panel))


def list_sample_turns(plot: SamplePlot) -> list[ListEntry]:
    """Return queries (Q1, Q2, …) and replies (1, 2, …) in their order, at most ``MAX_ENTRIES`` of them."""
    end = _end(plot)
    queries = [
        ListEntry(min(max(query.time, 0.0), end), f"Q{k}", to_printable(query.text), True)
        for k, query in enumerate(plot.queries, 1)
    ]
    replies = [
        ListEntry(min(reply.time, end), str(k), _describe(reply), False) for k, reply in enumerate(plot.replies, 1)
    ]
    if all(math.isinf(reply.time) for reply in plot.replies):  # a conversation: questions and answers alternate
        return [entry for pair in zip(queries, replies, strict=False) for entry in pair][:MAX_ENTRIES] or queries
    return sorted([*queries, *replies], key=lambda entry: (entry.time, not entry.is_query))[:MAX_ENTRIES]


def _describe(reply: AnnotatedReply) -> str:
    notes = [] if math.isinf(reply.time) else [f"event at {reply.timespan[0]:.2f} to {reply.timespan[1]:.2f} s"]
    notes += [] if reply.learn else ["not learned"]
    return to_printable(reply.text) + (f"  ({', '.join(notes)})" if notes else "")


def _end(plot: SamplePlot) -> float:
    return plot.times[-1] + mean_interval(plot.times)


def _timeline(plot: SamplePlot) -> ScoreTimeline:
    end = _end(plot)
    spans = [*plot.spans, *(reply.timespan for reply in plot.replies)]
    clipped = [Span(max(start, 0.0), min(stop, end)) for start, stop in spans if start < end and stop > 0]
    return ScoreTimeline(
        times=plot.times,
        curves={
            head: [math.nan if label is None else float(label) for label in plot.labels[head]] for head in HEAD_COLOURS
        },
        shaded_heads=tuple(HEAD_COLOURS),
        query_times=[min(max(query.time, 0.0), end) for query in plot.queries],
        reply_times=[min(reply.time, end) for reply in plot.replies],
        spans=clipped,
    )
