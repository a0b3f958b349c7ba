"""Scores over time: curves of the heads with threshold, queries, replies and spans, and the data rules behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmduet.spans import Span
from mmduet.viz.sheet import format_time
from mmduet.viz.style import (
    FONT_POINTS,
    GRID_COLOUR,
    HEAD_COLOURS,
    MUTED_COLOUR,
    QUERY_COLOUR,
    SPAN_COLOUR,
    TEXT_COLOUR,
    choose_tick_step,
    point_marker,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICK_STEPS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
MAX_TICKS = 10


@dataclass(frozen=True)
class ScoreTimeline:
    """What is drawn of one video's scores. Times are in seconds, ``times`` and every curve have one value per frame.

    Attributes:
        times: Presentation times of the frames, ascending; at least one.
        curves: Scores in [0, 1] by head.
        threshold: The head and the score above which the model speaks, or None.
        shaded_heads: Heads whose curve is filled down to zero.
        query_times: A dashed line each, with ``query_label`` beside it.
        reply_times: A thin line each.
        spans: A shade behind the curves each.
    """

    times: Sequence[float]
    curves: Mapping[str, Sequence[float]]
    threshold: tuple[str, float] | None = None
    shaded_heads: Sequence[str] = ()
    query_times: Sequence[float] = ()
    query_label: str = ""
    reply_times: Sequence[float] = ()
    spans: Sequence[Span] = field(default=())

    @property
    def span(self) -> float:
        """The drawn duration in seconds: the last frame lasts for the mean interval between frames."""
        return self.times[-1] + mean_interval(self.times)


def mean_interval(times: Sequence[float]) -> float:
    """Return the mean number of seconds between frames; 1 for a single frame."""
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0


def downsample(times: Sequence[float], values: Sequence[float], max_points: int) -> tuple[list[float], list[float]]:
    """Return at most ``max_points`` points of a curve: the highest of each run of neighbours."""
    size = math.ceil(len(times) / max_points)
    runs = [range(first, min(first + size, len(times))) for first in range(0, len(times), size)]
    peaks = [max(run, key=values.__getitem__) for run in runs]
    return [times[k] for k in peaks], [values[k] for k in peaks]


def draw_score_timeline(axes: Axes, timeline: ScoreTimeline) -> None:
    """Draw the curves over the events of the timeline, with a time axis below."""
    span = timeline.span
    axes.set_xlim(0, span)
    axes.set_ylim(0, 1)
    for start, end in timeline.spans:
        axes.axvspan(start, end, color=SPAN_COLOUR, alpha=0.13, lw=0, zorder=0)
    for time in timeline.reply_times:
        axes.axvline(time, color=TEXT_COLOUR, lw=0.7, alpha=0.45, zorder=1)
    for time in timeline.query_times:
        axes.axvline(min(time, span), color=QUERY_COLOUR, lw=1.0, ls=(0, (4, 2)), zorder=1, clip_on=False)
        label: dict[str, Any] = {"color": QUERY_COLOUR, "fontsize": FONT_POINTS, "fontweight": "bold", "va": "bottom"}
        axes.text(min(time, span), 1.0, timeline.query_label, ha="center", zorder=4, **label)
    for head, values in timeline.curves.items():
        _draw_curve(axes, timeline.times, values, HEAD_COLOURS[head], shaded=head in timeline.shaded_heads)
    if timeline.threshold is not None and timeline.threshold[1] <= 1:
        head, value = timeline.threshold
        axes.axhline(value, color=HEAD_COLOURS[head], lw=1.1, ls=(0, (6, 3)), zorder=2)
        axes.text(span, value, f"  threshold\n  {value:g}", color=HEAD_COLOURS[head], fontsize=FONT_POINTS, va="center")
    _style_axes(axes, span)


def _draw_curve(axes: Axes, times: Sequence[float], values: Sequence[float], colour: str, *, shaded: bool) -> None:
    axes.plot(times, values, color=colour, lw=1.6, marker=point_marker(len(times)), ms=2.6, zorder=3, clip_on=False)
    if shaded:
        axes.fill_between(times, values, color=colour, alpha=0.1, lw=0, zorder=2)


def _style_axes(axes: Axes, span: float) -> None:
    """Set ticks, grid and frame."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED_COLOUR)
    step = choose_tick_step(span, TICK_STEPS, MAX_TICKS)
    ticks = [k * step for k in range(math.floor(span / step) + 1)]
    digits = 2 if step < 0.1 else 1 if step < 1 else 0
    axes.set_xticks(ticks, [format_time(tick, span, digits) for tick in ticks])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(labelsize=FONT_POINTS, colors=MUTED_COLOUR, length=3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=GRID_COLOUR, lw=0.8)
    axes.set_axisbelow(True)
