"""Colours, line styles and time labels that all pictures share."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito's palette, which people with colour vision deficiency can tell apart.
HEAD_COLOURS = {"informative": "#0072b2", "relevance": "#d55e00"}
QUERY_COLOUR, TEXT_COLOUR, MUTED_COLOUR, GRID_COLOUR, SPAN_COLOUR = (
    "#8a4b75",
    "#222222",
    "#6e6e6e",
    "#e3e3e3",
    "#009e73",
)
MAX_MARKED_POINTS = 120  # a curve with more points is drawn without markers
FONT_POINTS = 9.0


def point_marker(count: int) -> str:
    """Return matplotlib's marker for a curve of ``count`` points: dots as long as they stay apart."""
    return "o" if count <= MAX_MARKED_POINTS else ""


def format_clock(seconds: float) -> str:
    """Return ``m:ss``, or ``h:mm:ss`` from one hour up."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def choose_tick_step(span: float, steps: Sequence[float], max_ticks: int) -> float:
    """Return the smallest of the ascending ``steps`` that divides ``span`` into at most ``max_ticks`` parts, or the last."""
    return next((step for step in steps if span / step <= max_ticks), steps[-1])
