"""Read test sets: the videos and queries to predict, and the questions with their gold answers.

MMDuet's form, which ``mmduet scenes`` writes too: ``[{question_id, video, conversation: [{role, content, time}], answer:
[{content, time: [start, end]}]}]``. ProactiveVideoQA gives answers as ``{content, related_timespan, reply_timespan}``; answers
may also be assistant turns with a ``timespan`` in the conversation. QVHighlights' annotation lines name videos and queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmduet.annotations.json_files import check_unique_ids, read_json_list, read_json_rows, rows_by_id
from mmduet.annotations.json_values import (
    InvalidValueError,
    Json,
    annotation_errors,
    as_id,
    as_objects,
    as_span,
    finite_number,
    get_field,
    list_field,
    number_field,
    text_field,
    value_errors,
)
from mmduet.events import Query
from mmduet.spans import Span

REPLY_GRACE_SECONDS = 1.0  # after an event a reply still counts, as in ProactiveVideoQA's data


@dataclass(frozen=True)
class Example:
    """One entry of a test set: a video and the user turns in it.

    ``question_id`` is kept as the file has it, because scorers join on it. ``needs_prompt``: the query is only what to look
    for, without an instruction.
    """

    question_id: str | int
    video: str
    queries: tuple[Query, ...]
    needs_prompt: bool = False


@dataclass(frozen=True)
class GoldAnswer:
    """The expected reply to the event at ``span``; a reply within ``window`` is in time."""

    text: str
    span: Span
    window: Span


@dataclass(frozen=True)
class AnnotatedQuestion:
    """A question with its gold answers."""

    id: str
    question: str
    answers: tuple[GoldAnswer, ...]


def read_test_set(path: str | Path) -> list[Example]:
    """Return the entries of a test set in MMDuet's form, or of QVHighlights' annotation lines (``.jsonl``).

    Raises ``AnnotationError`` naming the entry.
    """
    path = Path(path)
    entries: list[Json]
    parse: Callable[[Json], Example]
    if path.suffix == ".jsonl":
        entries, parse = read_json_rows(path, allow_empty=True), _parse_qvhighlights_line
    else:
        entries, parse = read_json_list(path, allow_empty=True), _parse_example
    examples = []
    for i, entry in enumerate(entries):
        with annotation_errors(f"{path}, entry {i}"):
            examples.append(parse(entry))
    check_unique_ids((str(example.question_id) for example in examples), path)
    return examples


def read_questions(path: Path) -> dict[str, AnnotatedQuestion]:
    """Return the questions of a test set in MMDuet's or ProactiveVideoQA's form, by id.

    Raises ``AnnotationError`` naming the entry.
    """
    questions = {}
    for question_id, entry in rows_by_id(read_json_list(path), path, "question_id").items():
        with annotation_errors(f"{path}, question_id {question_id!r}"):
            questions[question_id] = _parse_question(question_id, entry)
    return questions


def _parse_qvhighlights_line(row: Json) -> Example:
    qid, video = get_field(row, "qid"), text_field(row, "vid")
    as_id(qid, "qid")
    file = video if Path(video).suffix == ".mp4" else f"{video}.mp4"  # QVHighlights omits the suffix
    return Example(qid, file, (Query(text_field(row, "query")),), needs_prompt=True)


def _parse_example(entry: Json) -> Example:
    question_id = get_field(entry, "question_id")
    as_id(question_id, "question_id")
    return Example(question_id, text_field(entry, "video"), tuple(_parse_queries(entry)))


def _parse_queries(entry: Json) -> list[Query]:
    """Return the user turns of an entry's conversation."""
    turns = as_objects(get_field(entry, "conversation"), "conversation")
    queries = []
    for i, turn in enumerate(turns):
        with value_errors(f"turn {i}"):
            if get_field(turn, "role") == "user":
                queries.append(Query(text_field(turn, "content"), number_field(turn, "time")))
    return queries


def _parse_question(question_id: str, entry: Json) -> AnnotatedQuestion:
    queries = _parse_queries(entry)
    if not queries:
        raise InvalidValueError("the conversation has no user turn; add one with the question")
    turns = [turn for turn in entry["conversation"] if turn["role"] == "assistant"]
    answers = list_field(entry, "answer") if "answer" in entry else turns
    duration = finite_number(entry.get("duration"))
    return AnnotatedQuestion(
        question_id, queries[0].text, tuple(_parse_answers(answers, math.inf if duration is None else duration))
    )


def _parse_answers(answers: Sequence[Any], duration: float) -> Iterator[GoldAnswer]:
    for i, answer in enumerate(answers):
        with value_errors(f"gold answer {i}"):
            yield _parse_answer(answer, duration)


def _parse_answer(answer: object, duration: float) -> GoldAnswer:
    text = text_field(answer, "content")
    if not text.strip():
        raise InvalidValueError(f"content is {text!r}, expected a text with words")
    span = as_span(get_field(answer, "related_timespan", "timespan", "time", "reply_timespan"), "the time span")
    if isinstance(answer, dict) and "reply_timespan" in answer:
        return GoldAnswer(text, span, as_span(answer["reply_timespan"], "reply_timespan"))
    last = max(span.end, min(span.end + REPLY_GRACE_SECONDS, duration))
    return GoldAnswer(text, span, Span(span.start, last))
