"""Knows how a run is drawn: a film strip, the scores over time, who said what when; nothing of how it came about."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmduet.cli._events import Story, printable
from mmduet.files import whole_file
from mmduet.options import SpeakOptions

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from mmduet.events import Frame

# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = {"informative": "#0072B2", "relevance": "#D55E00"}
QUERY_COLOUR, INK, FAINT, GRID = "#8A4B75", "#222222", "#6E6E6E", "#E3E3E3"
MOST_LISTED = 120  # replies that get a number and are written out

# Inches.
WIDTH, LEFT, RIGHT = 12.0, 0.75, 0.75
ACROSS = WIDTH - LEFT - RIGHT
TITLE, LEGEND_STEP, GAP, SCORES, TIME_AXIS, BOTTOM = 0.84, 1.05, 0.08, 2.3, 0.55, 0.25
FRAME_GAP, FLAG, LANE, LEADER = 0.015, 0.26, 0.29, 0.2
LINE, ENTRY_GAP, COLUMN_GAP, NUMBER, CLOCK, CLOCKS = 0.185, 0.06, 0.4, 0.36, 0.66, 1.4
FONT = 9.0  # points
# Seconds from one tick to the next.
STEPS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
DPI, MOST_PIXELS = 150, 60_000  # a side of more than 65535 pixels cannot be drawn


class FilmStrip:
    """Small pictures spread evenly over what was watched, however long it gets; at most ``MOST`` are kept."""

    MOST, SIDE = 64, 256

    def __init__(self) -> None:
        self.pictures: list[tuple[float, NDArray[np.uint8]]] = []
        self._stride = 1
        self._seen = 0

    def add(self, frame: Frame) -> None:
        """Keep a thumbnail of every so many frames; when there are too many, of half as many."""
        if self._seen % self._stride == 0:
            self.pictures.append((frame.time, thumbnail(frame.image, self.SIDE)))
        self._seen += 1
        if len(self.pictures) > self.MOST:
            self.pictures, self._stride = self.pictures[::2], self._stride * 2

    def nearest(self, time: float) -> NDArray[np.uint8]:
        """The picture kept that is nearest in time."""
        return min(self.pictures, key=lambda picture: abs(picture[0] - time))[1]

    @property
    def aspect(self) -> float:
        """Width over height."""
        height, width = self.pictures[0][1].shape[:2]
        return float(width / height)


def thumbnail(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A copy whose longer side is at most ``side`` pixels."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    return np.array(picture)


class Entry(NamedTuple):
    """One turn as it is listed below the axes and flagged above them."""

    time: float
    label: str
    text: str
    query: bool
    until: float | None = None  # where it lasts


class Placed(NamedTuple):
    """An entry broken into lines."""

    entry: Entry
    lines: list[str]

    @property
    def height(self) -> float:
        """In inches."""
        return LINE * len(self.lines) + ENTRY_GAP


@dataclass(frozen=True)
class Sheet:
    """A figure that is laid out in inches from its top left corner."""

    figure: Figure
    height: float

    def axes(self, top: float, height: float) -> Axes:
        """Axes across the sheet."""
        bottom = 1 - (top + height) / self.height
        return self.figure.add_axes((LEFT / WIDTH, bottom, ACROSS / WIDTH, height / self.height))

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """One line of plain text, its top left corner at ``(x, y)``; a dollar is a dollar."""
        place: dict[str, Any] = {"ha": "left", "va": "top", "fontsize": FONT, "color": INK} | style
        self.figure.text(x / WIDTH, 1 - y / self.height, text, parse_math=False, **place)


def draw(path: Path, title: tuple[str, str], story: Story, strip: FilmStrip, speak: SpeakOptions) -> None:
    """Draw ``story``, which has at least one frame, into ``path`` whole or not at all; ``title`` is name and remark."""
    from matplotlib.figure import Figure

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is drawn as a box
        figure = Figure(facecolor="white")
        height = compose(figure, title, story, strip, speak)
        with whole_file(path) as part:
            figure.savefig(part, format=path.suffix[1:].lower(), dpi=min(DPI, MOST_PIXELS / height))


def compose(figure: Figure, title: tuple[str, str], story: Story, strip: FilmStrip, speak: SpeakOptions) -> float:
    """Put everything on one sheet from its top down; returns its height in inches."""
    span = story.duration + spacing(story)
    entries = listed(story)
    columns = laid_out(entries, measure(figure))
    slots, film_height = slots_of(strip.aspect, len(strip.pictures))
    lanes = math.ceil(len(entries) * FLAG / ACROSS)
    tops = list(accumulate((TITLE, film_height + GAP, lanes * LANE + LEADER, SCORES + TIME_AXIS)))
    list_height = max((sum(placed.height for placed in column) for column in columns), default=0.0)
    sheet = Sheet(figure, tops[-1] + list_height + BOTTOM)
    figure.set_size_inches(WIDTH, sheet.height)
    head(sheet, title, story)
    film(sheet.axes(tops[0], film_height), strip, slots, ACROSS / slots / film_height, span)
    flags(sheet.axes(tops[1], lanes * LANE + LEADER), entries, lanes, span)
    curves(sheet.axes(tops[2], SCORES), story, span, speak)
    write_list(sheet, tops[3], columns, span)
    return sheet.height


def spacing(story: Story) -> float:
    """Seconds that the last frame lasts: as long as the frames before it did."""
    frames = story.scores
    return (frames[-1].time - frames[0].time) / (len(frames) - 1) if len(frames) > 1 else 1.0


def slots_of(aspect: float, pictures: int) -> tuple[int, float]:
    """How many pictures stand side by side, and their height: about ten, less of wide ones, none squeezed."""
    count = min(max(round(ACROSS / (0.62 * max(aspect, 0.1))), 6), 14, max(pictures, 4))
    return count, min(max(ACROSS / count / aspect, 0.5), 1.5)


def head(sheet: Sheet, title: tuple[str, str], story: Story) -> None:
    """What was watched on the left, and which colour is which score on the right."""
    name, remark = map(printable, title)
    frames, replies = len(story.scores), len(story.replies)
    facts = f"{remark}  ·  {frames} frame{'s' * (frames != 1)}  ·  {replies} repl{'y' if replies == 1 else 'ies'}"
    sheet.write(LEFT, 0.22, name, fontsize=14, fontweight="bold")
    sheet.write(LEFT, 0.52, facts, color=FAINT)
    for (score, colour), right in zip(COLOURS.items(), (LEGEND_STEP, 0.0), strict=True):
        label = f"\N{BLACK CIRCLE} {score}"
        sheet.write(WIDTH - RIGHT - right, 0.52, label, ha="right", color=colour, fontweight="bold")


def bare(axes: Axes, span: float) -> None:
    """Axes of which nothing shows, over the time of the run."""
    axes.set_axis_off()
    axes.set_xlim(0, span)


def film(axes: Axes, strip: FilmStrip, slots: int, aspect: float, span: float) -> None:
    """Each picture stands over the stretch of time in whose middle it was seen; ``aspect`` is that of a slot."""
    gap = FRAME_GAP * span / ACROSS  # inches as seconds
    for slot in range(slots):
        start, end = slot * span / slots, (slot + 1) * span / slots
        picture = cropped(strip.nearest((start + end) / 2), aspect)
        extent = (start + gap * (slot > 0), end - gap * (slot < slots - 1), 0.0, 1.0)
        axes.imshow(picture, extent=extent, aspect="auto", interpolation="antialiased")
    bare(axes, span)
    axes.set_ylim(0, 1)


def cropped(image: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """The middle of ``image`` in the given width over height."""
    height, width = image.shape[:2]
    keep_width, keep_height = min(width, max(round(height * aspect), 1)), min(height, max(round(width / aspect), 1))
    left, top = (width - keep_width) // 2, (height - keep_height) // 2
    return image[top : top + keep_height, left : left + keep_width]


def flags(axes: Axes, entries: list[Entry], lanes: int, span: float) -> None:
    """A number for every turn, moved aside where two would touch, with a line down to its time."""
    bare(axes, span)
    axes.set_ylim(0, max(lanes * LANE + LEADER, LEADER))
    scale = span / ACROSS  # seconds per inch
    for lane in range(lanes):
        row = entries[lane::lanes]
        places = spread([min(entry.time, span) / scale for entry in row], FLAG, ACROSS)
        for entry, place in zip(row, places, strict=True):
            flag(axes, entry._replace(time=min(entry.time, span)), place * scale, LEADER + LANE * (lane + 0.5))


def flag(axes: Axes, entry: Entry, x: float, y: float) -> None:
    """One flag, in seconds across and inches up, and its pole, which bends to the entry's time."""
    colour = QUERY_COLOUR if entry.query else INK
    shape = "square,pad=0.28" if entry.query else "circle,pad=0.22"
    box = {"boxstyle": shape, "facecolor": colour, "edgecolor": "white", "linewidth": 0.8}
    size = 7.0 if len(entry.label) < 3 else 5.6
    pole = [(x, y), (x, LEADER - 0.02), (entry.time, LEADER / 2), (entry.time, 0)]
    axes.plot(*zip(*pole, strict=True), color=colour, lw=0.7, clip_on=False, zorder=1)
    style: dict[str, Any] = {"fontsize": size, "color": "white", "fontweight": "bold", "bbox": box}
    axes.text(x, y, entry.label, ha="center", va="center", zorder=2, **style)


