"""Pictures of many events: numbers never overlap, every reply has a marker, and dashed lines have names."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmduet.spans import Span
from mmduet.viz.run_plot import TimedText, list_turns
from mmduet.viz.score_timeline import ScoreTimeline, draw_score_timeline
from mmduet.viz.sheet import CONTENT_WIDTH, MAX_ENTRIES
from mmduet.viz.span_bars import LANE_HEIGHT, assign_lanes, draw_span_bars, lane_count, numbers_fit
from mmduet.viz.turn_flags import draw_turn_flags, flags_height

SECONDS = 600.0


def new_axes(height: float) -> Axes:
    figure = Figure(figsize=(CONTENT_WIDTH, height))
    FigureCanvasAgg(figure)
    return figure.add_axes((0, 0, 1, 1))


def boxes(axes: Axes) -> list[Any]:
    """Return the boxes of all texts, from left to right."""
    renderer: Any = FigureCanvasAgg(axes.figure).get_renderer()  # type: ignore[arg-type, no-untyped-call]
    texts = [*axes.texts]
    return sorted((text.get_window_extent(renderer) for text in texts), key=lambda box: (box.y0, box.x0))


@pytest.mark.parametrize("count", [10, 60, 150, 400])
def test_numbers_of_spans_do_not_overlap(count: int) -> None:
    step = SECONDS / count
    spans = [Span(k * step, k * step + step * (0.3 + 0.6 * (k % 3) / 2)) for k in range(count)]
    lanes = assign_lanes(spans)
    row = not numbers_fit(spans, lanes, SECONDS, CONTENT_WIDTH)
    axes = new_axes(LANE_HEIGHT * (lane_count(lanes) + row))
    draw_span_bars(axes, spans, lanes, SECONDS, CONTENT_WIDTH, number_row=row)
    found = boxes(axes)
    assert not any(a.overlaps(b) for a, b in pairwise(found))
    assert len(found) >= min(count, 25)
    bars = [bar.get_window_extent() for bar in axes.patches]
    outside = [box for box in found if not any(bar.x0 <= box.x0 and box.x1 <= bar.x1 for bar in bars)]
    assert not any(box.y0 < bar.y1 and box.y1 > bar.y0 and box.x0 < bar.x1 and box.x1 > bar.x0
                   for box in outside for bar in bars)  # fmt: skip


def test_every_reply_has_a_marker() -> None:
    replies = [TimedText(k * 3.0, "a reply") for k in range(200)]
    entries = list_turns([TimedText(0.0, "Describe.")], replies)
    assert (entries[-1].text, entries[-1].time, entries[-1].end) == ("and 80 more replies", 360.0, 597.0)
    flags, unlisted = entries[:-1], [reply.time for reply in replies[MAX_ENTRIES:]]
    axes = new_axes(flags_height(flags, SECONDS))
    draw_turn_flags(axes, flags, SECONDS, unlisted)
    assert [text.get_text() for text in axes.texts].count("Q1") == 1
    assert len(axes.texts) == MAX_ENTRIES + 1
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [unlisted]  # type: ignore[arg-type]


def test_dashed_lines_have_names() -> None:
    axes = new_axes(2.0)
    scores = {"informative": [0.1, 0.9]}
    draw_score_timeline(axes, ScoreTimeline([0.0, 1.0], scores, ("informative", 0.4), (), [0.5], "Q"))
    assert [text.get_text().split() for text in axes.texts] == [["Q"], ["threshold", "0.4"]]
