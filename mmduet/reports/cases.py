"""Choose the worst items of a report and collect what the files contain about each; no drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mmduet.annotations.json_values import Json
from mmduet.evaluation.report import Report
from mmduet.reports.item_rows import ItemContent
from mmduet.reports.row_index import RowIndex, join_key
from mmduet.reports.tables import (
    PLAIN_METRICS,
    MetricBar,
    build_bar,
    format_number,
    is_number,
    item_numbers,
    kind_of,
)
from mmduet.spans import CaptionedSpan
from mmduet.viz.embedded_image import EmbeddedImage
from mmduet.viz.film_strip import FilmStripImages, VideoFolder
from mmduet.viz.item_timeline import TimelineContent, draw_timeline, format_time, number_turns

MAX_LINES = 30
MAX_CHARS = 600
NO_TIME, RANGE_DASH = "no time", "\N{EN DASH}"
LEGEND = {
    "relevance": "relevance",
    "informative": "informative",
    "saliency": "predicted saliency",
    "gold": "gold",
    "rating": "ratings, darker is higher",
    "predicted": "prediction",
    "reply": "reply",
    "query": "query",
}


@dataclass(frozen=True)
class ListingLine:
    """A text with its time; ``label`` is its number in the timeline."""

    label: str
    time: str
    text: str


@dataclass(frozen=True)
class Listing:
    """Lines of one kind; ``css_class`` is that of the style sheet, ``omitted`` the number of further lines."""

    title: str
    css_class: str
    lines: Sequence[ListingLine]
    omitted: int


@dataclass(frozen=True)
class Case:
    """One item as the page shows it."""

    id: str
    value: str
    bar: MetricBar | None
    numbers: Sequence[tuple[str, str]]
    secondary_numbers: Sequence[tuple[str, str]]
    question: str
    problems: Sequence[str]
    listings: Sequence[Listing]
    timeline: EmbeddedImage | None
    legend: Sequence[tuple[str, str]]
    strip: FilmStripImages
    is_in_files: bool


def worst_items(report: Report, metric: str, count: int, is_predicted: Callable[[Json], bool]) -> list[Json]:
    """Return the ``count`` items with the lowest ``metric``; among equal ones, those with a prediction come first."""
    rated = [item for item in report.items if is_number(item.get(metric))]
    return sorted(rated, key=lambda item: (float(item[metric]), not is_predicted(item)))[:count]


def build_case(
    item: Json, metric: str, report: Report, gold: RowIndex, predictions: RowIndex, videos: VideoFolder | None
) -> Case:
    """Collect the contents of the files about an item of the report."""
    key, gold_index = join_key(item, report.benchmark)
    expected, predicted = gold.content_of(key), predictions.content_of(key)
    expected = replace(expected, texts=(*expected.texts, *predicted.gold_texts))
    if gold_index is not None:
        expected = replace(expected, spans=expected.spans[gold_index : gold_index + 1])
    names = list(dict.fromkeys((*expected.videos, *predicted.videos, key)))
    duration = max(expected.end_seconds, predicted.end_seconds)
    if videos is not None and expected.duration_seconds is None and predicted.duration_seconds is None:
        duration = max(duration, videos.duration(names))
    numbers = [pair for pair in item_numbers(item) if pair[0] != metric]
    plain = [pair for pair in numbers if kind_of(pair[0]) is PLAIN_METRICS]
    timeline = TimelineContent(
        expected.spans, predicted.spans, expected.ratings, predicted.curves, predicted.turns or expected.turns
    )
    return Case(
        id=str(item["id"]) if report.benchmark != "ovo" else key,
        value=format_number(item[metric]),
        bar=build_bar(metric, float(item[metric])),
        numbers=plain,
        secondary_numbers=[pair for pair in numbers if pair not in plain],
        question=truncate(expected.question or predicted.question or _first_query(predicted)),
        problems=[f"{p.message} (counted as {p.counted_as})" for p in report.problems if p.id == key],
        listings=_listings(expected, predicted, duration, predictions.has(key)),
        timeline=draw_timeline(timeline, duration),
        legend=_legend(timeline),
        strip=FilmStripImages() if videos is None else videos.strip(names, duration),
        is_in_files=gold.has(key) or predictions.has(key),
    )


def _first_query(content: ItemContent) -> str:
    return next((turn.text for turn in content.turns if turn.is_user), "")


def _listings(gold: ItemContent, predicted: ItemContent, duration: float, has_prediction: bool) -> list[Listing]:
    """Return the non-empty listings, and an empty one for a prediction without any contents."""
    turns = [
        ListingLine(label, format_time(turn.time, duration) if turn.time >= 0 else NO_TIME, turn.text)
        for label, turn in number_turns(predicted.turns)
    ]
    is_empty = has_prediction and not predicted.turns and not predicted.curves
    groups = (
        ("Gold", "gold", _content_lines(gold, duration), False),
        ("Prediction", "predicted", _content_lines(predicted, duration), is_empty),
        ("Turns", "turns", turns, False),
    )
    return [_listing(title, css_class, lines) for title, css_class, lines, required in groups if lines or required]


def _listing(title: str, css_class: str, lines: Sequence[ListingLine]) -> Listing:
    displayed = [replace(line, text=truncate(line.text)) for line in lines[:MAX_LINES]]
    return Listing(title, css_class, displayed, len(lines[MAX_LINES:]))


def _content_lines(content: ItemContent, duration: float) -> list[ListingLine]:
    return _span_lines(content.spans, duration) + [ListingLine("", "", text) for text in content.texts]


def _span_lines(spans: Sequence[CaptionedSpan], duration: float) -> list[ListingLine]:
    return [
        ListingLine(
            str(number),
            f"{format_time(span.start, duration)} {RANGE_DASH} {format_time(span.end, duration)}",
            span.caption,
        )
        for number, span in enumerate(spans, 1)
    ]


def _legend(content: TimelineContent) -> list[tuple[str, str]]:
    """Return (class in the style sheet, description) of what the timeline shows."""
    turns = content.timed_turns
    is_present = {
        **{curve.name: True for curve in content.curves},
        "gold": bool(content.gold_spans),
        "rating": bool(content.ratings),
        "predicted": bool(content.predicted_spans),
        "reply": any(not turn.is_user for turn in turns),
        "query": any(turn.is_user for turn in turns),
    }
    return [(name, LEGEND[name]) for name, present in is_present.items() if present]


def truncate(text: str) -> str:
    """Return a text without surrounding space, cut to ``MAX_CHARS``."""
    text = text.strip()
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS].rstrip()} …"
