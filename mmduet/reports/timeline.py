"""Draws one item over time: scores, gold spans, what was predicted, who said what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmduet.reports.drawing import (
    FAINT,
    GOLD,
    GRID,
    INFORMATIVE,
    INK,
    PAPER,
    PREDICTED,
    RELEVANCE,
    Picture,
    nice_ticks,
    picture,
    sheet,
)
from mmduet.reports.told import Curve, Event, Told, Turn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Pixels.
WIDTH, SCORES, GAP, LANE, RATING, FLAGS, CLOCK = 1040.0, 120.0, 8.0, 20.0, 10.0, 30.0, 24.0
FLAG, MOST_MOVED, ROOM = (
    18.0,
    27.0,
    14.0,
)  # how far apart flags are, and from their time; how long a bar with a number is
MOST_LANES = 6
SHORTEST = 0.01  # seconds that can be drawn
FEW_POINTS, MOST_POINTS = 120, 2000  # of a curve: so few get dots, more are not drawn
COLOURS = {"relevance": RELEVANCE, "informative": INFORMATIVE, "saliency": RELEVANCE}
CEILINGS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STEPS = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 3600, 7200, 21600, 86400)  # seconds between ticks of long videos


def timeline(gold: Told, said: Told, span: float) -> Picture | None:
    """What both files tell, over ``span`` seconds from 0; None where they tell nothing that has a time."""
    turns = [turn for turn in (said.turns or gold.turns) if turn.time >= 0]
    anything = gold.events or gold.ratings or said.events or said.curves or any(not turn.user for turn in turns)
    if span < SHORTEST or not anything:
        return None
    lanes = [(lane, GOLD) for lane in lanes_of(gold.events, span)]
    lanes += [(lane, PREDICTED) for lane in lanes_of(said.events, span)]
    scores, rating, flags = SCORES * bool(said.curves), RATING * bool(gold.ratings), FLAGS * bool(turns)
    height = scores + GAP + rating + LANE * len(lanes) + flags + CLOCK
    with sheet(WIDTH, height) as figure:

        def axes(top: float, tall: float) -> Axes:
            made = figure.add_axes((0, 1 - (top + tall) / height, 1, tall / height))
            made.set_xlim(0, span)
            made.set_axis_off()
            return made

        if scores:
            _scores(axes(0, scores), gold, said.curves, turns)
        top = scores + GAP
        if rating:
            _ratings(axes(top, rating), gold)
        for at, (lane, colour) in enumerate(lanes):
            _bars(axes(top + rating + at * LANE, LANE), lane, colour, span)
        top += rating + LANE * len(lanes)
        if flags:
            _flags(axes(top, flags), turns, span)
        _clock(axes(top + flags, CLOCK), span)
        return picture(figure, _in_words(gold, said, turns, span))


def _in_words(gold: Told, said: Told, turns: Sequence[Turn], span: float) -> str:
    told = [f"{curve.name} scores" for curve in said.curves]
    told += [_count(len(gold.events), "gold span"), _count(len(said.events), "predicted span")]
    told += [_count(sum(not turn.user for turn in turns), "reply", "replies")]
    return f"Timeline of {span:.1f} s: {', '.join(part for part in told if part)}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}" if number else ""


def lanes_of(events: Sequence[Event], span: float) -> list[list[tuple[int, Event]]]:
    """Events with their numbers, those that overlap on lanes of their own; what needs more than ``MOST_LANES`` is left out."""
    lanes: list[list[tuple[int, Event]]] = []
    for number, event in sorted(enumerate(events, 1), key=lambda pair: pair[1].start):
        free = next((lane for lane in lanes if lane[-1][1].end <= event.start + span / WIDTH), None)
        if free is not None:
            free.append((number, event))
        elif len(lanes) < MOST_LANES:
            lanes.append([(number, event)])
    return lanes


def _scores(plot: Axes, gold: Told, curves: Sequence[Curve], turns: Sequence[Turn]) -> None:
    low, high = _range([value for curve in curves for value in curve.values])
    plot.set_ylim(low - 0.03 * (high - low), high + 0.12 * (high - low))
    for event in gold.events:
        plot.axvspan(event.start, event.end, color=GOLD, alpha=0.16, lw=0)
    for tick in (ticks := nice_ticks(low, high, 2)):
        plot.axhline(tick, color=GRID, lw=0.9, zorder=0)
    for turn in turns:
        plot.axvline(turn.time, color=INK, lw=0.8, alpha=0.5, ls=(0, (3, 2)) if turn.user else "-")
    for curve in curves:
        times, values = thinned(curve)
        colour = COLOURS[curve.name]
        if curve.step:
            times, values = [*times, times[-1] + curve.step], [*values, values[-1]]
        style, dots = ("steps-post", "") if curve.step else ("default", "o" if len(times) <= FEW_POINTS else "")
        plot.plot(times, values, color=colour, lw=1.8, drawstyle=style, marker=dots, ms=2.4)
    for tick in ticks:  # last, on top
        plot.annotate(f"{tick:g}", (0, tick), (3, 1), textcoords="offset points", color=FAINT, fontsize=10, va="bottom")


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Probabilities stand on a round scale from 0; anything else on its own."""
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        return 0.0, next(ceiling for ceiling in CEILINGS if high <= ceiling)
    return (low, high) if high - low > 1e-6 * max(abs(low), abs(high)) else (low - 1, high + 1)


