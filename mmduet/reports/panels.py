"""Draw the panels of a report: metrics over the settings of a sweep, and the distribution of the items' main metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmduet.annotations.json_values import Json
from mmduet.evaluation.report import Report
from mmduet.reports.tables import format_number, is_number, main_item_metric, value_range
from mmduet.viz.embedded_image import (
    BACKGROUND,
    GRID,
    HEATMAP_COLOURS,
    INFORMATIVE,
    MUTED,
    TEXT,
    EmbeddedImage,
    new_figure,
    round_ticks,
    style_axes,
    to_svg_image,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 20
MAX_POINTS = 500  # of a sorted curve
HEATMAP_SIZE, LINE_SIZE, DISTRIBUTION_SIZE = (250.0, 230.0), (330.0, 180.0), (505.0, 200.0)  # pixels


@dataclass(frozen=True)
class Panel:
    """An image with its title and a remark; ``low`` and ``high`` label the ends of a heat map's colour scale."""

    title: str
    image: EmbeddedImage
    remark: str
    low: str = ""
    high: str = ""


def swept_settings(report: Report) -> list[str]:
    """Return the names of the settings that the sweep varies."""
    row = report.sweep[0] if report.sweep else {}
    return [name for name in row if name not in report.metrics and f"best-{name}" not in report.metrics]


def sweep_panels(report: Report) -> list[Panel]:
    """Return a panel per metric for a sweep over one or two settings, and no panels for other sweeps."""
    settings = swept_settings(report)
    rows = [row for row in report.sweep if all(is_number(row.get(name)) for name in settings)]
    if len(settings) not in (1, 2) or len(rows) < 2:
        return []
    metrics = [name for name in rows[0] if name not in settings and any(is_number(row.get(name)) for row in rows)]
    draw = _line_panel if len(settings) == 1 else _heatmap_panel
    return [draw(name, settings, [row for row in rows if is_number(row.get(name))]) for name in metrics]


def _best_row(metric: str, settings: Sequence[str], rows: Sequence[Json]) -> tuple[Json | None, str]:
    """Return the first of the best rows (None if all rows are equal) and its description."""
    best = max(rows, key=lambda row: float(row[metric]))
    equal = sum(row[metric] == best[metric] for row in rows)
    if equal == len(rows):
        return None, f"{format_number(best[metric])} at every setting"
    at = ", ".join(f"{name} {best[name]:g}" for name in settings)
    return best, f"best {format_number(best[metric])} at {at}" + (f" and {equal - 1} more" if equal > 1 else "")


def _line_panel(metric: str, settings: Sequence[str], rows: Sequence[Json]) -> Panel:
    (setting,) = settings
    rows = sorted(rows, key=lambda row: float(row[setting]))
    xs, ys = [row[setting] for row in rows], [row[metric] for row in rows]
    best, remark = _best_row(metric, settings, rows)
    with new_figure(*LINE_SIZE) as figure:
        axes = figure.add_axes((0.13, 0.21, 0.83, 0.72))
        style_axes(axes, left=True)
        axes.plot(xs, ys, color=INFORMATIVE, lw=2, marker="o", ms=3.5)
        if best:
            axes.plot(best[setting], best[metric], "o", mfc=BACKGROUND, mec=INFORMATIVE, mew=2, ms=8)
        axes.grid(axis="y", color=GRID, lw=0.8)
        axes.margins(y=0.15)
        _set_ticks(axes, xs, setting)
        low, high = axes.get_ylim()
        axes.set_yticks([tick for tick in round_ticks(low, high, 5) if tick <= max(100.0, *ys)])
        return Panel(metric, to_svg_image(figure, f"{metric} over {setting}: {remark}"), remark)


def _heatmap_panel(metric: str, settings: Sequence[str], rows: Sequence[Json]) -> Panel:
    x_name, y_name = settings
    xs, ys = (sorted({float(row[name]) for row in rows}) for name in settings)
    values = {(float(row[x_name]), float(row[y_name])): float(row[metric]) for row in rows}
    low, high = min(values.values()), max(values.values())
    best, remark = _best_row(metric, settings, rows)
    with new_figure(*HEATMAP_SIZE) as figure:
        axes = figure.add_axes((0.19, 0.2, 0.77, 0.77))
        style_axes(axes, left=True)
        cells = [[values.get((x, y), math.nan) for x in xs] for y in ys]
        vmin, vmax = (low, high) if best else (low - 1, high + 1)
        axes.imshow(
            cells, cmap=HEATMAP_COLOURS, origin="lower", aspect="auto", interpolation="none", vmin=vmin, vmax=vmax
        )
        if best:
            cell = xs.index(float(best[x_name])), ys.index(float(best[y_name]))
            axes.plot(*cell, "o", mfc="none", mec="#111111", mew=1.8, ms=9, clip_on=False)
        _set_heatmap_ticks(axes, xs, ys)
        axes.set_xlabel(x_name, color=MUTED)
        axes.set_ylabel(y_name, color=MUTED)
        image = to_svg_image(figure, f"Heat map of {metric} over {x_name} and {y_name}: {remark}")
        return Panel(metric, image, remark, *(map(format_number, (low, high)) if best else ()))


