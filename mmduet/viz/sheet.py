"""A figure laid out in inches from its top left corner: axes, header, and a list of numbered entries in columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mmduet.text import to_printable
from mmduet.viz.style import FONT_POINTS, HEAD_COLOURS, MUTED_COLOUR, QUERY_COLOUR, TEXT_COLOUR, format_clock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
WIDTH, LEFT, RIGHT = 12.0, 0.75, 0.75
CONTENT_WIDTH = WIDTH - LEFT - RIGHT
LEGEND_STEP = 1.05
LINE_HEIGHT, ENTRY_GAP, COLUMN_GAP = 0.185, 0.06, 0.4
LABEL_WIDTH, TIME_WIDTH, INTERVAL_WIDTH = 0.36, 0.66, 1.4

MAX_ENTRIES = 120  # replies or spans that are numbered and listed; the rest is only counted
MAX_ONE_COLUMN_ENTRIES = 4
MAX_SECONDS_SPAN = 180  # seconds: up to this duration times are printed in seconds, above as a clock


class ListEntry(NamedTuple):
    """A query, a reply or a span in the list below the axes; ``end`` is None for a moment. Times in seconds."""

    time: float
    label: str
    text: str
    is_query: bool
    end: float | None = None


class PlacedEntry(NamedTuple):
    """An entry wrapped into lines."""

    entry: ListEntry
    lines: list[str]

    @property
    def height(self) -> float:
        """The height in inches, with the gap below."""
        return LINE_HEIGHT * len(self.lines) + ENTRY_GAP


@dataclass(frozen=True)
class Sheet:
    """A figure of ``WIDTH`` x ``height`` inches with coordinates in inches from its top left corner."""

    figure: Figure
    height: float

    def add_axes(self, top: float, height: float) -> Axes:
        """Return new axes over the width of the content."""
        bottom = 1 - (top + height) / self.height
        return self.figure.add_axes((LEFT / WIDTH, bottom, CONTENT_WIDTH / WIDTH, height / self.height))

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write one line of plain text (without math markup) with its top left corner at ``(x, y)``."""
        options: dict[str, Any] = {"ha": "left", "va": "top", "fontsize": FONT_POINTS, "color": TEXT_COLOUR} | style
        self.figure.text(x / WIDTH, 1 - y / self.height, text, parse_math=False, **options)


def draw_header(sheet: Sheet, title: str, remark: str, heads: Sequence[str]) -> None:
    """Write title and remark on the left and a legend of the score heads on the right."""
    sheet.write(LEFT, 0.22, to_printable(title), fontsize=14, fontweight="bold")
    sheet.write(LEFT, 0.52, to_printable(remark), color=MUTED_COLOUR)
    for position, head in enumerate(heads, 1 - len(heads)):
        x = WIDTH - RIGHT + position * LEGEND_STEP
        label = f"\N{BLACK CIRCLE} {head}"
        sheet.write(x, 0.52, label, ha="right", color=HEAD_COLOURS[head], fontweight="bold")


def format_time(seconds: float, span: float, digits: int = 2) -> str:
    """Return a time in seconds, or as a clock if the video of ``span`` seconds is long."""
    return f"{seconds:.{digits}f} s" if span <= MAX_SECONDS_SPAN else format_clock(seconds)


def format_entry_time(entry: ListEntry, span: float) -> str:
    """Return the entry's time, or start and end of its interval."""
    if entry.end is None:
        return format_time(entry.time, span)
    return f"{format_time(entry.time, span).removesuffix(' s')} \N{EN DASH} {format_time(entry.end, span)}"


def text_measure(figure: Figure) -> Callable[[str], float]:
    """Return a function that measures the width in inches of one line of text in the list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.font_manager import FontProperties

    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    font = FontProperties(size=FONT_POINTS)
    return lambda text: float(renderer.get_text_width_height_descent(text, font, False)[0]) / figure.dpi


def arrange_columns(entries: Sequence[ListEntry], width_of: Callable[[str], float]) -> list[list[PlacedEntry]]:
    """Wrap the entries and arrange them in one column, or in two of about the same height if there are many."""
    count = 1 if len(entries) <= MAX_ONE_COLUMN_ENTRIES else 2
    text_width = (CONTENT_WIDTH - COLUMN_GAP * (count - 1)) / count - LABEL_WIDTH - _time_width(entries)
    placed = [PlacedEntry(entry, list(wrap_text(entry.text, text_width, width_of)) or [""]) for entry in entries]
    if count == 1:
        return [placed]
    half, height = sum(each.height for each in placed) / 2, 0.0
    for index, each in enumerate(placed):
        height += each.height
        if height >= half:
            return [placed[: index + 1], placed[index + 1 :]]
    return [placed]


def columns_height(columns: Sequence[Sequence[PlacedEntry]]) -> float:
    """Return the height in inches of the highest column."""
    return max((sum(placed.height for placed in column) for column in columns), default=0.0)


def wrap_text(text: str, max_width: float, width_of: Callable[[str], float]) -> Iterator[str]:
    """Yield lines of at most ``max_width``, broken between words, or within a word that is wider than a line."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if width_of(longer) <= max_width:
            line = longer
            continue
        if line:
            yield line
        while width_of(word) > max_width:
            fits = max(next((k - 1 for k in range(2, len(word) + 1) if width_of(word[:k]) > max_width), len(word)), 1)
            if fits == len(word):
                break
            yield word[:fits]
            word = word[fits:]
        line = word
    if line:
        yield line


def write_columns(sheet: Sheet, top: float, columns: Sequence[Sequence[PlacedEntry]], span: float) -> None:
    """Write label, time and text of every entry, column by column."""
    step = (CONTENT_WIDTH + COLUMN_GAP) / max(len(columns), 1)
    text_offset = LABEL_WIDTH + _time_width([placed.entry for column in columns for placed in column])
    for number, column in enumerate(columns):
        x, y = LEFT + number * step, top
        for placed in column:
            _write_entry(sheet, x, y, text_offset, placed, span)
            y += placed.height


def _write_entry(sheet: Sheet, x: float, y: float, text_offset: float, placed: PlacedEntry, span: float) -> None:
    entry = placed.entry
    colour = QUERY_COLOUR if entry.is_query else TEXT_COLOUR
    sheet.write(x + LABEL_WIDTH - 0.1, y, entry.label, ha="right", fontweight="bold", color=colour)
    sheet.write(x + text_offset - 0.14, y, format_entry_time(entry, span), ha="right", color=MUTED_COLOUR)
    for index, line in enumerate(placed.lines):
        sheet.write(x + text_offset, y + index * LINE_HEIGHT, line, color=colour)


def _time_width(entries: Sequence[ListEntry]) -> float:
    """Return the width in inches of the times in the list."""
    return INTERVAL_WIDTH if any(entry.end is not None for entry in entries) else TIME_WIDTH