def spread(wanted: list[float], width: float, room: float) -> list[float]:
    """Places as near to those wanted as may be, in the same order, ``width`` apart and within ``[0, room]``."""
    groups: list[list[float]] = []  # of neighbours that touch: [sum of wanted places less their offsets, count]
    for place in wanted:
        groups.append([place, 1])
        while len(groups) > 1 and _end(groups[-2], width, room) > _start(groups[-1], width, room):
            total, count = groups.pop()
            groups[-1][0] += total - count * groups[-1][1] * width
            groups[-1][1] += count
    return [_start(group, width, room) + k * width for group in groups for k in range(int(group[1]))]


def _start(group: list[float], width: float, room: float) -> float:
    return max(min(group[0] / group[1], room - (group[1] - 1) * width), 0.0)


def _end(group: list[float], width: float, room: float) -> float:
    return _start(group, width, room) + group[1] * width


def curves(axes: Axes, story: Story, span: float, speak: SpeakOptions) -> None:
    """Both scores over time, the threshold of the one that decides, and a line where something was said or asked."""
    axes.set_xlim(0, span)
    axes.set_ylim(0, 1)
    times = [scores.time for scores in story.scores]
    dots = "o" if len(times) <= 120 else ""
    for reply in story.replies:
        axes.axvline(reply.time, color=INK, lw=0.7, alpha=0.45, zorder=1)
    for query in story.queries:
        axes.axvline(min(query.time, span), color=QUERY_COLOUR, lw=1.0, ls=(0, (4, 2)), zorder=1, clip_on=False)
    for name, colour in COLOURS.items():
        values = [float(getattr(scores, name)) for scores in story.scores]
        axes.plot(times, values, color=colour, lw=1.6, marker=dots, ms=2.6, label=name, zorder=3, clip_on=False)
        if name in speak.heads:
            axes.fill_between(times, values, color=colour, alpha=0.1, lw=0, zorder=2)
    if speak.policy == "threshold" and len(speak.heads) == 1 and speak.value <= 1:
        axes.axhline(speak.value, color=COLOURS[speak.heads[0]], lw=1.1, ls=(0, (6, 3)), zorder=2)
        axes.text(span, speak.value, f"  {speak.value:g}", color=COLOURS[speak.heads[0]], fontsize=FONT, va="center")
    dress(axes, span)


