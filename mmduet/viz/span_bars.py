"""Spans as numbered bars: overlapping spans are drawn in separate lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmduet.spans import Span
from mmduet.viz.style import SPAN_COLOUR, TEXT_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANE_HEIGHT, MIN_BAR_WIDTH, MIN_LABELLED_WIDTH = 0.27, 0.05, 0.2  # inches
LABEL_GAP = 0.02  # inches, between a short bar and its number
LABEL_POINTS = 7.0


def assign_lanes(spans: Sequence[Span], tolerance: float = 0.0, max_lanes: int | None = None) -> list[int | None]:
    """Return the lane of each span: the first one in which it overlaps no earlier span by more than ``tolerance`` seconds.

    A span that would need more than ``max_lanes`` lanes gets None. A span without duration takes its own moment.
    """
    ends: list[float] = []  # of the last span in each lane
    lanes: list[int | None] = [None] * len(spans)
    for index in sorted(range(len(spans)), key=lambda index: spans[index].start):
        start, end = spans[index]
        lane = next((lane for lane, last in enumerate(ends) if last <= start + tolerance), len(ends))
        if max_lanes is not None and lane >= max_lanes:
            continue
        ends[lane : lane + 1] = [max(end, math.nextafter(start, math.inf))]
        lanes[index] = lane
    return lanes


def draw_span_bars(axes: Axes, spans: Sequence[Span], duration: float, width: float) -> None:
    """Draw a bar for each span, numbered from 1, on axes of ``width`` inches over ``duration`` seconds."""
    axes.set_axis_off()
    axes.set_xlim(0, duration)
    lanes = [lane or 0 for lane in assign_lanes(spans)]
    axes.set_ylim(max(lanes, default=0) + 1, 0)
    inch = duration / width  # in seconds
    for number, (span, lane) in enumerate(zip(spans, lanes, strict=True), 1):
        bar_width = max(span.end - span.start, MIN_BAR_WIDTH * inch)
        style: dict[str, Any] = {"facecolor": SPAN_COLOUR, "edgecolor": "white", "lw": 0.8}
        axes.broken_barh([(span.start, bar_width)], (lane + 0.08, 0.84), **style)
        _draw_number(axes, number, span.start, bar_width, lane, inch)


def _draw_number(axes: Axes, number: int, start: float, bar_width: float, lane: int, inch: float) -> None:
    """Write the number into its bar, or to the right of a bar that is too short."""
    inside = bar_width >= MIN_LABELLED_WIDTH * inch
    style: dict[str, Any] = {"color": "white" if inside else TEXT_COLOUR, "ha": "center" if inside else "left"}
    x = start + (bar_width / 2 if inside else bar_width + LABEL_GAP * inch)
    axes.text(x, lane + 0.5, str(number), va="center", fontsize=LABEL_POINTS, fontweight="bold", **style)
