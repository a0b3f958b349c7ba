"""Plot how the engine scales: frames per second and step times over the number of streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmduet.files import atomic_write
from mmduet.viz.style import GRID_COLOUR, TEXT_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENGINE_COLOUR, TAIL_COLOUR = "#0072B2", "#D55E00"  # Okabe and Ito's
REFERENCE_STYLES = {"paper": ("#CC79A7", "--"), "tight": ("#009E73", ":")}
SIZE, DPI = (9.0, 3.6), 150  # inches


def save_scaling_plot(path: Path, report: Mapping[str, Any]) -> None:
    """Draw the ``runs`` of a report of ``mmduet bench engine`` into ``path``, whose suffix is the format.

    Raises:
        OptionError: ``path`` cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = [run for run in report["runs"] if "frames_per_second" in run]
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    rates, times = figure.subplots(1, 2)
    _draw_rates(rates, runs)
    _draw_step_times(times, runs)
    for axes in (rates, times):
        _format_axes(axes, [run["streams"] for run in runs])
    figure.suptitle(f"{report['model']}, {report['dtype']}, {report['device_name']}")
    with atomic_write(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower(), dpi=DPI)


def _draw_rates(axes: Axes, runs: Sequence[Mapping[str, Any]]) -> None:
    streams = [run["streams"] for run in runs]
    rates = [run["frames_per_second"] for run in runs]
    axes.plot(streams, rates, color=ENGINE_COLOUR, marker="o", label="engine")
    for name, (colour, line) in REFERENCE_STYLES.items():
        found = [run["references"][name]["frames_per_second"] for run in runs if name in run["references"]]
        if len(found) == len(runs):
            axes.plot(streams, found, color=colour, linestyle=line, marker=".", label=f"reference: {name}")
    axes.set(ylabel="frames per second, all streams", yscale="log")


def _draw_step_times(axes: Axes, runs: Sequence[Mapping[str, Any]]) -> None:
    streams, tails = [run["streams"] for run in runs], [run["step_ms"]["p99"] for run in runs]
    axes.plot(streams, tails, color=TAIL_COLOUR, marker="o", label="all steps, p99")
    with_frames = [run for run in runs if run["frame_step"]]
    if with_frames:
        counts = [run["streams"] for run in with_frames]
        medians, limits = ([run["frame_step"][name] for run in with_frames] for name in ("p50", "limit_ms"))
        axes.plot(counts, medians, color=ENGINE_COLOUR, marker="o", label="steps of frames, p50")
        axes.plot(counts, limits, color=TEXT_COLOUR, linestyle="--", label="limit of a step of frames")
    axes.set(ylabel="milliseconds", yscale="log")


def _format_axes(axes: Axes, streams: Sequence[int]) -> None:
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log", base=2)
    axes.set_xticks(streams, [str(count) for count in streams])
    axes.set_xlabel("streams")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")  # not powers of ten
    axes.yaxis.set_minor_formatter("")
    axes.grid(color=GRID_COLOUR)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
