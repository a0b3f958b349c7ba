"""Reads who said what and when: assistant turns of a prediction file, gold answers with their spans; knows no metric.

Test sets are those of MMDuet (``answer: [{content, time: [start, end]}]``, which ``mmduet scenes`` writes too) and of
ProactiveVideoQA (``answer: [{content, related_timespan, reply_timespan}]``), or have their answers as assistant turns with a
``timespan`` in the conversation. Predictions are those that ``mmduet predict`` and MMDuet write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmduet.annotations.prediction_rows import id_key, number
from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Problem
from mmduet.files import read_json, read_json_lines
from mmduet.metrics.spans import Span

Json = dict[str, Any]
Id = str  # files do not agree on 60 or "60"
REPLY_GRACE = 1.0  # seconds for which a reply to an event is still in time, as in ProactiveVideoQA's data


@dataclass(frozen=True)
class Turn:
    """An assistant turn at ``time`` in seconds, -1 where its model gave none."""

    time: float
    text: str


@dataclass(frozen=True)
class Spoken:
    """A line of predictions: the assistant's turns in file order. ``first_time`` is that of the first turn of any role."""

    id: Id
    turns: tuple[Turn, ...]
    first_time: float | None = None

    @property
    def times(self) -> list[float]:
        """[T], seconds."""
        return [turn.time for turn in self.turns]

    @property
    def texts(self) -> list[str]:
        """[T]."""
        return [turn.text for turn in self.turns]


@dataclass(frozen=True)
class GoldAnswer:
    """What is to be said of the event at ``span``; a reply within ``window`` is in time."""

    text: str
    span: Span
    window: Span


@dataclass(frozen=True)
class Asked:
    """A question with its gold answers."""

    id: Id
    question: str
    answers: tuple[GoldAnswer, ...]


def read_rows(path: Path) -> list[Json]:
    """The lines of a prediction file. Raises ``AnnotationError`` for a file without any."""
    rows = read_json_lines(path)
    if not rows:
        raise AnnotationError(f"{path} holds no predictions; see whether the run that wrote it came to an end")
    return rows


def spoken_in(rows: Sequence[Json], path: Path) -> tuple[list[Spoken], list[Problem]]:
    """What the rows of ``path`` say, and the turns in them whose time is no number.

    Raises ``AnnotationError`` naming the row that cannot be read, and a question that is there twice.
    """
    lines = [_spoken(row, f"{path}, prediction {number}") for number, row in enumerate(rows, start=1)]
    seen: set[Id] = set()
    for line in lines:
        if line.id in seen:
            raise AnnotationError(f"{path}: question_id {line.id!r} is there twice; keep one of its predictions")
        seen.add(line.id)
    problems = [
        Problem(str(line.id), f"assistant turn {number} is at {turn.time}", "a turn outside every span")
        for line in lines
        for number, turn in enumerate(line.turns)
        if not math.isfinite(turn.time)
    ]
    return lines, problems


def read_asked(path: Path) -> dict[Id, Asked]:
    """A test set by ``question_id``. Raises ``AnnotationError`` naming the entry that cannot be read, or is there twice."""
    entries: list[Any] = read_json(path, list)
    asked: dict[Id, Asked] = {}
    for place, entry in enumerate(entries):
        read = _asked(entry, f"{path}, entry {place}")
        if read.id in asked:
            raise AnnotationError(f"{path}: question_id {read.id!r} is there twice; give each its own")
        asked[read.id] = read
    if not asked:
        raise AnnotationError(f"{path} holds no questions; is it of another format?")
    return asked


def strangers(lines: Sequence[Spoken], asked: Mapping[Id, Asked], path: Path) -> list[Problem]:
    """Predictions for questions that are not ``asked``. Raises ``AnnotationError`` where all are."""
    unknown = [line for line in lines if line.id not in asked]
    if len(unknown) == len(lines):
        raise AnnotationError(
            f"{path} has no question_id in common with the annotations (it has {lines[0].id!r}, they have "
            f"{next(iter(asked))!r}); give the annotations that the predictions were made for"
        )
    return [Problem(str(line.id), "is not among the annotations", "nothing") for line in unknown]


