"""How the cost of a window is shown: a Markdown table and a drawing; nothing of how it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmduet.files import atomic_write

Row = dict[str, Any]
#: What is shown, with its name and, in the drawing, Okabe and Ito's colour for it.
SHOWN = {
    "speak_f1": ("speaks when it should (F1)", "#0072B2"),
    "caption_exact": ("captions exact", "#009E73"),
    "qa_f1": ("questions (F1)", "#CC79A7"),
    "grounding_r1_50": ("grounding R@1, IoU .5", "#D55E00"),
}


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    head = ["frames in view", *(name for name, _ in SHOWN.values()), "KiB per stream", "x real time"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        measured = [f"{row[key]:.3f}" for key in SHOWN]
        lines.append([label(row), *measured, f"{row['stream_bytes'] / 1024:.0f}", f"{row['x_realtime']:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def label(row: Row) -> str:
    """The window in words."""
    return "all" if row["window"] is None else str(row["window"])


def draw(path: Path, rows: Sequence[Row]) -> None:
    """A line per measure over the window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for key, (name, colour) in SHOWN.items():
        axes.plot(range(len(rows)), [row[key] for row in rows], color=colour, marker="o", label=name)
    axes.set_xticks(range(len(rows)), [label(row) for row in rows])
    axes.set(xlabel="frames in view", ylim=(0, 1.02))
    axes.grid(color="#E3E3E3")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    with atomic_write(path) as part:
        figure.savefig(part, format=path.suffix.removeprefix(".") or "png", dpi=150)
