"""The pictures of a whole report: what a sweep found, and how the items' numbers spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmduet.evaluation.report import Json, Report
from mmduet.reports.drawing import (
    FAINT,
    GRID,
    HEAT,
    INFORMATIVE,
    INK,
    PAPER,
    Picture,
    dress,
    nice_ticks,
    picture,
    sheet,
)
from mmduet.reports.tables import is_number, main_number, scale, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 20
MOST_POINTS = 500  # of a sorted curve
HEAT_SIZE, LINE_SIZE, SPREAD_SIZE = (250.0, 230.0), (330.0, 180.0), (505.0, 200.0)  # pixels


@dataclass(frozen=True)
class Panel:
    """A picture with its title and what is to be seen in it; ``low`` and ``high`` are the ends of a heat map's colours."""

    title: str
    picture: Picture
    remark: str
    low: str = ""
    high: str = ""


def settings(report: Report) -> list[str]:
    """Names of what was varied in the sweep."""
    row = report.sweep[0] if report.sweep else {}
    return [name for name in row if name not in report.metrics and f"best-{name}" not in report.metrics]


def sweep_panels(report: Report) -> list[Panel]:
    """A picture for each metric of a sweep over one or two settings; none of other sweeps."""
    axes = settings(report)
    rows = [row for row in report.sweep if all(is_number(row.get(name)) for name in axes)]
    if len(axes) not in (1, 2) or len(rows) < 2:
        return []
    drawn = [name for name in rows[0] if name not in axes and any(is_number(row.get(name)) for row in rows)]
    draw = _line if len(axes) == 1 else _heat
    return [draw(name, axes, [row for row in rows if is_number(row.get(name))]) for name in drawn]


def _best(name: str, axes: Sequence[str], rows: Sequence[Json]) -> tuple[Json | None, str]:
    """The first of the best rows, None where all are equal, and it in words."""
    best = max(rows, key=lambda row: float(row[name]))
    equal = sum(row[name] == best[name] for row in rows)
    if equal == len(rows):
        return None, f"{shown(best[name])} at every setting"
    at = ", ".join(f"{axis} {best[axis]:g}" for axis in axes)
    return best, f"best {shown(best[name])} at {at}" + (f" and {equal - 1} more" if equal > 1 else "")


def _line(name: str, axes: Sequence[str], rows: Sequence[Json]) -> Panel:
    (axis,) = axes
    rows = sorted(rows, key=lambda row: float(row[axis]))
    best, told = _best(name, axes, rows)
    with sheet(*LINE_SIZE) as figure:
        plot = figure.add_axes((0.13, 0.21, 0.83, 0.72))
        dress(plot, left=True)
        plot.plot([row[axis] for row in rows], [row[name] for row in rows], color=INFORMATIVE, lw=2, marker="o", ms=3.5)
        if best:
            plot.plot(best[axis], best[name], "o", mfc=PAPER, mec=INFORMATIVE, mew=2, ms=8)
        plot.grid(axis="y", color=GRID, lw=0.8)
        plot.margins(y=0.15)
        _ticks(plot, [row[axis] for row in rows], axis)
        low, high = plot.get_ylim()
        plot.set_yticks([tick for tick in nice_ticks(low, high, 5) if tick <= max(100.0, *(row[name] for row in rows))])
        return Panel(name, picture(figure, f"{name} over {axis}: {told}"), told)


def _heat(name: str, axes: Sequence[str], rows: Sequence[Json]) -> Panel:
    across, up = axes
    xs, ys = (sorted({float(row[axis]) for row in rows}) for axis in axes)
    values = {(float(row[across]), float(row[up])): float(row[name]) for row in rows}
    low, high = min(values.values()), max(values.values())
    best, told = _best(name, axes, rows)
    with sheet(*HEAT_SIZE) as figure:
        plot = figure.add_axes((0.19, 0.2, 0.77, 0.77))
        dress(plot, left=True)
        grid = [[values.get((x, y), math.nan) for x in xs] for y in ys]
        ends = (low, high) if best else (low - 1, high + 1)
        plot.imshow(grid, cmap=HEAT, origin="lower", aspect="auto", interpolation="none", vmin=ends[0], vmax=ends[1])
        if best:
            place = xs.index(float(best[across])), ys.index(float(best[up]))
            plot.plot(*place, "o", mfc="none", mec="#111111", mew=1.8, ms=9, clip_on=False)
        _labelled(plot, xs, ys)
        plot.set_xlabel(across, color=FAINT)
        plot.set_ylabel(up, color=FAINT)
        alt = f"Heat map of {name} over {across} and {up}: {told}"
        return Panel(name, picture(figure, alt), told, *(map(shown, (low, high)) if best else ()))


