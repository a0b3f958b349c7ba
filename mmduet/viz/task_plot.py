"""Knows how what a task found is drawn: a film strip, bands over the scores, a list; nothing of how it was found."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmduet.cli._events import printable
from mmduet.files import whole_file
from mmduet.viz import run_plot as plot
from mmduet.viz.run_plot import COLOURS, FAINT, INK, LEFT, QUERY_COLOUR, RIGHT, WIDTH, Entry, FilmStrip, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND_COLOUR = "#009E73"
LANE, LEAST_BAND, SMALLEST_NUMBERED = 0.27, 0.05, 0.2  # inches


@dataclass(frozen=True)
class Mark:
    """Something that was found, from ``start`` to ``end`` seconds, in words."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Drawing:
    """Everything that is drawn of one video."""

    title: str
    remark: str
    times: Sequence[float]
    curves: dict[str, Sequence[float]]  # by head
    threshold: tuple[str, float] | None  # head, score
    asked: Sequence[tuple[float, str]]  # seconds, words
    marks: Sequence[Mark]
    strip: FilmStrip

    @property
    def span(self) -> float:
        """Seconds that are drawn: the last frame lasts as long as the others did."""
        times = self.times
        return times[-1] + ((times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0)


def draw(path: Path, drawing: Drawing) -> None:
    """Draw what has at least one frame into ``path``, whole or not at all."""
    from matplotlib.figure import Figure

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is drawn as a box
        figure = Figure(facecolor="white")
        height = compose(figure, drawing)
        with whole_file(path) as part:
            figure.savefig(part, format=path.suffix[1:].lower(), dpi=min(plot.DPI, plot.MOST_PIXELS / height))


def compose(figure: Figure, drawing: Drawing) -> float:
    """Put everything on one sheet from its top down; returns its height in inches."""
    entries = listed(drawing)
    columns = plot.laid_out(entries, plot.measure(figure))
    slots, film_height = plot.slots_of(drawing.strip.aspect, len(drawing.strip.pictures))
    lanes = lanes_of(drawing.marks)
    band_height = LANE * (max(lanes, default=0) + 1)
    tops = list(accumulate((plot.TITLE, film_height + plot.GAP, band_height + plot.GAP, plot.SCORES + plot.TIME_AXIS)))
    list_height = max((sum(placed.height for placed in column) for column in columns), default=0.0)
    sheet = Sheet(figure, tops[-1] + list_height + plot.BOTTOM)
    figure.set_size_inches(WIDTH, sheet.height)
    head(sheet, drawing)
    plot.film(sheet.axes(tops[0], film_height), drawing.strip, slots, plot.ACROSS / slots / film_height, drawing.span)
    bands(sheet.axes(tops[1], band_height), drawing, lanes)
    curves(sheet.axes(tops[2], plot.SCORES), drawing)
    plot.write_list(sheet, tops[3], columns, drawing.span)
    return sheet.height


def listed(drawing: Drawing) -> list[Entry]:
    """What was asked, then what was found, by their numbers."""
    asked = [Entry(time, "Q", printable(text).strip(), True) for time, text in drawing.asked]
    shown = drawing.marks[: plot.MOST_LISTED]
    found = [
        Entry(mark.start, str(k), printable(mark.text).strip(), False, mark.end if mark.end > mark.start else None)
        for k, mark in enumerate(shown, 1)
    ]
    more = len(drawing.marks) - len(shown)
    return [*asked, *found, *([Entry(drawing.marks[-1].start, "…", f"and {more} more", False)] if more else [])]


def lanes_of(marks: Sequence[Mark]) -> list[int]:
    """The lane of each mark: the first one in which it overlaps nothing."""
    ends: list[float] = []
    lanes: dict[int, int] = {}
    for k in sorted(range(len(marks)), key=lambda k: marks[k].start):
        lane = next((lane for lane, end in enumerate(ends) if end <= marks[k].start), len(ends))
        ends[lane : lane + 1] = [max(marks[k].end, math.nextafter(marks[k].start, math.inf))]
        lanes[k] = lane
    return [lanes[k] for k in range(len(marks))]


def head(sheet: Sheet, drawing: Drawing) -> None:
    """What was watched on the left, and which colour is which score on the right."""
    sheet.write(LEFT, 0.22, printable(drawing.title), fontsize=14, fontweight="bold")
    sheet.write(LEFT, 0.52, printable(drawing.remark), color=FAINT)
    for k, name in enumerate(reversed(drawing.curves)):
        label = f"\N{BLACK CIRCLE} {name}"
        x = WIDTH - RIGHT - k * plot.LEGEND_STEP
        sheet.write(x, 0.52, label, ha="right", color=COLOURS[name], fontweight="bold")


def bands(axes: Axes, drawing: Drawing, lanes: Sequence[int]) -> None:
    """A numbered band for everything that was found, over its time."""
    plot.bare(axes, drawing.span)
    axes.set_ylim(max(lanes, default=0) + 1, 0)
    inch = drawing.span / plot.ACROSS  # in seconds
    for k, (mark, lane) in enumerate(zip(drawing.marks, lanes, strict=True), 1):
        width = max(mark.end - mark.start, LEAST_BAND * inch)
        axes.broken_barh([(mark.start, width)], (lane + 0.08, 0.84), facecolor=BAND_COLOUR, edgecolor="white", lw=0.8)
        wide = width >= SMALLEST_NUMBERED * inch
        style: dict[str, Any] = {"color": "white" if wide else INK, "ha": "center" if wide else "left"}
        x = mark.start + (width / 2 if wide else width + 0.02 * inch)
        axes.text(x, lane + 0.5, str(k), va="center", fontsize=7.0, fontweight="bold", **style)


def curves(axes: Axes, drawing: Drawing) -> None:
    """The scores over time, what was found as a shade behind them, a line where something was asked."""
    axes.set_xlim(0, drawing.span)
    axes.set_ylim(0, 1)
    for mark in drawing.marks:
        axes.axvspan(mark.start, mark.end, color=BAND_COLOUR, alpha=0.13, lw=0, zorder=0)
    for time, _ in drawing.asked:
        x = min(time, drawing.span)
        axes.axvline(x, color=QUERY_COLOUR, lw=1.0, ls=(0, (4, 2)), zorder=1, clip_on=False)
    dots = "o" if len(drawing.times) <= 120 else ""
    for name, values in drawing.curves.items():
        axes.plot(drawing.times, values, color=COLOURS[name], lw=1.6, marker=dots, ms=2.6, zorder=3, clip_on=False)
    if drawing.threshold is not None and drawing.threshold[1] <= 1:
        name, value = drawing.threshold
        axes.axhline(value, color=COLOURS[name], lw=1.1, ls=(0, (6, 3)), zorder=2)
        axes.text(drawing.span, value, f"  {value:g}", color=COLOURS[name], fontsize=plot.FONT, va="center")
    plot.dress(axes, drawing.span)