def thinned(curve: Curve) -> tuple[list[float], list[float]]:
    """At most ``MOST_POINTS`` of a curve: of each stretch its highest."""
    size = math.ceil(len(curve.times) / MOST_POINTS)
    stretches = [range(at, min(at + size, len(curve.times))) for at in range(0, len(curve.times), size)]
    tops = [max(stretch, key=curve.values.__getitem__) for stretch in stretches]
    return [curve.times[k] for k in tops], [curve.values[k] for k in tops]


def _ratings(plot: Axes, gold: Told) -> None:
    plot.set_ylim(0, 1)
    for event, rating in gold.ratings:
        plot.axvspan(event.start, event.end, 0.1, 0.9, color=GOLD, alpha=0.1 + 0.9 * rating, lw=0)


def _bars(plot: Axes, lane: Sequence[tuple[int, Event]], colour: str, span: float) -> None:
    plot.set_ylim(0, 1)
    for number, event in lane:
        length = max(event.end - event.start, 3 * span / WIDTH)
        plot.barh(0.5, length, 0.85, event.start, color=colour, ec=PAPER, lw=1)
        if length * WIDTH / span >= ROOM:
            _label(plot, event.start + length / 2, str(number), PAPER)


def _flags(plot: Axes, turns: Sequence[Turn], span: float) -> None:
    """Replies are numbered discs, queries squares, moved on a little where two would touch; without room a line alone."""
    plot.set_ylim(0, 1)
    last, scale = -math.inf, span / WIDTH
    for number, turn in numbered(turns):
        wanted = min(max(turn.time, FLAG / 2 * scale), span - FLAG / 2 * scale)
        place = max(wanted, last + FLAG * scale)
        room = place - wanted <= MOST_MOVED * scale and place <= span - FLAG / 2 * scale
        plot.plot([turn.time, place if room else turn.time], [1, 0.78], color=INK, lw=0.8, alpha=0.5)
        if room:
            last = place
            _flag(plot, place, number, turn.user)


def _flag(plot: Axes, x: float, number: str, user: bool) -> None:
    face, text = (PAPER, INK) if user else (INK, PAPER)
    plot.plot(x, 0.42, "s" if user else "o", mfc=face, mec=INK, mew=1, ms=FLAG - 3)
    _label(plot, x, number, text, 0.42, 10.0 if len(number) < 2 else 8.5)


def _label(plot: Axes, x: float, text: str, colour: str, y: float = 0.45, size: float = 10.0) -> None:
    plot.text(x, y, text, color=colour, ha="center", va="center_baseline", fontsize=size, fontweight="bold")


def numbered(turns: Sequence[Turn]) -> list[tuple[str, Turn]]:
    """Turns as they are flagged and listed, by time, those without one last: replies 1, 2, ..., queries Q."""
    labels, said = [], 0
    for turn in sorted(turns, key=lambda turn: (turn.time < 0, turn.time)):
        said += not turn.user
        labels.append(("Q" if turn.user else str(said), turn))
    return labels


def _clock(plot: Axes, span: float) -> None:
    plot.set_ylim(0, 1)
    plot.axhline(0.98, color=FAINT, lw=0.8)
    ticks = nice_ticks(0, span, 10)
    if span > 120:
        step = next((step for step in STEPS if span / step <= 12), STEPS[-1])
        ticks = [float(k * step) for k in range(math.floor(span / step) + 1)]
    for tick in ticks:
        plot.plot([tick] * 2, [0.82, 0.98], color=FAINT, lw=0.8)
        side = "left" if tick < 0.02 * span else "right" if tick > 0.97 * span else "center"
        plot.text(tick, 0.7, clock(tick, span), color=FAINT, ha=side, va="top", fontsize=10)


def clock(seconds: float, span: float) -> str:
    """A time in seconds, with minutes and hours where there are many of them."""
    if span <= 120:
        return f"{round(seconds, 2):g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
