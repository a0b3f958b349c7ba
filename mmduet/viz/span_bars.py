"""Spans as numbered bars: overlapping spans are drawn in separate lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
DIGIT_WIDTH = 0.6  # of the font size
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
    *,
    number_row: bool = False,
) -> None:
    """Draw a bar for each span that has a lane, numbered from 1, on axes of ``width`` over ``duration`` seconds.

    With ``number_row`` the numbers of short bars are in a row below all lanes, as many of them as there is space for.
    """
    axes.set_axis_off()
    axes.set_xlim(0, duration)
    axes.set_ylim(max(lane_count(lanes), 1) + number_row, 0)
    scale = duration / width  # seconds per unit of length
    if number_row:
        _draw_number_row(axes, spans, lanes, scale, style)
        style = replace(style, label_gap=None)
    for number, (span, lane) in enumerate(zip(spans, lanes, strict=True), 1):
        if lane is not None:
            length = max(span.end - span.start, style.min_length * scale)
            look: dict[str, Any] = {"color": style.colour, "ec": style.edge_colour, "lw": style.edge_width}
            axes.barh(lane + 0.5, length, style.height, span.start, **look)
            _draw_number(axes, number, span.start, length, lane, scale, style)


def numbers_fit(
    spans: Sequence[Span | CaptionedSpan], lanes: Sequence[int | None], duration: float, width: float
) -> bool:
    """Return whether the number of every short bar has space to its right, before the next bar of its lane (in inches)."""
    scale, style = duration / width, INCH_STYLE
    ends: dict[int, float] = {}  # of what has been drawn in each lane
    for index in sorted(range(len(spans)), key=lambda index: spans[index].start):
        span, lane = spans[index], lanes[index]
        if lane is None:
            continue
        if span.start < ends.get(lane, 0.0):
            return False
        length = max(span.end - span.start, style.min_length * scale)
        outside = (style.label_gap or 0.0) + _number_width(index + 1, style)
        ends[lane] = span.start + length + (outside * scale if length < style.min_labelled_length * scale else 0.0)
    return True


def _number_width(number: int, style: BarStyle) -> float:
    """Return the width of a number in inches."""
    return len(str(number)) * DIGIT_WIDTH * style.label_points / 72


def _draw_number_row(
    axes: Axes, spans: Sequence[Span | CaptionedSpan], lanes: Sequence[int | None], scale: float, style: BarStyle
) -> None:
    """Write the numbers of short bars below the lanes, each below its bar; one that would touch the previous is left out."""
    end = -math.inf
    for index in sorted(range(len(spans)), key=lambda index: spans[index].start):
        span, lane = spans[index], lanes[index]
        length = max(span.end - span.start, style.min_length * scale)
        middle, half = span.start + length / 2, _number_width(index + 1, style) / 2 * scale
        if lane is None or length >= style.min_labelled_length * scale or middle - half < end:
            continue
        look: dict[str, Any] = {"color": TEXT_COLOUR, "fontsize": style.label_points, "fontweight": "bold"}
        axes.text(middle, lane_count(lanes) + 0.45, str(index + 1), ha="center", va="center", **look)
        end = middle + half + _number_width(1, style) * scale


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
