"""Numbered flags for queries and replies, moved apart where they would overlap, with a line to their time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmduet.viz.sheet import CONTENT_WIDTH, ListEntry
from mmduet.viz.style import QUERY_COLOUR, TEXT_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLAG_WIDTH, LANE_HEIGHT, LEADER_HEIGHT = 0.26, 0.29, 0.2  # inches
MIN_SHARE = 0.4  # of the width: flags that are closer together are spread over it


def lane_count(entries: Sequence[ListEntry], span: float) -> int:
    """Return how many lanes the flags need side by side, each in the part of the time in which there are flags."""
    last = max((entry.time for entry in entries), default=span)
    width = min(max(last / span, MIN_SHARE), 1.0) * CONTENT_WIDTH
    return math.ceil(len(entries) * FLAG_WIDTH / width)


def flags_height(entries: Sequence[ListEntry], span: float) -> float:
    """Return the height in inches of the axes for the flags."""
    return lane_count(entries, span) * LANE_HEIGHT + LEADER_HEIGHT


def draw_turn_flags(axes: Axes, entries: Sequence[ListEntry], span: float, unlisted: Sequence[float] = ()) -> None:
    """Draw a flag with the label of each entry, a box for a query and a disc for a reply, and a dot at ``unlisted`` times."""
    axes.set_axis_off()
    axes.set_xlim(0, span)
    axes.set_ylim(0, flags_height(entries, span))
    dots = [min(time, span) for time in unlisted]
    axes.plot(
        dots, [LEADER_HEIGHT / 2] * len(dots), "o", color=TEXT_COLOUR, ms=3.0, mec="white", mew=0.4, clip_on=False
    )
    scale = span / CONTENT_WIDTH  # seconds per inch
    lanes = lane_count(entries, span)
    for lane in range(lanes):
        row = entries[lane::lanes]
        positions = spread_apart([min(entry.time, span) / scale for entry in row], FLAG_WIDTH, CONTENT_WIDTH)
        for entry, position in zip(row, positions, strict=True):
            y = LEADER_HEIGHT + LANE_HEIGHT * (lane + 0.5)
            _draw_flag(axes, entry, min(entry.time, span), position * scale, y)


def _draw_flag(axes: Axes, entry: ListEntry, time: float, x: float, y: float) -> None:
    """Draw one flag at ``x`` seconds and ``y`` inches, and a line from it to its ``time``."""
    colour = QUERY_COLOUR if entry.is_query else TEXT_COLOUR
    shape = "square,pad=0.28" if entry.is_query else "circle,pad=0.22"
    box = {"boxstyle": shape, "facecolor": colour, "edgecolor": "white", "linewidth": 0.8}
    size = 7.0 if len(entry.label) < 3 else 5.6
    leader = [(x, y), (x, LEADER_HEIGHT - 0.02), (time, LEADER_HEIGHT / 2), (time, 0)]
    axes.plot(*zip(*leader, strict=True), color=colour, lw=0.7, clip_on=False, zorder=1)
    style: dict[str, Any] = {"fontsize": size, "color": "white", "fontweight": "bold", "bbox": box}
    axes.text(x, y, entry.label, ha="center", va="center", zorder=2, **style)


def spread_apart(targets: Sequence[float], width: float, total: float) -> list[float]:
    """Return positions close to the ascending ``targets``, in the same order, ``width`` apart and within ``[0, total]``."""
    groups: list[list[float]] = []  # neighbours that touch: [sum of targets minus their offsets, count]
    for target in targets:
        groups.append([target, 1])
        while len(groups) > 1 and _group_end(groups[-2], width, total) > _group_start(groups[-1], width, total):
            offset_sum, count = groups.pop()
            groups[-1][0] += offset_sum - count * groups[-1][1] * width
            groups[-1][1] += count
    return [_group_start(group, width, total) + k * width for group in groups for k in range(int(group[1]))]


def _group_start(group: list[float], width: float, total: float) -> float:
    return max(min(group[0] / group[1], total - (group[1] - 1) * width), 0.0)


def _group_end(group: list[float], width: float, total: float) -> float:
    return _group_start(group, width, total) + group[1] * width