def _set_heatmap_ticks(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Set about five ticks per axis, each at the centre of its cell."""
    for set_ticks, values in ((axes.set_xticks, xs), (axes.set_yticks, ys)):
        step = max(math.ceil((len(values) - 1) / 4), 1)
        set_ticks(range(0, len(values), step), [f"{value:g}" for value in values[::step]])


def _set_ticks(axes: Axes, values: Sequence[float], label: str) -> None:
    axes.set_xticks(ticks := round_ticks(min(values), max(values), 8), [f"{tick:g}" for tick in ticks])
    axes.set_xlabel(label, color=MUTED)


def distribution_panels(report: Report) -> list[Panel]:
    """Return a histogram and a sorted curve of the items' main metric; no panels without such a metric."""
    if (metric := main_item_metric(report)) is None:
        return []
    values = sorted(float(item[metric]) for item in report.items if is_number(item.get(metric)))
    mean = sum(values) / len(values)
    limits = value_range(metric, values)
    return [_histogram_panel(metric, values, mean, limits), _sorted_panel(metric, values, mean, limits)]


def _histogram_panel(metric: str, values: Sequence[float], mean: float, limits: tuple[float, float]) -> Panel:
    import numpy as np

    low, high = limits
    counts, edges = np.histogram(values, bins=BINS, range=limits)
    median = format_number(float(np.median(values)))
    remark = f"{len(values):,} items, mean {format_number(mean)}, median {median}"
    with new_figure(*DISTRIBUTION_SIZE) as figure:
        axes = _add_wide_axes(figure)
        axes.bar(edges[:-1], counts, np.diff(edges) * 0.92, align="edge", color=INFORMATIVE, alpha=0.75, lw=0)
        axes.axvline(mean, color=TEXT, lw=1.4)
        on_right = mean < (low + high) / 2
        axes.annotate(
            f"mean {format_number(mean)}", (mean, 1), (6 if on_right else -6, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="left" if on_right else "right", va="top", color=TEXT,
        )  # fmt: skip
        axes.set_ylim(0, max(counts) * 1.12)
        axes.set_yticks(round_ticks(0, max(counts), 5))
        axes.set_xlim(low, high)
        _set_ticks(axes, limits, metric)
        return Panel("Distribution", to_svg_image(figure, f"Histogram of {metric}: {remark}"), remark)


def _sorted_panel(metric: str, values: Sequence[float], mean: float, limits: tuple[float, float]) -> Panel:
    low, high = limits
    points = [values[round(k * (len(values) - 1) / (MAX_POINTS - 1))] for k in range(MAX_POINTS)]
    percentages = [100 * k / (MAX_POINTS - 1) for k in range(MAX_POINTS)]
    at_low, at_high = (100 * sum(value == limit for value in values) / len(values) for limit in limits)
    remark = f"{at_low:.0f} % have {low:g}, {at_high:.0f} % have {high:g}"
    with new_figure(*DISTRIBUTION_SIZE) as figure:
        axes = _add_wide_axes(figure)
        axes.fill_between(percentages, points, low, color=INFORMATIVE, alpha=0.18, lw=0)
        axes.plot(percentages, points, color=INFORMATIVE, lw=2, clip_on=False)
        axes.axhline(mean, color=TEXT, lw=1.1, ls=(0, (4, 3)))
        axes.set_xlim(0, 100)
        axes.set_ylim(low, high)
        axes.set_yticks(round_ticks(low, high, 4))
        _set_ticks(axes, (0.0, 100.0), "percentage of items, worst first")
        return Panel("From worst to best", to_svg_image(figure, f"{metric} of all items, sorted: {remark}"), remark)


def _add_wide_axes(figure: Figure) -> Axes:
    axes = figure.add_axes((0.1, 0.2, 0.87, 0.75))
    style_axes(axes, left=True)
    axes.grid(axis="y", color=GRID, lw=0.8)
    return axes