def dress(axes: Axes, span: float) -> None:
    """Ticks, grid and frame."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    step = next((step for step in STEPS if span / step <= 10), STEPS[-1])
    ticks = [k * step for k in range(math.floor(span / step) + 1)]
    axes.set_xticks(ticks, [clock(tick, span, 2 if step < 0.1 else 1 if step < 1 else 0) for tick in ticks])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(labelsize=FONT, colors=FAINT, length=3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_axisbelow(True)


def clock(seconds: float, span: float, digits: int = 2) -> str:
    """A time in seconds, or with minutes and hours where there are many of them."""
    if span <= 180:
        return f"{seconds:.{digits}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# the list of who said what


def listed(story: Story) -> list[Entry]:
    """Queries and replies as they came, numbered apart."""
    asked, said = story.queries, story.replies[:MOST_LISTED]
    entries = [
        Entry(query.time, f"Q{k}", printable(query.query.text).strip(), True) for k, query in enumerate(asked, 1)
    ]
    entries += [Entry(reply.time, str(k), reply.shown, False) for k, reply in enumerate(said, 1)]
    entries.sort(key=lambda entry: (entry.time, not entry.query))
    more = len(story.replies) - len(said)
    return [*entries, Entry(story.replies[-1].time, "…", f"and {more} more replies", False)] if more else entries


def clock_room(entries: list[Entry]) -> float:
    """Inches that the times of the list take."""
    return CLOCKS if any(entry.until is not None for entry in entries) else CLOCK


def clocks(entry: Entry, span: float) -> str:
    """When it was, or from when to when."""
    if entry.until is None:
        return clock(entry.time, span)
    return f"{clock(entry.time, span).removesuffix(' s')} \N{EN DASH} {clock(entry.until, span)}"


def measure(figure: Figure) -> Callable[[str], float]:
    """The width in inches of a line of text in the list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.font_manager import FontProperties

    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    font = FontProperties(size=FONT)
    return lambda text: float(renderer.get_text_width_height_descent(text, font, False)[0]) / figure.dpi


