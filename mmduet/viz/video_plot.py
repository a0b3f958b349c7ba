"""A picture of one video: film strip, a panel of flags or bars, scores over time, and the list of entries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from mmduet.files import atomic_write
from mmduet.viz.film_strip import FilmStrip, draw_film_strip, slot_count
from mmduet.viz.score_timeline import ScoreTimeline, draw_score_timeline
from mmduet.viz.sheet import (
    CONTENT_WIDTH,
    WIDTH,
    ListEntry,
    Sheet,
    arrange_columns,
    columns_height,
    draw_header,
    text_measure,
    write_columns,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
HEADER_HEIGHT, GAP, SCORES_HEIGHT, TIME_AXIS_HEIGHT, BOTTOM = 0.84, 0.08, 2.3, 0.55, 0.25
IMAGE_WIDTH, MIN_IMAGE_HEIGHT, MAX_IMAGE_HEIGHT, IMAGE_GAP = 0.62, 0.5, 1.5, 0.015  # the width of a square image
MIN_IMAGES, MAX_IMAGES = 6, 14

DPI = 150
MAX_PIXELS = 60_000  # of the longer side; matplotlib cannot draw more than 65535


@dataclass(frozen=True)
class Panel:
    """What is drawn between film strip and scores; ``height`` and the ``gap`` below it are in inches."""

    height: float
    gap: float
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class VideoPlot:
    """Everything that the picture of one video shows; the strip and the timeline have at least one frame."""

    title: str
    remark: str
    strip: FilmStrip
    timeline: ScoreTimeline
    entries: Sequence[ListEntry]
    panel: Panel


def save_video_plot(path: Path, plot: VideoPlot) -> None:
    """Draw ``plot`` into ``path``, whose suffix is the format. An existing file is replaced only when the new one is complete.

    Raises:
        OptionError: ``path`` cannot be written.
    """
    from matplotlib.figure import Figure

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the font draws a box for a character that it lacks
        figure = Figure(facecolor="white")
        height = compose(figure, plot)
        with atomic_write(path) as part:
            figure.savefig(part, format=path.suffix[1:].lower(), dpi=min(DPI, MAX_PIXELS / height))
        figure.clear()  # its parts refer to each other; without this, its pictures stay in memory until a garbage collection


def compose(figure: Figure, plot: VideoPlot) -> float:
    """Draw all parts from the top down; return the height of the figure in inches."""
    duration = plot.timeline.span
    columns = arrange_columns(plot.entries, text_measure(figure))
    slots, film_height = film_layout(plot.strip.aspect, len(plot.strip.thumbnails))
    heights = (HEADER_HEIGHT, film_height + GAP, plot.panel.height + plot.panel.gap, SCORES_HEIGHT + TIME_AXIS_HEIGHT)
    film_top, panel_top, scores_top, list_top = accumulate(heights)
    sheet = Sheet(figure, list_top + columns_height(columns) + BOTTOM)
    figure.set_size_inches(WIDTH, sheet.height)
    draw_header(sheet, plot.title, plot.remark, list(plot.timeline.curves))
    slot_aspect, gap = CONTENT_WIDTH / slots / film_height, IMAGE_GAP * duration / CONTENT_WIDTH
    draw_film_strip(sheet.add_axes(film_top, film_height), plot.strip, slots, slot_aspect, duration, gap)
    plot.panel.draw(sheet.add_axes(panel_top, plot.panel.height))
    draw_score_timeline(sheet.add_axes(scores_top, SCORES_HEIGHT), plot.timeline)
    write_columns(sheet, list_top, columns, duration)
    return sheet.height


def film_layout(aspect: float, thumbnails: int) -> tuple[int, float]:
    """Return the number of images side by side and their height in inches: fewer wide ones, no more than there are."""
    count = slot_count(CONTENT_WIDTH, IMAGE_WIDTH * max(aspect, 0.1), MIN_IMAGES, MAX_IMAGES)
    count = min(count, max(thumbnails, 4))
    return count, min(max(CONTENT_WIDTH / count / aspect, MIN_IMAGE_HEIGHT), MAX_IMAGE_HEIGHT)
