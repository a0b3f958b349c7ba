"""Draw one item of an evaluation over time as an SVG image: scores, gold spans, predicted spans, ratings and turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmduet.spans import CaptionedSpan, Span
from mmduet.viz.embedded_image import (
    BACKGROUND,
    GOLD,
    GRID,
    INFORMATIVE,
    MUTED,
    PREDICTED,
    RELEVANCE,
    TEXT,
    EmbeddedImage,
    new_figure,
    round_ticks,
    to_svg_image,
)
from mmduet.viz.score_timeline import downsample
from mmduet.viz.span_bars import BarStyle, assign_lanes, draw_span_bars, lane_count
from mmduet.viz.style import choose_tick_step, format_clock, point_marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Sizes in pixels.
WIDTH, SCORES_HEIGHT, GAP, LANE_HEIGHT = 1040.0, 120.0, 8.0, 20.0
RATING_HEIGHT, TURNS_HEIGHT, TIME_AXIS_HEIGHT = 10.0, 30.0, 24.0
MARKER_WIDTH, MAX_MARKER_SHIFT = 18.0, 27.0  # of a turn; how far from its time it may be drawn
GOLD_STYLE, PREDICTED_STYLE = (
    BarStyle(colour, BACKGROUND, 0.85, 1.0, 3.0, 14.0, None, 10.0) for colour in (GOLD, PREDICTED)
)

MAX_LANES = 6
MIN_SECONDS = 0.01  # a shorter timeline is not drawn
MAX_POINTS = 2000  # of a curve
MAX_PLAIN_SECONDS = 120.0  # longer timelines are labelled with minutes
CURVE_COLOURS = {"relevance": RELEVANCE, "informative": INFORMATIVE, "saliency": RELEVANCE}
SCORE_MAXIMA = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
TICK_STEPS = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 3600, 7200, 21600, 86400)  # seconds
MAX_CLOCK_TICKS = 12


@dataclass(frozen=True)
class Turn:
    """A turn of a conversation at ``time`` seconds; a negative time means that it has none."""

    time: float
    is_user: bool
    text: str


@dataclass(frozen=True)
class ScoreCurve:
    """Values at times in seconds; ``name`` is a key of ``CURVE_COLOURS``.

    With ``hold_seconds`` each value holds for that long (a step function); None interpolates between the values.
    """

    name: str
    times: Sequence[float]
    values: Sequence[float]
    hold_seconds: float | None = None


@dataclass(frozen=True)
class TimelineContent:
    """What a timeline shows. ``ratings`` are spans with a value in [0, 1]; turns without a time are not drawn."""

    gold_spans: Sequence[CaptionedSpan] = ()
    predicted_spans: Sequence[CaptionedSpan] = ()
    ratings: Sequence[tuple[Span, float]] = ()
    curves: Sequence[ScoreCurve] = ()
    turns: Sequence[Turn] = ()

    @property
    def timed_turns(self) -> list[Turn]:
        """The turns that have a time."""
        return [turn for turn in self.turns if turn.time >= 0]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw; queries alone do not count."""
        has_reply = any(not turn.is_user for turn in self.timed_turns)
        return not (self.gold_spans or self.predicted_spans or self.ratings or self.curves or has_reply)


def draw_timeline(content: TimelineContent, duration: float) -> EmbeddedImage | None:
    """Draw ``content`` over ``duration`` seconds from 0; return None if there is nothing to draw."""
    if duration < MIN_SECONDS or content.is_empty:
        return None
    turns = content.timed_turns
    bars = [(spans, assign_lanes(spans, duration / WIDTH, MAX_LANES), style) for spans, style in _styled_spans(content)]
    scores, rating = SCORES_HEIGHT * bool(content.curves), RATING_HEIGHT * bool(content.ratings)
    markers = TURNS_HEIGHT * bool(turns)
    lanes_height = LANE_HEIGHT * sum(lane_count(lanes) for _, lanes, _ in bars)
    height = scores + GAP + rating + lanes_height + markers + TIME_AXIS_HEIGHT
    with new_figure(WIDTH, height) as figure:

        def add_axes(top: float, axes_height: float) -> Axes:
            axes = figure.add_axes((0, 1 - (top + axes_height) / height, 1, axes_height / height))
            axes.set_xlim(0, duration)
            axes.set_axis_off()
            return axes

        if scores:
            _draw_scores(add_axes(0, scores), content)
        top = scores + GAP
        if rating:
            _draw_ratings(add_axes(top, rating), content.ratings)
        top += rating
        for spans, lanes, style in bars:
            bars_height = LANE_HEIGHT * lane_count(lanes)
            draw_span_bars(add_axes(top, bars_height), spans, lanes, duration, WIDTH, style)
            top += bars_height
        if markers:
            _draw_turns(add_axes(top, markers), turns, duration)
        _draw_time_axis(add_axes(top + markers, TIME_AXIS_HEIGHT), duration)
        return to_svg_image(figure, _describe(content, duration))


def _styled_spans(content: TimelineContent) -> list[tuple[Sequence[CaptionedSpan], BarStyle]]:
    """Return the spans from top to bottom, with the style of their bars."""
    return [
        (spans, style)
        for spans, style in zip(
            (content.gold_spans, content.predicted_spans), (GOLD_STYLE, PREDICTED_STYLE), strict=True
        )
        if spans
    ]


