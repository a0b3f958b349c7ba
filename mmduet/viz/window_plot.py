"""Plot the effect of the window: metrics of one model over the number of frames that it keeps in view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmduet.files import atomic_write

METRIC_LABELS = {
    "speak_f1": "speaks when it should (F1)",
    "caption_exact": "captions exact",
    "qa_f1": "questions (F1)",
    "grounding_r1_50": "grounding R@1, IoU .5",
}
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#D55E00")  # Okabe and Ito's, in the order of METRIC_LABELS
GRID_COLOUR = "#E3E3E3"
SIZE, DPI = (7.0, 3.6), 150  # inches


def format_window(window: int | None) -> str:
    """Return the number of frames in view as text."""
    return "all" if window is None else str(window)


def save_window_plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw a line per metric into ``path``, whose suffix is the format; each row has a ``window`` and the metrics.

    Raises:
        OptionError: ``path`` cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, label), colour in zip(METRIC_LABELS.items(), COLOURS, strict=True):
        axes.plot(range(len(rows)), [row[name] for row in rows], color=colour, marker="o", label=label)
    axes.set_xticks(range(len(rows)), [format_window(row["window"]) for row in rows])
    axes.set(xlabel="frames in view", ylim=(0, 1.02))
    axes.grid(color=GRID_COLOUR)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    with atomic_write(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower(), dpi=DPI)