def _labelled(plot: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Ticks at the middle of every so many cells."""
    for places, values in ((plot.set_xticks, xs), (plot.set_yticks, ys)):
        step = max(math.ceil((len(values) - 1) / 4), 1)
        places(range(0, len(values), step), [f"{value:g}" for value in values[::step]])


def _ticks(plot: Axes, values: Sequence[float], label: str) -> None:
    plot.set_xticks(ticks := nice_ticks(min(values), max(values), 8), [f"{tick:g}" for tick in ticks])
    plot.set_xlabel(label, color=FAINT)


def spread_panels(report: Report) -> list[Panel]:
    """How the items' main number spreads: a histogram, and all of them from the least to the greatest."""
    if (name := main_number(report)) is None:
        return []
    values = sorted(float(item[name]) for item in report.items if is_number(item.get(name)))
    mean = sum(values) / len(values)
    low, high = scale(name, values)
    return [_histogram(name, values, mean, (low, high)), _sorted(name, values, mean, (low, high))]


def _histogram(name: str, values: Sequence[float], mean: float, ends: tuple[float, float]) -> Panel:
    import numpy as np

    low, high = ends
    counts, edges = np.histogram(values, bins=BINS, range=ends)
    told = f"{len(values):,} items, mean {shown(mean)}, median {shown(float(np.median(values)))}"
    with sheet(*SPREAD_SIZE) as figure:
        plot = _wide(figure)
        plot.bar(edges[:-1], counts, np.diff(edges) * 0.92, align="edge", color=INFORMATIVE, alpha=0.75, lw=0)
        plot.axvline(mean, color=INK, lw=1.4)
        right = mean < (low + high) / 2
        plot.annotate(
            f"mean {shown(mean)}", (mean, 1), (6 if right else -6, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="left" if right else "right", va="top", color=INK,
        )  # fmt: skip
        plot.set_ylim(0, max(counts) * 1.12)
        plot.set_yticks(nice_ticks(0, max(counts), 5))
        plot.set_xlim(low, high)
        _ticks(plot, ends, name)
        return Panel("Distribution", picture(figure, f"Histogram of {name}: {told}"), told)


def _sorted(name: str, values: Sequence[float], mean: float, ends: tuple[float, float]) -> Panel:
    low, high = ends
    some = [values[round(k * (len(values) - 1) / (MOST_POINTS - 1))] for k in range(MOST_POINTS)]
    shares = [100 * k / (MOST_POINTS - 1) for k in range(MOST_POINTS)]
    least, most = (100 * sum(value == end for value in values) / len(values) for end in (low, high))
    told = f"{least:.0f} % have {low:g}, {most:.0f} % have {high:g}"
    with sheet(*SPREAD_SIZE) as figure:
        plot = _wide(figure)
        plot.fill_between(shares, some, low, color=INFORMATIVE, alpha=0.18, lw=0)
        plot.plot(shares, some, color=INFORMATIVE, lw=2, clip_on=False)
        plot.axhline(mean, color=INK, lw=1.1, ls=(0, (4, 3)))
        plot.set_xlim(0, 100)
        plot.set_ylim(low, high)
        plot.set_yticks(nice_ticks(low, high, 4))
        _ticks(plot, (0.0, 100.0), "per cent of the items, worst first")
        return Panel("From worst to best", picture(figure, f"{name} of all items, sorted: {told}"), told)


def _wide(figure: Figure) -> Axes:
    plot = figure.add_axes((0.1, 0.2, 0.87, 0.75))
    dress(plot, left=True)
    plot.grid(axis="y", color=GRID, lw=0.8)
    return plot