def span_of(value: Any, where: str) -> Span:
    """A span [start, end] in seconds. Raises ``AnnotationError`` for anything else, and for one that ends before it begins."""
    if not (isinstance(value, list) and len(value) == 2 and all(is_time(v) and math.isfinite(v) for v in value)):
        raise AnnotationError(f"{where}: a span is {value!r}; write [start, end] in seconds")
    start, end = float(value[0]), float(value[1])
    if end < start:
        raise AnnotationError(f"{where}: a span is {value!r}, which ends before it begins; swap its ends")
    return start, end


def is_time(value: Any) -> bool:
    """Whether JSON holds a number here that a float can be; NaN is one."""
    return number(value) is not None or (isinstance(value, float) and not math.isfinite(value))


def id_of(row: Any, where: str) -> Id:
    """The ``question_id`` as text. Raises ``AnnotationError`` where there is none."""
    value = row.get("question_id") if isinstance(row, dict) else None
    if (key := id_key(value)) is None:
        raise AnnotationError(f"{where}: question_id is {value!r}; every entry needs one, a text or a whole number")
    return key


def _spoken(row: Json, where: str) -> Spoken:
    where = f"{where} (question_id {id_of(row, where)!r})"
    turns = row.get("model_response_list")
    if not isinstance(turns, list):
        raise AnnotationError(f"{where}: model_response_list is {turns!r:.80}; write a list of turns, [] for none")
    for turn in turns:
        if not (isinstance(turn, dict) and isinstance(turn.get("content"), str) and is_time(turn.get("time"))):
            raise AnnotationError(f"{where}: a turn is {turn!r:.200}; it needs role, content and time in seconds")
        if turn.get("role") not in ("user", "assistant", "system"):
            raise AnnotationError(f"{where}: a turn's role is {turn.get('role')!r}; write user or assistant")
    said = tuple(Turn(float(t["time"]), t["content"]) for t in turns if t["role"] == "assistant")
    return Spoken(id_of(row, where), said, float(turns[0]["time"]) if turns else None)


def _asked(entry: Any, where: str) -> Asked:
    where = f"{where} (question_id {id_of(entry, where)!r})"
    turns = entry.get("conversation")
    if not (isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns)):
        raise AnnotationError(f"{where}: conversation is {turns!r:.80}; write a list of turns")
    questions = [turn.get("content") for turn in turns if turn.get("role") == "user"]
    if not questions or not isinstance(questions[0], str):
        raise AnnotationError(f"{where}: no user turn asks anything; add one with a content")
    answers = entry.get("answer", [turn for turn in turns if turn.get("role") == "assistant"])
    if not isinstance(answers, list):
        raise AnnotationError(f"{where}: answer is {answers!r:.80}; write a list of {{content, time}}")
    end = entry.get("duration")
    latest = float(end) if is_time(end) and math.isfinite(end) else math.inf
    read = (_gold(answer, latest, f"{where}, gold answer {number}") for number, answer in enumerate(answers))
    return Asked(id_of(entry, where), questions[0], tuple(read))


def _gold(answer: Any, latest: float, where: str) -> GoldAnswer:
    text = answer.get("content") if isinstance(answer, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise AnnotationError(f"{where}: content is {text!r}; a gold answer needs a text")
    names = ("related_timespan", "timespan", "time", "reply_timespan")
    name = next((name for name in names if name in answer), None)
    if name is None:
        raise AnnotationError(f"{where} has no span; add time: [start, end] in seconds")
    span = span_of(answer[name], where)
    if "reply_timespan" in answer:
        return GoldAnswer(text, span, span_of(answer["reply_timespan"], where))
    return GoldAnswer(text, span, (span[0], max(span[1], min(span[1] + REPLY_GRACE, latest))))
