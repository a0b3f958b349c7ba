"""Plot the calibration of a speak policy: precision over recall, and precision, recall and F1 over the policy's value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmduet.files import atomic_write
from mmduet.viz.style import GRID_COLOUR, MUTED_COLOUR, TEXT_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PRECISION_COLOUR, RECALL_COLOUR, F1_COLOUR, CHOICE_COLOUR = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
)  # Okabe and Ito's
SIZE, DPI = (10.0, 4.2), 150  # inches
HOLLOW: dict[str, Any] = {
    "markersize": 11,
    "fillstyle": "none",
    "zorder": 3,
}  # so that it is visible around another marker
F1_LEVELS = (0.2, 0.4, 0.6, 0.8, 0.9)  # of the contours


@dataclass(frozen=True)
class OperatingPoint:
    """What one policy does on the validation videos; ``value`` None: it is not on the curve."""

    label: str
    precision: float
    recall: float
    value: float | None = None


@dataclass(frozen=True)
class CalibrationCurve:
    """A policy over its value: each sequence has one entry per value, in ascending order; NaN is not drawn."""

    policy: str  # threshold or sum
    values: Sequence[float]
    precision: Sequence[float]
    recall: Sequence[float]
    f1: Sequence[float]


def save_calibration_plot(
    path: Path, title: str, curve: CalibrationCurve, chosen: OperatingPoint, previous: OperatingPoint
) -> None:
    """Draw a calibration into ``path``, whose suffix is the format.

    Raises:
        OptionError: ``path`` cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    _draw_precision_recall(left, curve, chosen, previous)
    _draw_values(right, curve, chosen, previous)
    for axes in (left, right):
        axes.grid(color=GRID_COLOUR)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    with atomic_write(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower(), dpi=DPI)


def _draw_precision_recall(
    axes: Axes, curve: CalibrationCurve, chosen: OperatingPoint, previous: OperatingPoint
) -> None:
    grid = np.linspace(0.01, 1.0, 100)
    recall, precision = np.meshgrid(grid, grid)
    f1 = 2 * recall * precision / (recall + precision)
    contours = axes.contour(
        recall, precision, f1, levels=F1_LEVELS, colors=MUTED_COLOUR, linewidths=0.6, linestyles=":"
    )
    axes.clabel(contours, fmt=lambda level: f"F1 {level:g}", fontsize=7)
    axes.plot(curve.recall, curve.precision, color=TEXT_COLOUR, marker=".", markersize=3, linewidth=0.8)
    axes.plot(
        previous.recall, previous.precision, "s", color=MUTED_COLOUR, label=previous.label, clip_on=False, **HOLLOW
    )
    axes.plot(chosen.recall, chosen.precision, "o", color=CHOICE_COLOUR, label=chosen.label, clip_on=False, zorder=3)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    axes.legend(frameon=False, loc="lower left", fontsize=8)


def _draw_values(axes: Axes, curve: CalibrationCurve, chosen: OperatingPoint, previous: OperatingPoint) -> None:
    for name, heights, colour, width in (
        ("precision", curve.precision, PRECISION_COLOUR, 1.2),
        ("recall", curve.recall, RECALL_COLOUR, 1.2),
        ("F1", curve.f1, F1_COLOUR, 2.0),
    ):
        axes.plot(curve.values, heights, color=colour, linewidth=width, label=name)
    if previous.value is not None:
        axes.axvline(
            previous.value, color=MUTED_COLOUR, linestyle="--", linewidth=1, label=f"before: {previous.value:g}"
        )
    if chosen.value is not None:
        axes.axvline(chosen.value, color=CHOICE_COLOUR, linewidth=1.5, label=f"chosen: {chosen.value:g}")
    if curve.policy == "sum":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # not powers of ten
    axes.set(xlabel=f"value of the policy {curve.policy}", ylim=(0, 1.02))
    axes.legend(frameon=False, loc="best", fontsize=8)
