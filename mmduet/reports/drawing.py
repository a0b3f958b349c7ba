"""Turns figures into SVG data URLs whose colours follow the reader's light or dark mode; knows nothing of reports."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PIXELS = 72  # an inch of a figure, so that a unit of its SVG is a pixel of CSS
FONT = 11.0  # pixels

# What is drawn in the first colour is shown in the second one in dark mode. Okabe and Ito's hues, which the colour-blind tell
# apart, on the paper and in the ink of the style sheet.
PAPER, INK, FAINT, GRID = "#ffffff", "#1f2328", "#5c6570", "#e3e6ea"
RELEVANCE, INFORMATIVE, GOLD, PREDICTED = "#d55e00", "#0072b2", "#00876a", "#a4508b"
DARK = {
    PAPER: "#1b1e24", INK: "#e6e8eb", FAINT: "#9aa4af", GRID: "#343a43",
    RELEVANCE: "#ff9152", INFORMATIVE: "#5bb8ee", GOLD: "#35c79c", PREDICTED: "#e29aca",
}  # fmt: skip
HEAT = "viridis"  # reads alike on both papers


@dataclass(frozen=True)
class Picture:
    """What an ``img`` needs."""

    src: str
    alt: str


@contextmanager
def sheet(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of so many pixels; what is drawn in the block has our fonts."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # A salt instead of chance: the same report makes the same page, byte for byte.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mmduet", "font.size": FONT, "axes.linewidth": 0.8}):
        yield Figure(figsize=(width / PIXELS, height / PIXELS), facecolor=PAPER)


def picture(figure: Figure, alt: str) -> Picture:
    """The figure as an image; to be called while its ``sheet`` is open."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = out.getvalue()
    return Picture(data_url(_themed(text[text.index("<svg") :]).encode(), "image/svg+xml"), alt)


def data_url(content: bytes, kind: str) -> str:
    """``content`` as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _themed(svg: str) -> str:
    """Colours become variables, fonts the reader's own.

    The paper is painted too: a browser that does not tell pictures of dark mode shows a light one, which can be read.
    """
    for light in DARK:
        svg = svg.replace(light, f"var(--c{light[1:]})")
    light_mode = "".join(f"--c{light[1:]}:{light};" for light in DARK)
    dark_mode = "".join(f"--c{light[1:]}:{dark};" for light, dark in DARK.items())
    style = f"<style>:root{{{light_mode}}}@media (prefers-color-scheme:dark){{:root{{{dark_mode}}}}}</style>"
    svg = re.sub(r"font: ([\w. ]*?[\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    return re.sub(r"(<svg[^>]*>)", lambda tag: tag[1] + style, svg, count=1)


def dress(axes: Axes, *, left: bool = False) -> None:
    """A line at the bottom, faint labels, no frame."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.set_facecolor("none")
    axes.tick_params(colors=FAINT, labelsize=FONT, length=3, width=0.8)
    axes.tick_params(axis="y", length=0, labelleft=left)
    axes.set_axisbelow(True)


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """At most ``most`` + 1 round numbers within [low, high], evenly spaced."""
    if not high > low:
        return [low]
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * m for m in (1, 2, 5, 10, 20) if (high - low) / (size * m) <= most)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
