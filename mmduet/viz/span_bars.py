"""Spans as numbered bars: overlapping spans are drawn in separate lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmduet.spans import CaptionedSpan, Span
from mmduet.viz.style import SPAN_COLOUR, TEXT_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class BarStyle:
    """How bars look. Lengths are in the unit in which the width of the axes is given.

    Attributes:
        colour: Fill colour.
        edge_colour: Colour of the edge and of the number within the bar.
        height: Share of the lane's height.
        min_length: Length of shorter spans.
        min_labelled_length: Shorter bars have their number outside.
        label_gap: Space between a short bar and its number; None leaves the number out.
        label_points: Font size of the numbers.
    """

    colour: str
    edge_colour: str
    height: float
    edge_width: float
    min_length: float
    min_labelled_length: float
    label_gap: float | None
    label_points: float


LANE_HEIGHT = 0.27  # inches
INCH_STYLE = BarStyle(SPAN_COLOUR, "white", 0.84, 0.8, 0.05, 0.2, 0.02, 7.0)
"""The style for axes whose width is in inches."""


def assign_lanes(
    spans: Sequence[Span | CaptionedSpan], tolerance: float = 0.0, max_lanes: int | None = None
) -> list[int | None]:
    """Return the lane of each span: the first one in which it overlaps no earlier span by more than ``tolerance`` seconds.

    A span that would need more than ``max_lanes`` lanes gets None. A span without duration occupies its start.
    """
    ends: list[float] = []  # of the last span in each lane
    lanes: list[int | None] = [None] * len(spans)
    for index in sorted(range(len(spans)), key=lambda index: spans[index].start):
        span = spans[index]
        lane = next((lane for lane, last in enumerate(ends) if last <= span.start + tolerance), len(ends))
        if max_lanes is not None and lane >= max_lanes:
            continue
        ends[lane : lane + 1] = [max(span.end, math.nextafter(span.start, math.inf))]
        lanes[index] = lane
    return lanes


def lane_count(lanes: Sequence[int | None]) -> int:
    """Return the number of lanes that ``assign_lanes`` used."""
    return 1 + max((lane for lane in lanes if lane is not None), default=-1)


def draw_span_bars(
    axes: Axes,
    spans: Sequence[Span | CaptionedSpan],
    lanes: Sequence[int | None],
    duration: float,
    width: float,
    style: BarStyle = INCH_STYLE,
) -> None:
    """Draw a bar for each span that has a lane, numbered from 1, on axes of ``width`` over ``duration`` seconds."""
    axes.set_axis_off()
    axes.set_xlim(0, duration)
    axes.set_ylim(max(lane_count(lanes), 1), 0)
    scale = duration / width  # seconds per unit of length
    for number, (span, lane) in enumerate(zip(spans, lanes, strict=True), 1):
        if lane is not None:
            length = max(span.end - span.start, style.min_length * scale)
            look: dict[str, Any] = {"color": style.colour, "ec": style.edge_colour, "lw": style.edge_width}
            axes.barh(lane + 0.5, length, style.height, span.start, **look)
            _draw_number(axes, number, span.start, length, lane, scale, style)


def _draw_number(
    axes: Axes, number: int, start: float, length: float, lane: int, scale: float, style: BarStyle
) -> None:
    """Write the number into its bar, or to the right of a bar that is too short."""
    inside = length >= style.min_labelled_length * scale
    if not inside and style.label_gap is None:
        return
    x = start + (length / 2 if inside else length + (style.label_gap or 0.0) * scale)
    look: dict[str, Any] = {"color": style.edge_colour if inside else TEXT_COLOUR, "ha": "center" if inside else "left"}
    look |= {"va": "center_baseline", "fontsize": style.label_points, "fontweight": "bold"}
    shift = 0.0, -style.label_points / 10  # digits have no descenders
    axes.annotate(str(number), (x, lane + 0.5), shift, textcoords="offset points", **look)