def _describe(content: TimelineContent, duration: float) -> str:
    """Return the alternative text of a timeline."""
    parts = [f"{curve.name} scores" for curve in content.curves]
    parts += [_count(len(content.gold_spans), "gold span"), _count(len(content.predicted_spans), "predicted span")]
    parts += [_count(sum(not turn.is_user for turn in content.timed_turns), "reply", "replies")]
    return f"Timeline of {duration:.1f} s: {', '.join(part for part in parts if part)}"


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}" if number else ""


def _draw_scores(axes: Axes, content: TimelineContent) -> None:
    low, high = _value_range([value for curve in content.curves for value in curve.values])
    axes.set_ylim(low - 0.03 * (high - low), high + 0.12 * (high - low))
    for span in content.gold_spans:
        axes.axvspan(span.start, span.end, color=GOLD, alpha=0.16, lw=0)
    for tick in (ticks := round_ticks(low, high, 2)):
        axes.axhline(tick, color=GRID, lw=0.9, zorder=0)
    for turn in content.timed_turns:
        axes.axvline(turn.time, color=TEXT, lw=0.8, alpha=0.5, ls=(0, (3, 2)) if turn.is_user else "-")
    for curve in content.curves:
        _draw_curve(axes, curve)
    for tick in ticks:  # last, on top of the curves
        axes.annotate(f"{tick:g}", (0, tick), (3, 1), textcoords="offset points", color=MUTED, fontsize=10, va="bottom")


def _draw_curve(axes: Axes, curve: ScoreCurve) -> None:
    times, values = downsample(curve.times, curve.values, MAX_POINTS)
    colour = CURVE_COLOURS[curve.name]
    if curve.hold_seconds:
        times, values = [*times, times[-1] + curve.hold_seconds], [*values, values[-1]]
    style, marker = ("steps-post", "") if curve.hold_seconds else ("default", point_marker(len(times)))
    axes.plot(times, values, color=colour, lw=1.8, drawstyle=style, marker=marker, ms=2.4)


def _value_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of the vertical axis: from 0 to a round maximum for probabilities, else that of the values."""
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        return 0.0, next(maximum for maximum in SCORE_MAXIMA if high <= maximum)
    return (low, high) if high - low > 1e-6 * max(abs(low), abs(high)) else (low - 1, high + 1)


def _draw_ratings(axes: Axes, ratings: Sequence[tuple[Span, float]]) -> None:
    axes.set_ylim(0, 1)
    for span, rating in ratings:
        axes.axvspan(span.start, span.end, 0.1, 0.9, color=GOLD, alpha=0.1 + 0.9 * rating, lw=0)


def _draw_turns(axes: Axes, turns: Sequence[Turn], duration: float) -> None:
    """Draw replies as numbered discs and queries as squares.

    A marker that would overlap the previous one is shifted to the right, or left out where the shift would be too large.
    """
    axes.set_ylim(0, 1)
    last, scale = -math.inf, duration / WIDTH
    for label, turn in number_turns(turns):
        preferred = min(max(turn.time, MARKER_WIDTH / 2 * scale), duration - MARKER_WIDTH / 2 * scale)
        x = max(preferred, last + MARKER_WIDTH * scale)
        fits = x - preferred <= MAX_MARKER_SHIFT * scale and x <= duration - MARKER_WIDTH / 2 * scale
        axes.plot([turn.time, x if fits else turn.time], [1, 0.78], color=TEXT, lw=0.8, alpha=0.5)
        if fits:
            last = x
            _draw_turn_marker(axes, x, label, turn.is_user)


def _draw_turn_marker(axes: Axes, x: float, label: str, is_user: bool) -> None:
    face, text = (BACKGROUND, TEXT) if is_user else (TEXT, BACKGROUND)
    axes.plot(x, 0.42, "s" if is_user else "o", mfc=face, mec=TEXT, mew=1, ms=MARKER_WIDTH - 3)
    _draw_label(axes, x, label, text, 0.42, 10.0 if len(label) < 2 else 8.5)


def _draw_label(axes: Axes, x: float, text: str, colour: str, y: float = 0.45, size: float = 10.0) -> None:
    axes.text(x, y, text, color=colour, ha="center", va="center_baseline", fontsize=size, fontweight="bold")


def number_turns(turns: Sequence[Turn]) -> list[tuple[str, Turn]]:
    """Return the turns by time with their labels, 1, 2, ... for replies and Q for queries; turns without a time come last."""
    labelled, replies = [], 0
    for turn in sorted(turns, key=lambda turn: (turn.time < 0, turn.time)):
        replies += not turn.is_user
        labelled.append(("Q" if turn.is_user else str(replies), turn))
    return labelled


def _draw_time_axis(axes: Axes, duration: float) -> None:
    axes.set_ylim(0, 1)
    axes.axhline(0.98, color=MUTED, lw=0.8)
    ticks = round_ticks(0, duration, 10)
    if duration > MAX_PLAIN_SECONDS:
        step = choose_tick_step(duration, TICK_STEPS, MAX_CLOCK_TICKS)
        ticks = [float(k * step) for k in range(math.floor(duration / step) + 1)]
    for tick in ticks:
        axes.plot([tick] * 2, [0.82, 0.98], color=MUTED, lw=0.8)
        side = "left" if tick < 0.02 * duration else "right" if tick > 0.97 * duration else "center"
        axes.text(tick, 0.7, format_time(tick, duration), color=MUTED, ha=side, va="top", fontsize=10)


def format_time(seconds: float, duration: float) -> str:
    """Return a time in seconds, or as [hours:]minutes:seconds on a timeline longer than two minutes."""
    if duration <= MAX_PLAIN_SECONDS:
        return f"{round(seconds, 2):g} s"
    return format_clock(seconds)
