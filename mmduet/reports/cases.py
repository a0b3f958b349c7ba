"""The items that went worst, each with all that the files tell of it; chooses and joins, draws nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mmduet.evaluation.report import Json, Report
from mmduet.reports.drawing import Picture
from mmduet.reports.film import Films, Strip
from mmduet.reports.joined import Files, key_of
from mmduet.reports.tables import PLAIN, Bar, bar, is_number, kind_of, numbers, shown
from mmduet.reports.timeline import clock, numbered, timeline
from mmduet.reports.told import Event, Told

MOST_LINES = 30
MOST_LETTERS = 600
NO_TIME, TO = "no time", "\N{EN DASH}"


@dataclass(frozen=True)
class Line:
    """Something said or to be said; ``mark`` is its number in the timeline."""

    mark: str
    when: str
    text: str


@dataclass(frozen=True)
class Listing:
    """Lines of one kind, a word of the style sheet; ``more`` are left out."""

    title: str
    kind: str
    lines: Sequence[Line]
    more: int


@dataclass(frozen=True)
class Case:
    """One item as the page shows it."""

    id: str
    value: str
    bar: Bar | None
    numbers: Sequence[tuple[str, str]]
    more_numbers: Sequence[tuple[str, str]]
    question: str
    problems: Sequence[str]
    listings: Sequence[Listing]
    timeline: Picture | None
    legend: Sequence[tuple[str, str]]
    strip: Strip
    told: bool


def worst_items(report: Report, name: str, most: int, known: Callable[[Json], bool]) -> list[Json]:
    """The items of the least ``name``; of equal ones first those that are ``known``, then as they come."""
    rated = [item for item in report.items if is_number(item.get(name))]
    return sorted(rated, key=lambda item: (float(item[name]), not known(item)))[:most]


def case(item: Json, name: str, report: Report, gold: Files, said: Files, films: Films | None) -> Case:
    """Joins all that is known of an item."""
    key, place = key_of(item, report.benchmark)
    right, given = gold.tell(key), said.tell(key)
    right = replace(right, texts=(*right.texts, *given.truths))
    if place is not None:
        right = replace(right, events=right.events[place : place + 1])
    videos = list(dict.fromkeys((*right.videos, *given.videos, key)))
    span = max(right.latest, given.latest)
    if films is not None and right.duration is None and given.duration is None:
        span = max(span, films.length(videos))
    told = [pair for pair in numbers(item) if pair[0] != name]
    plain = [pair for pair in told if kind_of(pair[0]) is PLAIN]
    return Case(
        id=str(item["id"]) if report.benchmark != "ovo" else key,
        value=shown(item[name]),
        bar=bar(name, float(item[name])),
        numbers=plain,
        more_numbers=[pair for pair in told if pair not in plain],
        question=shortened(right.question or given.question or _asked(given)),
        problems=[f"{p.what} (counted as {p.counted})" for p in report.problems if p.id == key],
        listings=_listings(right, given, span, said.has(key)),
        timeline=timeline(right, given, span),
        legend=_legend(right, given),
        strip=Strip() if films is None else films.strip(videos, span),
        told=gold.has(key) or said.has(key),
    )


def _asked(given: Told) -> str:
    """What a user said first."""
    return next((turn.text for turn in given.turns if turn.user), "")


def _listings(gold: Told, said: Told, span: float, predicted: bool) -> list[Listing]:
    """A prediction that is there and empty is listed as such."""
    right = _events(gold.events, span) + [Line("", "", text) for text in gold.texts]
    given = _events(said.events, span) + [Line("", "", text) for text in said.texts]
    turns = [
        Line(mark, clock(turn.time, span) if turn.time >= 0 else NO_TIME, turn.text)
        for mark, turn in numbered(said.turns)
    ]
    silent = predicted and not said.turns and not said.curves
    made = (("Gold", "gold", right), ("Prediction", "predicted", given), ("Turns", "turns", turns))
    return [
        Listing(
            title,
            kind,
            [replace(line, text=shortened(line.text)) for line in lines[:MOST_LINES]],
            len(lines[MOST_LINES:]),
        )
        for title, kind, lines in made
        if lines or (kind == "predicted" and silent)
    ]


def _events(events: Sequence[Event], span: float) -> list[Line]:
    return [
        Line(str(number), f"{clock(event.start, span)} {TO} {clock(event.end, span)}", event.text)
        for number, event in enumerate(events, 1)
    ]


def _legend(gold: Told, said: Told) -> list[tuple[str, str]]:
    """What is to be seen in the timeline: a word of the style sheet, and what it is."""
    entries = {
        **{curve.name: True for curve in said.curves},
        "gold": bool(gold.events),
        "rating": bool(gold.ratings),
        "predicted": bool(said.events),
        "reply": any(not turn.user and turn.time >= 0 for turn in said.turns),
        "query": any(turn.user and turn.time >= 0 for turn in said.turns or gold.turns),
    }
    return [(kind, LEGEND[kind]) for kind, there in entries.items() if there]


LEGEND = {
    "relevance": "relevance",
    "informative": "informative",
    "saliency": "predicted saliency",
    "gold": "gold",
    "rating": "ratings, dark is high",
    "predicted": "prediction",
    "reply": "reply",
    "query": "query",
}


def shortened(text: str) -> str:
    """So much of a text as the page has room for."""
    text = text.strip()
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS].rstrip()} …"
