"""Read gold spans and predictions of temporal grounding, in each of the forms that the field uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmduet.annotations.json_files import as_rows, read_json_content, rows_by_id
from mmduet.annotations.json_values import InvalidValueError, Json, annotation_errors, as_spans, get_field
from mmduet.annotations.prediction_lines import has_frame_scores
from mmduet.errors import AnnotationError
from mmduet.spans import Span

PredictionForm = Literal["segments", "frames", "text"]


@dataclass(frozen=True)
class GroundingQuery:
    """A query's id, as the annotations have it, and its gold spans: at least one."""

    id: str | int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class GroundingPredictions:
    """Prediction rows by id, all of one form."""

    form: PredictionForm
    rows: dict[str, Any]


def read_queries(path: Path) -> dict[str, GroundingQuery]:
    """Return the annotated queries by id, in the order of the file.

    Read are TimeChat's Charades-STA ``{"annotations": [{id, timestamp: [start, end]}, ...]}`` and MMDuet's test sets
    ``[{question_id, timestamps: [[start, end], ...]}, ...]``. Raises ``AnnotationError`` naming the query.
    """
    content = as_rows(read_json_content(path), "question_id")
    if isinstance(content, list):
        rows, id_field = content, "question_id"
    elif isinstance(content.get("annotations"), list):
        rows, id_field = content["annotations"], "id"
    else:
        raise AnnotationError(
            f"{path} has neither a list of question_id and timestamps nor annotations of id and timestamp; "
            "check that it is the annotation file"
        )
    queries = {}
    for key, row in rows_by_id(rows, path, id_field).items():
        with annotation_errors(f"{path}, query {key}"):
            queries[key] = GroundingQuery(row[id_field], _parse_gold_spans(row, id_field))
    if not queries:
        raise AnnotationError(f"{path} has no queries; check that it is the annotation file")
    return queries


def _parse_gold_spans(row: Json, id_field: str) -> tuple[Span, ...]:
    value = get_field(row, "timestamps") if id_field == "question_id" else [get_field(row, "timestamp")]
    if not (spans := as_spans(value, "gold spans")):
        raise InvalidValueError("there is no gold span; add one, or leave the query out")
    return spans


def read_predictions(path: Path, form: PredictionForm | None = None) -> GroundingPredictions:
    """Return the predictions of ``form`` (None: detected from the content).

    Read are TimeChat's ``{id: {timestamp: [[start, end], ...]}}`` (segments), and MMDuet's prediction lines with scores in
    ``debug_data`` (frames) or with replies (text). Raises ``AnnotationError``.
    """
    content = as_rows(read_json_content(path), "question_id")
    if isinstance(content, dict):
        _check_segments(content, path)
        predictions = GroundingPredictions("segments", content)
    else:
        rows = rows_by_id(content, path, "question_id")
        detected = form if form in ("frames", "text") else _detect_form(list(rows.values()), path)
        predictions = GroundingPredictions(detected, rows)
    if form is not None and predictions.form != form:
        raise AnnotationError(f"{path} has predictions of the form {predictions.form}, not {form}; give that form")
    return predictions


def _check_segments(content: Mapping[str, object], path: Path) -> None:
    if not any(isinstance(row, dict) and "timestamp" in row for row in content.values()):
        raise AnnotationError(
            f"{path} has neither {{id: {{timestamp}}}} nor lines with question_id; check that it holds predictions"
        )


def _detect_form(rows: Sequence[Json], path: Path) -> PredictionForm:
    if any(has_frame_scores(row, "relevance_score") for row in rows):
        return "frames"
    if any("model_response_list" in row or "model_response" in row for row in rows):
        return "text"
    raise AnnotationError(
        f"{path}: no entry has relevance scores in debug_data or a model_response_list; check that it holds predictions"
    )


def parse_first_segment(row: object) -> Span | None:
    """Return the first segment of TimeChat's ``{"timestamp": [[start, end], ...]}``, or None for an empty list.

    A segment may end before it starts. Raises ``InvalidValueError``.
    """
    segments = as_spans(get_field(row, "timestamp"), "segments", allow_reversed=True)
    return segments[0] if segments else None