def laid_out(entries: list[Entry], width_of: Callable[[str], float]) -> list[list[Placed]]:
    """One column where a few lines are all there is, else two of about the same height."""
    count = 1 if len(entries) <= 4 else 2
    room = (ACROSS - COLUMN_GAP * (count - 1)) / count - NUMBER - clock_room(entries)
    placed = [Placed(entry, list(wrapped(entry.text, room, width_of)) or [""]) for entry in entries]
    if count == 1:
        return [placed]
    half, height = sum(each.height for each in placed) / 2, 0.0
    for at, each in enumerate(placed):
        height += each.height
        if height >= half:
            return [placed[: at + 1], placed[at + 1 :]]
    return [placed]


def wrapped(text: str, room: float, width_of: Callable[[str], float]) -> Iterator[str]:
    """Lines no wider than ``room``, broken between words, or within a word that alone is wider."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if width_of(longer) <= room:
            line = longer
            continue
        if line:
            yield line
        while width_of(word) > room:
            fits = max(next((k - 1 for k in range(2, len(word) + 1) if width_of(word[:k]) > room), len(word)), 1)
            if fits == len(word):
                break
            yield word[:fits]
            word = word[fits:]
        line = word
    if line:
        yield line


def write_list(sheet: Sheet, top: float, columns: list[list[Placed]], span: float) -> None:
    """Number, time and words of each turn, column by column."""
    step = (ACROSS + COLUMN_GAP) / max(len(columns), 1)
    words = NUMBER + clock_room([placed.entry for column in columns for placed in column])
    for number, column in enumerate(columns):
        x, y = LEFT + number * step, top
        for entry, lines in column:
            colour = QUERY_COLOUR if entry.query else INK
            sheet.write(x + NUMBER - 0.1, y, entry.label, ha="right", fontweight="bold", color=colour)
            sheet.write(x + words - 0.14, y, clocks(entry, span), ha="right", color=FAINT)
            for at, line in enumerate(lines):
                sheet.write(x + words, y + at * LINE, line, color=colour)
            y += LINE * len(lines) + ENTRY_GAP
