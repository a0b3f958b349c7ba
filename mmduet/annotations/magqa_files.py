"""Read the intermediate files of MMDuet's MAGQA evaluator: prediction lines with gold spans and a judge's grades."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmduet.annotations.json_values import InvalidValueError, Json, annotation_errors, as_span, list_field
from mmduet.annotations.test_sets import AnnotatedQuestion, GoldAnswer


def has_grades(row: Json) -> bool:
    """Return whether a prediction line holds the grades of MMDuet's evaluator."""
    return "evaluator_output" in row


def parse_graded_questions(rows: Mapping[str, Json], path: Path) -> dict[str, AnnotatedQuestion]:
    """Return the gold spans that MMDuet's evaluator writes beside its grades, as questions without texts.

    Raises ``AnnotationError`` for a line without them.
    """
    questions = {}
    for question_id, row in rows.items():
        with annotation_errors(f"{path}, question_id {question_id!r}"):
            questions[question_id] = _parse_graded_question(question_id, row)
    return questions


def _parse_graded_question(question_id: str, row: Json) -> AnnotatedQuestion:
    if not has_grades(row) or not isinstance(row.get("answer_time"), list):
        raise InvalidValueError("there are no gold answers (answer_time, evaluator_output); give the annotations")
    spans = [as_span(span, f"answer_time {i}") for i, span in enumerate(list_field(row, "answer_time"))]
    return AnnotatedQuestion(question_id, "", tuple(GoldAnswer("", span, span) for span in spans))
