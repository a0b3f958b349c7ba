"""Reads the files of temporal grounding: gold spans and predictions, each in the forms that the field uses; scores nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmduet.annotations.prediction_rows import (
    UnusableError,
    has_frame_scores,
    number,
    numbers,
    rows_by_id,
    shown,
)
from mmduet.errors import AnnotationError
from mmduet.evaluation.report import Json
from mmduet.files import parsed, read_json, read_json_lines, read_text
from mmduet.metrics.spans import Span

Form = Literal["segments", "frames", "text"]


@dataclass(frozen=True)
class Gold:
    """A query's id, as the annotations write it, and its spans in seconds: at least one."""

    id: str | int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Predictions:
    """Rows by id, all of one form."""

    form: Form
    rows: dict[str, Any]


def read_gold(path: Path) -> dict[str, Gold]:
    """Gold by id, in the order of the file; raises ``AnnotationError`` for anything that cannot be used.

    Read are TimeChat's Charades-STA ``{"annotations": [{id, timestamp: [s, e]}, ...]}`` and MMDuet's test sets
    ``[{question_id, timestamps: [[s, e], ...]}, ...]``.
    """
    content = read_json(path, object)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        rows = rows_by_id(content["annotations"], "id", path)
        return {key: Gold(row["id"], _spans(path, key, [row.get("timestamp")])) for key, row in rows.items()}
    if isinstance(content, list):
        rows = rows_by_id(content, "question_id", path)
        return {key: Gold(row["question_id"], _spans(path, key, row.get("timestamps"))) for key, row in rows.items()}
    raise AnnotationError(
        f"{path} holds neither a list of question_id and timestamps nor annotations of id and timestamp; "
        "is it the annotation file?"
    )


def _spans(path: Path, key: str, value: object) -> tuple[Span, ...]:
    try:
        found = spans(value, "gold spans")
    except UnusableError as error:
        raise AnnotationError(f"{path}: query {key}: {error}; correct the annotation") from None
    backwards = [span for span in found if span[1] < span[0]]
    if backwards or not found:
        told = f"span {list(backwards[0])} ends before it starts" if backwards else "it has no span"
        raise AnnotationError(f"{path}: query {key}: {told}; correct the annotation or leave the query out")
    return found


def spans(value: object, what: str) -> tuple[Span, ...]:
    """``[[start, end], ...]`` of finite numbers; raises ``UnusableError``."""
    if not isinstance(value, list):
        raise UnusableError(f"{what} are {shown(value)}, not a list of [start, end]")
    pairs = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise UnusableError(f"{what} hold {shown(pair)}, not [start, end]")
        start, end = numbers(pair, what)
        pairs.append((start, end))
    return tuple(pairs)


def read_predictions(path: Path, form: Form | None) -> Predictions:
    """Predictions of ``form``, None: told from their content; raises ``AnnotationError``.

    Read are TimeChat's ``{id: {timestamp: [[s, e], ...]}}`` (segments) and one JSON object a line with ``question_id``: with
    ``debug_data`` (frames) or replies (text).
    """
    content = _content(path)
    if isinstance(content, dict):
        found: Predictions = Predictions("segments", _segments(path, content))
    else:
        rows = rows_by_id(content, "question_id", path)
        found = Predictions(form if form in ("frames", "text") else _form(path, list(rows.values())), rows)
    if form is not None and found.form != form:
        raise AnnotationError(f"{path} holds predictions of the form {found.form}, not {form}; ask for that form")
    return found


def _content(path: Path) -> Json | list[Json]:
    """A dict of TimeChat's form, or rows."""
    try:
        content = read_json(path, object)
    except AnnotationError:
        return read_json_lines(path)  # names the line at fault
    if isinstance(content, dict):
        return [content] if "question_id" in content else content
    if isinstance(content, list):
        return content
    raise AnnotationError(f"{path} holds {shown(content)}, no predictions; is it of another format?")


def _segments(path: Path, content: Json) -> Json:
    if not content:
        raise AnnotationError(f"{path} is empty; give a file with one prediction for each query")
    if not any(isinstance(row, dict) and "timestamp" in row for row in content.values()):
        raise AnnotationError(
            f"{path} holds neither {{id: {{timestamp}}}} nor lines with question_id; is it predictions?"
        )
    parsed(read_text(path), str(path), lambda pairs: _no_twins(path, pairs))
    return content


def _no_twins(path: Path, pairs: Sequence[tuple[str, object]]) -> None:
    """JSON readers keep the last of two equal keys without a word."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise AnnotationError(f"{path}: {key} is there twice; keep one of them")
        seen.add(key)


def _form(path: Path, rows: Sequence[Json]) -> Form:
    if any(map(has_frame_scores, rows)):
        return "frames"
    if any("model_response_list" in row or "model_response" in row for row in rows):
        return "text"
    raise AnnotationError(
        f"{path}: no entry has relevance scores in debug_data or a model_response_list; is it predictions?"
    )


def first_segment(row: object) -> Span | None:
    """The first segment of TimeChat's ``{"timestamp": [[s, e], ...]}``, None where there is none; raises ``UnusableError``."""
    if not isinstance(row, dict) or "timestamp" not in row:
        raise UnusableError(f"the prediction is {shown(row)}, without a timestamp")
    found = spans(row["timestamp"], "segments")
    return found[0] if found else None


def answer_text(row: Json) -> str:
    """What the model answered: the texts of its turns in ``model_response_list``, joined; raises ``UnusableError``.

    ``model_response``, a text or a list that starts with one, is what the baselines' own files hold.
    """
    if "model_response_list" not in row:
        answer = row.get("model_response")
        answer = answer[0] if isinstance(answer, list) and answer else answer
        if not isinstance(answer, str):
            raise UnusableError(f"model_response is {shown(answer)}, not a text")
        return answer
    turns = row["model_response_list"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UnusableError(f"model_response_list is {shown(turns)}, not a list of turns")
    texts = [turn.get("content") for turn in turns if turn.get("role") == "assistant"]
    if not all(isinstance(text, str) for text in texts):
        raise UnusableError("a turn's content is not a text")
    return " ".join(map(str, texts))


def video_duration(row: Json) -> float | None:
    """Seconds, None where the row does not tell them; raises ``UnusableError`` for what is no length."""
    value = row.get("video_duration")
    if value is None:
        return None
    duration = number(value)
    if duration is None or duration < 0:
        raise UnusableError(f"video_duration is {shown(value)}, not a length in seconds")
    return duration
