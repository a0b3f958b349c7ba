"""Convert figures to SVG data URLs whose colours follow the reader's light or dark mode."""

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

PIXELS_PER_INCH = 72  # so that one unit of the SVG is one CSS pixel
FONT_PIXELS = 11.0

# The background and text colours are those of the style sheet. The others are Okabe and Ito's hues, which readers with colour
# blindness can distinguish. DARK_COLOURS has the replacement of each colour in dark mode.
BACKGROUND, TEXT, MUTED, GRID = "#ffffff", "#1f2328", "#5c6570", "#e3e6ea"
RELEVANCE, INFORMATIVE, GOLD, PREDICTED = "#d55e00", "#0072b2", "#00876a", "#a4508b"
DARK_COLOURS = {
    BACKGROUND: "#1b1e24", TEXT: "#e6e8eb", MUTED: "#9aa4af", GRID: "#343a43",
    RELEVANCE: "#ff9152", INFORMATIVE: "#5bb8ee", GOLD: "#35c79c", PREDICTED: "#e29aca",
}  # fmt: skip
HEATMAP_COLOURS = "viridis"  # readable on a light and a dark background


@dataclass(frozen=True)
class EmbeddedImage:
    """The ``src`` (a data URL) and ``alt`` attributes of an ``img`` element."""

    src: str
    alt: str


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of ``width`` by ``height`` pixels; the font settings apply within the block."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # A fixed salt makes the output deterministic: the same report gives the same page, byte for byte.
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "mmduet", "font.size": FONT_PIXELS, "axes.linewidth": 0.8}
    ):
        yield Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), facecolor=BACKGROUND)


def to_svg_image(figure: Figure, alt: str) -> EmbeddedImage:
    """Return the figure as an SVG image. Call it within the block of ``new_figure``."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = out.getvalue()
    return EmbeddedImage(to_data_url(_apply_theme(text[text.index("<svg") :]).encode(), "image/svg+xml"), alt)


def to_data_url(content: bytes, media_type: str) -> str:
    """Return a data URL of ``content``; ``media_type`` is such as ``image/jpeg``."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _apply_theme(svg: str) -> str:
    """Replace colours by CSS variables and fonts by the reader's system font.

    The background is drawn, too, so that browsers without dark mode in images show a readable light image.
    """
    for light in DARK_COLOURS:
        svg = svg.replace(light, f"var(--c{light[1:]})")
    light_mode = "".join(f"--c{light[1:]}:{light};" for light in DARK_COLOURS)
    dark_mode = "".join(f"--c{light[1:]}:{dark};" for light, dark in DARK_COLOURS.items())
    style = f"<style>:root{{{light_mode}}}@media (prefers-color-scheme:dark){{:root{{{dark_mode}}}}}</style>"
    svg = re.sub(r"font: ([\w. ]*?[\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    return re.sub(r"(<svg[^>]*>)", lambda tag: tag[1] + style, svg, count=1)


def style_axes(axes: Axes, *, left: bool = False) -> None:
    """Give axes a line at the bottom, muted labels and no frame; ``left`` adds labels on the left."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.set_facecolor("none")
    axes.tick_params(colors=MUTED, labelsize=FONT_PIXELS, length=3, width=0.8)
    axes.tick_params(axis="y", length=0, labelleft=left)
    axes.set_axisbelow(True)


def round_ticks(low: float, high: float, max_steps: int) -> list[float]:
    """Return at most ``max_steps`` + 1 evenly spaced round numbers within [low, high]."""
    if not high > low:
        return [low]
    size = 10.0 ** math.floor(math.log10((high - low) / max_steps))
    step = next(size * m for m in (1, 2, 5, 10, 20) if (high - low) / (size * m) <= max_steps)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
